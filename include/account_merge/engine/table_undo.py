"""The plan of an undo for one table: each row that the merge touched, rebuilt without it (or, for a redo, with it).

It is journaled like a merge, in a log of its own (`undo-1/<table>`): it may be repeated, and can itself be undone.
"""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any

from account_merge.choices import TARGET
from account_merge.connection.batches import batched
from account_merge.engine.evidence import EvidenceReader
from account_merge.engine.history import AccountHistory
from account_merge.engine.resources import Resources, TableJob
from account_merge.engine.steps import steps_of
from account_merge.engine.table_work import Planned, TableWork
from account_merge.engine.unknown_writes import marks_of
from account_merge.engine.verify import floor_of
from account_merge.engine.view import NOTHING_UNDERWAY, View
from account_merge.journal.encoding import Codec
from account_merge.journal.ledger import Ledger, LedgerMerges
from account_merge.journal.log import LIST_ATTEMPTS, Log
from account_merge.model import Change, Entry, Key, Row, Values, Write
from account_merge.planning.lifetimes import Side, restored
from account_merge.planning.lost_updates import lost_since, lost_updates, still_holds
from account_merge.planning.rebuild import AppliedChange, Effective, rebuild, rederived
from account_merge.planning.row_change import change_to
from account_merge.planning.write_times import above, ahead
from account_merge.rules import TableRule, rule_for
from account_merge.rules.evidence import Evidence
from account_merge.sunbird.schema import TableSchema

_BELOW_MERGES = 2  # marks that merges use


class TableUndo(TableWork):
    """The undo or redo of one table: it brings the merge's rows to what they are with only the effective merges."""

    def __init__(self, resources: Resources, job: TableJob, past: AccountHistory, log_name: str) -> None:
        super().__init__(resources, job, past.account, log_name)
        self._past = past
        self._why = "the merge is undone" if job.merge.merge_id not in past.effective else "the merge stands again"
        self.found = resources.finder(past.accounts)
        #: The same undo's or redo's changes of the tables before this one.
        self.underway = NOTHING_UNDERWAY

    def _steps(self, begun: bool = True) -> Iterator[tuple[Key, list[AppliedChange]]]:
        """Yield the steps of each row that this merge touched, or that follows from rows that it touched; in key order.

        A row that the platform made since has no steps: it follows from rows of other tables as the merge left them.

        :param begun: this undo's or redo's own log may hold entries.
        """
        moved = self._moved
        follow = ((key, list[AppliedChange]()) for key in sorted(filter(None, map(self._key_of, moved))))
        done = (
            (key, steps) for key, steps in steps_of(self._journal, self._codec, self._past, None if begun else self.log)
        )
        merged = heapq.merge(done, follow, key=lambda item: item[0])  # of one key, what was done comes first
        for key, group in groupby(merged, key=lambda item: item[0]):
            _, steps = next(group)
            if not steps or any(step.of in self._past.of for step in steps) or self._scope(self._rule, key) in moved:
                yield key, steps

    def _key_of(self, scope: tuple[Any, ...] | None) -> Key | None:
        """Return the key of the only row that can lie in a scope; None where the scope does not decide it."""
        known = self._rule.scope.bind(scope) if scope is not None else {}
        return tuple(known[c] for c in self._rule.key) if known.keys() >= set(self._rule.key) else None

    @cached_property
    def _moved(self) -> frozenset[Any]:
        """Scopes in which the merge wrote rows that this table's rows follow from; its logs are read once."""
        tables = map(rule_for, sorted({look.table for look in self._rule.lookups}))
        others = [(rule, schema) for rule in tables if (schema := self._tables.of(rule)) is not None]
        return frozenset(
            self._scope(other, change.key)
            for other, schema in others
            for merge in sorted(self._past.of)
            for entry in self._log_of(merge, other, schema).entries()
            for change in entry.changes
            if change.writes or change.create_at
        )

    def _log_of(self, merge: uuid.UUID, other: TableRule, schema: TableSchema) -> Log:
        known = self._known if merge == self._merge.merge_id else None
        return Log(self._journal, merge, other.table, Codec(schema), known.closed.get(other.table) if known else None)

    def _scope(self, rule: TableRule, key: Key) -> tuple[Any, ...] | None:
        """Return the scope in which a row meets this table's rows; None where each of these holds many."""
        return None if self._rule.holds_scopes else rule.scope_of(key)

    def plan(self, after: Key | None = None) -> Iterator[Planned]:
        """Yield a change for each row that the merge touched; this is also the preview.

        Rows are read by the steps' own keys: scopes do not lead to a row whose enrolment, say, this very undo takes away.
        """
        replay, marks, turn = self._replay(), marks_of(self._resources), 0
        behind = ((key, steps) for key, steps in self._steps(after is not None) if after is None or key > after)
        for batch in batched(behind, self._settings.entry_rows):
            read = self._store.safe_timestamp()
            rows = self._store.rows_by_key(self._schema, self.account, [key for key, _ in batch])
            for key, steps in batch:
                # Below the marks of merges: what deletes a row is older than what the next merge puts there.
                row, base = rows.get(key), marks.below(read, _BELOW_MERGES + turn % 2)
                lost, notes = lost_since(self._rule, steps, row, self._settings)
                change = replay(key, steps, row, base, lost, notes)
                if steps or change.writes:
                    yield change, base
                    turn += 1

    def _replay(self) -> Callable[..., Change]:
        """Return, for one sweep in key order, (key, steps, row, base) -> the change that brings the row to rest."""
        lookups = EvidenceReader(
            self.found, self._journal, self._tables, self._rule, self._past.merges_into, self.underway
        )
        views, alone = self._past.views, View((), self.account)
        withdrawn = self._past.withdrawn
        elsewhere = LedgerMerges(self._past.elsewhere | withdrawn, withdrawn=withdrawn)
        ledger = Ledger(self._journal, elsewhere, self._past.sources, self._rule.table, self._codec)

        def replay(
            key: Key, steps: Sequence[AppliedChange], row: Row | None, base: int,
            lost: frozenset[str] = frozenset(), notes: tuple[str, ...] = (),
        ) -> Change:  # fmt: skip
            now = row.values if row else None

            def shown(merge: uuid.UUID | None) -> Evidence:
                return lookups.at(views[merge] if merge else alone, key)

            if not steps:
                to = rederived(self._rule, self.account, now, shown(None))
                return self._codec.fitted(above(change_to(key, now, to, lambda column: base, {}, self._why), row, base))
            effective, unheard = self._past.effective.__contains__, self._unheard(steps, row)
            handed = {account: one.given for account, one in ledger.at(key).items()}
            # A row that the merge did not touch, and that follows from rows that it did, the platform wrote since.
            since = next((n for n, step in enumerate(steps) if step.merge in self._past.of), -1)
            counted = Effective(effective, handed, shown, lost | unheard, since)
            to = rebuild(self._rule, steps, now, self.account, counted).row

            def at(column: str) -> int:
                ours = max(_newest(step.change, column, base) for step in steps)
                return max(base, ours + LIST_ATTEMPTS + 1)

            change = change_to(key, now, to, at, self._also(steps), self._why)
            left = steps[-1].change.after or {}
            change = restored(change, _sides(steps, effective), left, row)
            change = self._codec.fitted(above(change, row, base, floor_of(step.change for step in steps)))
            return change._replace(notes=(*notes, *_kept(steps[-1].change.after, now, unheard)), unseen=lost)

        return replay

    def _unheard(self, steps: Sequence[AppliedChange], row: Row | None) -> frozenset[str]:
        """Return columns whose last write of ours never reached the row: a crash between logging and writing."""
        change = steps[-1].change
        if row is None:
            return frozenset()
        return frozenset(
            column
            for column, write in change.writes.items()
            if (
                not _arrived(row, column, write)
                if self._schema.columns[column].write_time
                else row.values.get(column) == (change.before or {}).get(column)
            )
        )

    def _also(self, steps: Sequence[AppliedChange]) -> dict[str, frozenset[Any]]:
        """Return the columns that the merge put, with the elements: its own writes that are still under way must lose."""
        if self._merge.merge_id in self._past.effective:
            return {}
        put: dict[str, frozenset[Any]] = {}
        for step in steps:
            for column, write in step.change.writes.items() if step.of in self._past.of else ():
                elements = write.value if self._schema.columns[column].kind in ("map", "set") else ()
                put[column] = put.get(column, frozenset()) | frozenset(elements or ())
        return put

    def reread(self, entry: Entry, sent: float) -> tuple[list[Change], int]:
        """Rebuild the rows that the platform wrote since."""
        wrote = {c.key: c for c in entry.changes if c.writes or c.create_at or c.delete_at}
        if not wrote:
            return [], 0
        base = self._store.safe_timestamp()
        rows = self._store.rows_by_key(self._schema, self.account, wrote)
        dirty = {key for key, change in wrote.items() if not still_holds(self._rule, change, rows.get(key))}
        if not dirty:
            return [], 0
        replay, folds = self._replay(), []
        for key, steps in self._steps():
            if key in dirty:
                row = rows.get(key)
                lost, notes = lost_updates(self._rule, wrote[key], row, sent, self._settings)
                change = replay(key, steps, row, base, lost, notes)
                if change.after != (row.values if row else None):
                    folds.append(change)
        return folds, base


