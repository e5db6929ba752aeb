"""Our three tables: merges (what was asked, and how far it is), accounts (leases and survivors).

Rows are written by conditional writes only, read with SERIAL consistency; every method may be repeated. The third
table, log, is in log.py.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from itertools import islice
from typing import Any

from cassandra import ConsistencyLevel, InvalidRequest
from cassandra.protocol import ConfigurationException, SyntaxException
from cassandra.query import PreparedStatement

from account_merge.errors import MergeError, NeedsAttention
from account_merge.model import Merge, MergeRequest
from account_merge.requests import options_of, tenant_of
from account_merge.settings import Settings
from account_merge.states import CLOSED, allowed
from account_merge.store import DRIVER_ERRORS, unavailable

SAI = " USING 'sai'"


class Cas:
    """Prepared statements on the journal's keyspace: conditional writes and SERIAL reads."""

    def __init__(self, session: Any, settings: Settings) -> None:
        self.session = session
        self.settings = settings
        self.keyspace = f'"{settings.journal_keyspace}"'
        self._prepared: dict[tuple[str, bool], PreparedStatement] = {}

    def _prepare(self, cql: str, serial: bool) -> PreparedStatement:
        if (cql, serial) not in self._prepared:
            try:
                statement = self.session.prepare(cql.replace("{ks}", self.keyspace))
            except DRIVER_ERRORS as error:
                raise self.missing(error) from error
            statement.consistency_level = ConsistencyLevel.SERIAL if serial else ConsistencyLevel.QUORUM
            statement.serial_consistency_level = ConsistencyLevel.SERIAL
            self._prepared[cql, serial] = statement
        return self._prepared[cql, serial]

    def missing(self, error: BaseException) -> MergeError:
        """A journal that was never created has its own error; anything else is transient."""
        if type(error).__name__ == "InvalidRequest":
            return NeedsAttention(
                "NO_JOURNAL",
                f"the journal in keyspace {self.settings.journal_keyspace} does not exist or is older than this program",
                "Run `python -m account_merge create-journal` with this program's version.",
            )
        return unavailable("answer the journal", error, self.settings)

    def read(self, cql: str, values: Sequence[Any] = (), serial: bool = True) -> list[Any]:
        """Rows of a SERIAL read of one partition, or (`serial` false) of a QUORUM read."""
        return list(self.stream(cql, values, serial))

    def stream(self, cql: str, values: Sequence[Any] = (), serial: bool = True, fetch_size: int = 500) -> Iterator[Any]:
        """The same, page by page."""
        bound = self._prepare(cql, serial).bind(values)
        bound.fetch_size = fetch_size
        try:
            yield from self.session.execute(bound)
        except DRIVER_ERRORS as error:
            raise self.missing(error) from error

    def write(self, cql: str, values: Sequence[Any]) -> bool:
        """Whether a conditional write applied.

        :raises TransientError: the outcome is unknown; read again and repeat.
        """
        try:
            return bool(self.session.execute(self._prepare(cql, False), values).was_applied)
        except DRIVER_ERRORS as error:
            raise self.missing(error) from error


