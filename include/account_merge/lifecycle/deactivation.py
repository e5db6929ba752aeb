"""Source accounts deactivated after a merge, as the platform's user service does it, and reactivated by its undo.

The account's row is changed through a log of its own (`user/<account>`), so it is as repeatable, auditable and undoable as
any row of a merge; the rows of user_lookup follow from the row as it was before, which the log has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from account_merge.engine.history import AccountHistory, HistoryLog
from account_merge.engine.resources import Guard, Resources, TableJob
from account_merge.engine.table_undo import TableUndo
from account_merge.engine.table_work import Planned, TableWork
from account_merge.journal.encoding import Codec
from account_merge.journal.log import Log
from account_merge.journal.merges import CHILDREN
from account_merge.lifecycle.guards import still
from account_merge.model import Change, Key, Merge, Write
from account_merge.rules import Scope, TableRule
from account_merge.sunbird.schema import Tables, TableSchema
from account_merge.sunbird.users import LOOKED_UP, PlatformDirectory, no_directory

#: The account itself is not merged, so RULES does not have it; an undo reads the columns' strategies from here.
ACCOUNT = TableRule(
    "user",
    user="id",
    key=(),
    why="A source account is deactivated when that is asked for: it cannot be signed in to, and its names are free.",
    columns={},
    scope=Scope("account", ("id",)),
    keyspace="users",
)
_GONE = ("email", "phone", "username")
_KEPT = {"prevusedemail": "email", "prevusedphone": "phone"}
_WRITTEN = {"status", "isdeleted", "updateddate", *_GONE, *_KEPT}
_WHY = "the source account is deactivated after its merge, as asked"


class Deactivation:
    """Deactivates the source accounts of a merge, and gives them back.

    :param look: says how this cluster has the table `user`, None when it has none; asked only for a merge that deactivates.
    """

    def __init__(
        self, resources: Resources, look: Callable[[], TableSchema | None], directory: PlatformDirectory
    ) -> None:
        self._rules_tables, self._look, self._directory = resources, look, directory
        self._journal, self._settings = resources.journal, resources.settings

    @cached_property
    def _schema(self) -> TableSchema | None:
        return self._look()

    @cached_property
    def _resources(self) -> Resources:
        return replace(self._rules_tables, tables=self.tables)

    @cached_property
    def tables(self) -> Tables:
        """The account's table with the columns that are written: no other value of the person gets into the journal.

        :raises NeedsAttention: this cluster has no such table.
        """
        if self._schema is None:
            raise no_directory(self._settings)
        columns = {name: column for name, column in self._schema.columns.items() if name in _WRITTEN}
        written = replace(self._schema, columns=columns)
        return Tables(lambda: {ACCOUNT.table: written})

    @staticmethod
    def accounts(merge: Merge) -> tuple[str, ...]:
        """Return the accounts that this merge deactivates; a repair or settle deactivates none."""
        asked = merge.request.deactivate_sources and merge.request.origin not in CHILDREN
        return tuple(sorted(merge.request.sources)) if asked else ()

    def check(self, merge: Merge) -> None:
        """Check that accounts can be deactivated here, before the merge writes anything.

        :raises NeedsAttention: this cluster has no users.
        """
        if self.accounts(merge):
            _ = self.tables

    def run(self, merge: Merge, guard: Guard | None = None, operation: str = "") -> None:
        """Deactivate the accounts; may be repeated.

        :param guard: asked before anything is written, instead of whether the merge is running.
        :param operation: the redo that it belongs to.
        """
        job = TableJob(
            merge, ACCOUNT, guard or still(self._journal, merge, "no account is deactivated", stoppable=False)
        )
        for account in self.accounts(merge):
            work = _Deactivate(self._resources, job, account, account_log(account, operation))
            work.run()
            self._directory.free(account, *_names(work.log))

    def take_back(self, merge: Merge, guard: Guard) -> list[str]:
        """Reactivate the accounts and return notes on what could not be given back; may be repeated.

        Later changes of the platform stay. What the platform removed elsewhere (identity provider, search) stays removed.
        """
        notes = []
        for account in self.accounts(merge):
            operations = list(self._operations(merge, account))
            done = [account_log(account), *(log.table for log in operations)]
            first = Log(self._journal, merge.merge_id, account_log(account), Codec(self.schema()))
            first.close()  # a worker that was stopped before it wrote the entry is too late now
            own = account_log(account, merge.operation or "undo-1")
            logs = [HistoryLog(merge.merge_id, name, brings=False) for name in done if name != own]
            past = AccountHistory(account, logs, frozenset(), of=frozenset({merge.merge_id}))
            TableUndo(self._resources, TableJob(merge, ACCOUNT, guard), past, own).run()
            names, _ = _names(first)
            newest = max(_names(log)[1] for log in (first, *operations) if log.table != own)  # a redo freed them again
            taken = self._directory.give_back(account, names, newest)
            notes += [f"the {kind} of account {account} leads to another account by now" for kind in taken]
        return notes

    def logs(self, merge: Merge) -> Iterator[Log]:
        """Yield the logs of the merge's deactivations, undos and redos: they hold addresses and names of people."""
        accounts = self.accounts(merge)
        for account in accounts if accounts and self._schema is not None else ():
            yield Log(self._journal, merge.merge_id, account_log(account), Codec(self.tables.schemas[ACCOUNT.table]))
            yield from self._operations(merge, account)

    def schema(self) -> TableSchema:
        """Return the table that the logs are about."""
        return self.tables.schemas[ACCOUNT.table]

    def _operations(self, merge: Merge, account: str) -> Iterator[Log]:
        target = merge.target
        names = (name.rpartition("/") for name in self._journal.received(target))
        for operation, _, merge_id in names:
            if operation and merge_id == str(merge.merge_id):
                yield Log(self._journal, merge.merge_id, account_log(account, operation), Codec(self.schema()))