def _sides(steps: Sequence[AppliedChange], effective: Callable[[uuid.UUID], bool]) -> list[Side]:
    """Return the row before all merges and the rows that the effective merges brought, each with when its cells expire."""
    first = steps[0].change
    brought = (s.change for s in steps if s.merge is not None and effective(s.merge) and s.change.choice != TARGET)
    return [
        (first.before or {}, first.ends.get("", {})),
        *((values, one.ends.get(account, {})) for one in brought for account, values in one.sources.items()),
    ]


def _arrived(row: Row, column: str, write: Write) -> bool:
    """Whether a write of ours reached the row, or something newer did: of a map or set, any of its elements."""
    elements = row.elements.get(column)
    if elements is None or column in row.frozen or not write.value:
        return row.written.get(column, 0) >= write.timestamp
    return any(elements.get(e, 0) >= write.later.get(e, write.timestamp) for e in write.value)


def _newest(change: Change, column: str, base: int) -> int:
    """Return the highest timestamp that a change gave to a column, or to anything of the row ("") that was not ahead of the clock."""
    writes = [
        w.timestamp
        for name, w in change.writes.items()
        if column == name or (not column and not ahead(w.timestamp, base))
    ]
    return max([change.create_at, change.delete_at, *writes])


def _kept(left: Values | None, now: Values | None, unheard: frozenset[str]) -> Iterator[str]:
    """Yield the columns that the platform wrote later, for the report; a write of ours that never arrived does not count."""
    for column in sorted({*(left or {}), *(now or {})} - unheard) if now is not None else ():
        if (left or {}).get(column) != (now or {}).get(column):
            yield f"{column}: written later by the platform; what came later stays"