def now() -> datetime:
    """The present, as the driver wants it (naive UTC, whole milliseconds)."""
    moment = datetime.now(UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Journal(Cas):
    """Merges, leases and survivors."""

    def create(self) -> None:
        """Makes the keyspace and the tables where they do not exist; changes nothing that exists.

        Where the server knows no storage-attached index, a secondary one serves the searches.
        """
        options = json.dumps(dict(self.settings.journal_replication)).replace('"', "'")
        statements = [f"CREATE KEYSPACE IF NOT EXISTS {self.keyspace} WITH replication = {options}"]
        ddl = files("account_merge").joinpath("journal.cql").read_text().replace("{keyspace}", self.keyspace)
        statements += [s.strip() for s in ddl.split(";\n") if s.strip()]
        for statement in statements:
            try:
                self._define(statement)
            except DRIVER_ERRORS as error:
                raise self.missing(error) from error

    def _define(self, statement: str) -> None:
        try:
            self.session.execute(statement, timeout=60)
        except (InvalidRequest, ConfigurationException, SyntaxException):
            if not statement.endswith(SAI):
                raise
            self.session.execute(statement.removesuffix(SAI), timeout=60)

    # --- merges ---------------------------------------------------------------------------------------------------
    def open(
        self,
        merge_id: uuid.UUID,
        request: MergeRequest,
        position: str = "",
        state: str = "requested",
        error: MergeError | None = None,
        parent: uuid.UUID | None = None,
    ) -> bool:
        """Writes a merge once; False when it is already there (a redelivered event, a cleared run).

        :param parent: the merge that this one repairs.
        """
        moment = now()
        return self.write(
            "INSERT INTO {ks}.merges (merge_id, state, attempt, accounts, sources, target, tables, options, reason, "
            "requested_by, origin, mid, topic_position, raw, failed_event, failed_number, error_code, error, remedy, "
            "run_ids, parent, day, created_at, updated_at) VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, "
            "?, [], ?, ?, ?, ?) IF NOT EXISTS",
            [
                merge_id,
                state,
                {*request.sources, request.target} - {""},
                list(request.sources),
                request.target,
                list(request.tables),
                options_of(request),
                request.reason,
                request.requested_by,
                request.origin,
                request.mid,
                position,
                request.raw,
                "due" if error else "none",
                error.code if error else None,
                error.message if error else None,
                error.remedy if error else None,
                parent,
                moment.date(),
                moment,
                moment,
            ],
        )

    def get(self, merge_id: uuid.UUID) -> Merge | None:
        """A merge as it is now (SERIAL), or None."""
        rows = self.read("SELECT * FROM {ks}.merges WHERE merge_id = ?", [merge_id])
        return _merge(rows[0]) if rows and rows[0].state else None

    def need(self, merge_id: uuid.UUID) -> Merge:
        """A merge that must exist."""
        merge = self.get(merge_id)
        if merge is None:
            raise NeedsAttention(
                "UNKNOWN_MERGE",
                f"the journal has no merge {merge_id}",
                "Check the id with `python -m account_merge list`.",
            )
        return merge

    def move(self, merge: Merge, state: str, **columns: Any) -> bool:
        """One conditional write from the state that was read to another; False when somebody else was faster."""
        if state != merge.state and not allowed(merge.state, state):
            raise NeedsAttention(
                "WRONG_STATE",
                f"merge {merge.merge_id} is {merge.state} and cannot become {state}",
                "Look at the merge's report: python -m account_merge show " + str(merge.merge_id),
            )
        return self.change(merge, state=state, **columns)

    def change(self, merge: Merge, **columns: Any) -> bool:
        """Sets columns of a merge's row if its state, attempt and failed event are still those that were read."""
        columns["updated_at"] = now()
        sets = ", ".join(f"{name} = ?" for name in columns)
        return self.write(
            f"UPDATE {{ks}}.merges SET {sets} WHERE merge_id = ? IF state = ? AND attempt = ? AND failed_event = ? "
            "AND failed_number = ?",
            [*columns.values(), merge.merge_id, merge.state, merge.attempt, merge.failed_event, merge.failed_number],
        )

    def hints(self, column: str, value: Any) -> Iterator[Any]:
        """Merges by an index (see `find`), page by page and unconfirmed: enough to count them or to sort some out."""
        test = "CONTAINS" if column == "accounts" else "="
        columns = "merge_id, options, accounts, error_code, failed_at, updated_at, resume, replayed_as"
        cql = f"SELECT {columns} FROM {{ks}}.merges WHERE {column} {test} ?"
        yield from self.stream(cql, [value], serial=False)

    def find(self, column: str, value: Any, limit: int = 2000, but: Collection[str] = ()) -> list[Merge]:
        """Merges by `state`, `failed_event`, `resume`, `day` or `accounts`: hints, each confirmed by key (SERIAL).

        :param but: tenants whose merges are left out before they count towards `limit`.
        """
        rows = (row for row in self.hints(column, value) if not but or tenant_of(row.options) not in but)
        found = [m for row in islice(rows, limit) if (m := self.get(row.merge_id)) is not None]
        kept = [m for m in found if column not in ("state", "failed_event", "resume") or getattr(m, column) == value]
        return sorted(kept, key=lambda m: (m.created_at or datetime.min, str(m.merge_id)))

    def all(self, limit: int = 1000) -> list[Merge]:
        """Merges in no promised order, for listings."""
        rows = self.read(f"SELECT * FROM {{ks}}.merges LIMIT {limit}", serial=False)
        return sorted((_merge(r) for r in rows if r.state), key=lambda m: m.created_at or datetime.min)

    # --- leases and survivors -------------------------------------------------------------------------------------
    def account(self, account_id: str) -> Any:
        """The account's row (SERIAL), or None."""
        rows = self.read("SELECT * FROM {ks}.accounts WHERE account_id = ?", [account_id])
        return rows[0] if rows else None

    def holder(self, account_id: str) -> Merge | None:
        """The open merge that holds the account, or None."""
        row = self.account(account_id)
        merge = self.get(row.held_by) if row and row.held_by else None
        return merge if merge and merge.state not in CLOSED else None

    def merged_by(self, account_id: str) -> Merge | None:
        """The completed merge that merged this account away, or None."""
        row = self.account(account_id)
        if row is None:
            return None
        for merge_id, counts in ((row.held_by, row.role == "source"), (row.merged_by, True)):
            merge = self.get(merge_id) if merge_id and counts else None
            if merge and merge.state == "completed":
                return merge
        return None

    def survivor(self, account_id: str) -> str:
        """Where the account's history lives now: follows completed merges to the end of the chain."""
        seen = [account_id]
        while (merge := self.merged_by(seen[-1])) is not None:
            following = merge.survivor or merge.request.target
            if following in seen:
                raise NeedsAttention(
                    "CIRCLE",
                    f"completed merges lead from account {account_id} back to itself (merge {merge.merge_id})",
                    "Undo one of the merges of the circle.",
                )
            seen.append(following)
        return seen[-1]

    def acquire(self, account_id: str, merge_id: uuid.UUID, role: str, moves_rows: bool = True) -> Merge | None:
        """Takes the account's lease; None when it is held by `merge_id` now, else the open merge that holds it.

        :param moves_rows: the merge will move rows, so it joins what the account gave or received.
        """
        moves, this = ("gave", {merge_id}) if role == "source" else ("received", [str(merge_id)])
        this = this if moves_rows else type(this)()
        for _ in range(20):
            row = self.account(account_id)
            if row is None or row.held_by is None:
                if row is None:
                    done = self.write(
                        f"INSERT INTO {{ks}}.accounts (account_id, held_by, role, {moves}) VALUES (?, ?, ?, ?) IF NOT EXISTS",
                        [account_id, merge_id, role, this],
                    )
                else:
                    done = self.write(
                        f"UPDATE {{ks}}.accounts SET held_by = ?, role = ?, {moves} = {moves} + ? WHERE account_id = ? "
                        "IF held_by = NULL",
                        [merge_id, role, this, account_id],
                    )
                if done:
                    return None
                continue
            if row.held_by == merge_id and row.role == role:
                return None
            holder = self.get(row.held_by)
            if holder and holder.merge_id != merge_id and holder.state not in CLOSED:
                return holder
            # A completed merge that took this account away must stay known when its lease is taken over.
            took = bool(holder and holder.state == "completed" and row.role == "source" and holder.merge_id != merge_id)
            if self.write(
                f"UPDATE {{ks}}.accounts SET held_by = ?, role = ?, merged_by = ?, {moves} = {moves} + ? "
                "WHERE account_id = ? IF held_by = ?",
                [merge_id, role, row.held_by if took else row.merged_by, this, account_id, row.held_by],
            ):
                return None
        raise NeedsAttention(
            "LEASE_CONTENDED", f"the lease of account {account_id} keeps changing hands", "Start the merge again later."
        )

    def release(self, account_id: str, merge_id: uuid.UUID) -> None:
        """Gives the lease back, if this merge has it."""
        self.write(
            "UPDATE {ks}.accounts SET held_by = NULL, role = NULL WHERE account_id = ? IF held_by = ?",
            [account_id, merge_id],
        )

    def gave(self, account_id: str) -> frozenset[uuid.UUID]:
        """Every merge that this account was a source of."""
        row = self.account(account_id)
        return frozenset((row.gave or ()) if row else ())

    def received(self, account_id: str) -> tuple[str, ...]:
        """What wrote to this account's rows as a target, in order: merge ids, and undos as `undo-1/<merge id>`."""
        row = self.account(account_id)
        names = (row.received or ()) if row else ()
        return tuple(dict.fromkeys(reversed(names)))[::-1]  # one that was blocked at first counts where it got through

    def merges_into(self, account_id: str) -> tuple[uuid.UUID, ...]:
        """Every merge that this account was the target of, in order."""
        return tuple(uuid.UUID(name) for name in self.received(account_id) if "/" not in name)

    def receive(self, account_id: str, merge_id: uuid.UUID, name: str) -> bool:
        """Puts an undo behind all that the account received; False when the account is not held by this merge."""
        if name in self.received(account_id):
            return True
        return self.write(
            "UPDATE {ks}.accounts SET received = received + ? WHERE account_id = ? IF held_by = ?",
            [[name], account_id, merge_id],
        )


def _merge(row: Any) -> Merge:
    options: Mapping[str, str] = row.options or {}
    request = MergeRequest(
        tuple(row.sources or ()),
        row.target or "",
        tuple(row.tables or ()),
        options.get("on_conflict", "combine"),
        options.get("source_rows", "keep"),
        options.get("dry_run") == "true",
        row.reason or "",
        row.requested_by or "",
        row.origin or "",
        row.mid,
        row.raw,
        tenant_of(options),
    )
    return Merge(
        row.merge_id,
        row.state,
        row.attempt or 0,
        request,
        row.survivor,
        row.waiting_for,
        row.waiting_holder,
        row.error_code,
        row.error,
        row.remedy,
        row.failed_event or "none",
        row.failed_number or 1,
        row.failed_at,
        dict(row.failed_offsets or {}),
        tuple(row.run_ids or ()),
        row.sync_sent,
        row.rules_hash,
        row.created_at,
        row.updated_at,
        row.note,
        row.resume,
        row.operation,
        row.parent,
        row.replayed_as,
    )