class _Deactivate(TableWork):
    """Deactivation of one account, as the user service does it: its row inactive and deleted, address, phone and name free."""

    def plan(self, after: Key | None = None) -> Iterator[Planned]:
        """Yield one change, if the account is not deactivated yet."""
        row = self._store.rows_by_key(self._schema, self.account, [()]).get(())
        if after is not None or row is None or row.values.get("isdeleted"):
            return
        to: dict[str, Any] = {"status": 0, "isdeleted": True, "updateddate": _now(), **dict.fromkeys(_GONE)}
        to |= {kept: row.values[column] for kept, column in _KEPT.items() if column in row.values}
        writes = {
            column: Write(value, max(row.base, row.written.get(column, 0) + 1))
            for column, value in to.items()
            if column in self._schema.columns and row.values.get(column) != value
        }
        yield Change((), {}, row.values, writes, 0, dict.fromkeys(writes, _WHY), {}), row.base

    def reread(self, entry: Any, sent: float) -> tuple[list[Change], int]:
        """Fold in nothing: an account that the platform activates again stays active."""
        return [], 0


def account_log(account: str, operation: str = "") -> str:
    """Return the name of the log of one account's deactivation, or of its undo or redo."""
    name = f"{ACCOUNT.table}/{account}"
    return f"{operation}/{name}" if operation else name


def _names(log: Log) -> tuple[Mapping[str, str], int]:
    """Return type -> value of each row of user_lookup that led to the account, and the newest time (µs) of such a row."""
    change = next((change for entry in log.entries() for change in entry.changes), None)
    before = (change and change.before) or {}
    newest = max((write.timestamp for write in change.writes.values()), default=0) if change else 0
    # The platform writes the two tables one after the other.
    return {kind: before[column] for kind, column in LOOKED_UP.items() if before.get(column)}, newest + 1_000_000


def _now() -> str:
    """Return the present as the user service writes it: 2022-03-01 10:15:30:123+0000."""
    moment = datetime.now(UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}:{moment.microsecond // 1000:03}+0000"
