"""Learners' tables: read sorted pages with write times, write absolute values at a given timestamp.

Plain statements only (a conditional write takes no timestamp). With journal.py the only module that knows the driver.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any, TypeVar

from cassandra import ConsistencyLevel, DriverException, RequestExecutionException
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    Session,
)
from cassandra.connection import ConnectionException
from cassandra.policies import DCAwareRoundRobinPolicy, FallthroughRetryPolicy, RoundRobinPolicy, TokenAwarePolicy
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, PreparedStatement

from account_merge.codec import plain
from account_merge.errors import MergeError, TransientError
from account_merge.model import Change, Key, Row
from account_merge.rules import Scope
from account_merge.schema import TableSchema
from account_merge.settings import Settings

DRIVER_ERRORS = (DriverException, RequestExecutionException, NoHostAvailable, ConnectionException, OSError)
T = TypeVar("T")
_WINDOW = 16  # requests in flight: measured best for small batches on two cores


def connect(settings: Settings) -> tuple[Cluster, Session]:
    """An open session: LOCAL_QUORUM, SERIAL for leases across data centres, token-aware, no driver retries.

    Nagle's algorithm is switched off: with it every request above 4 KiB costs 44 ms.

    :raises TransientError: no contact point answered.
    """
    policy = DCAwareRoundRobinPolicy(settings.cassandra_local_dc) if settings.cassandra_local_dc else RoundRobinPolicy()
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(policy),
        # A list written twice at one timestamp is there twice: the driver must never retry on its own.
        retry_policy=FallthroughRetryPolicy(),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        serial_consistency_level=ConsistencyLevel.SERIAL,
        request_timeout=settings.cassandra_request_timeout_seconds,
    )
    auth = (
        PlainTextAuthProvider(settings.cassandra_username, settings.cassandra_password)
        if settings.cassandra_username
        else None
    )
    cluster = Cluster(
        list(settings.cassandra_contact_points),
        port=settings.cassandra_port,
        auth_provider=auth,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        connect_timeout=settings.cassandra_request_timeout_seconds,
    )
    try:
        return cluster, cluster.connect()
    except DRIVER_ERRORS as error:
        cluster.shutdown()
        raise unavailable("connect", error, settings) from error


def unavailable(doing: str, error: BaseException, settings: Settings) -> TransientError:
    """The transient error for a driver's exception; it names the servers and never a row's value."""
    where = f"{','.join(settings.cassandra_contact_points)}:{settings.cassandra_port}"
    return TransientError(
        "CASSANDRA_UNAVAILABLE",
        f"Cassandra at {where} did not {doing}: {type(error).__name__}",
        "Nothing is lost: the same step goes on where it ended once Cassandra answers. Check it with `python -m account_merge check`.",
    )


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Neighbours in groups of at most `size` (itertools has it from Python 3.12 on)."""
    iterator = iter(items)
    while group := tuple(islice(iterator, size)):
        yield group


class Store:
    """Reads and writes one account's rows of a table. Every method raises TransientError when Cassandra is away."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self._session = session
        self._settings = settings
        self._prepared: dict[str, PreparedStatement] = {}

    def prepare(self, cql: str) -> PreparedStatement:
        """A prepared statement, made once for this session."""
        if cql not in self._prepared:
            try:
                self._prepared[cql] = self._session.prepare(cql)
            except DRIVER_ERRORS as error:
                raise unavailable("prepare a statement", error, self._settings) from error
        return self._prepared[cql]

    def base(self) -> int:
        """µs: the lower of this machine's and the server's clock, less `CLOCK_MARGIN`.

        :raises TransientError: the two clocks are too far apart to give timestamps an order.
        """
        worker = time.time() * 1000
        server = self._one("SELECT toUnixTimestamp(now()) FROM system.local")
        apart = abs(server - worker) / 1000
        if apart > self._settings.max_clock_skew_seconds:
            raise TransientError(
                "CLOCK_SKEW",
                f"this machine's clock and Cassandra's are {apart:.1f} s apart",
                "Synchronise the clocks (NTP); the task is tried again.",
            )
        return int((min(worker, server) - self._settings.clock_margin_seconds * 1000) * 1000)

    def _one(self, cql: str) -> float:
        return float(self._fetch(self.prepare(cql), ())[0][0])

    def _fetch(self, statement: Any, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            return [tuple(row) for row in self._session.execute(statement, values)]
        except DRIVER_ERRORS as error:
            raise unavailable("answer a read", error, self._settings) from error

    def _select(
        self, schema: TableSchema, restricted: Sequence[str], in_column: str | None = None
    ) -> PreparedStatement:
        columns = [f'"{c.actual}"' for c in (*schema.key.values(), *schema.columns.values())]
        # MAXWRITETIME also answers for collections; TTL() of one would end the driver's connection.
        times = [f'MAXWRITETIME("{c.actual}")' for c in schema.columns.values()]
        where = [f'"{schema.column(name).actual}" = ?' for name in restricted]
        if in_column:
            where.append(f'"{schema.column(in_column).actual}" IN ?')
        return self.prepare(
            f"SELECT {', '.join([*columns, *times])} FROM {schema.full_name} WHERE {' AND '.join(where)}"
        )

    def _row(self, schema: TableSchema, raw: tuple[Any, ...], base: int) -> Row:
        keys, columns = len(schema.key), list(schema.columns)
        cells = raw[keys : keys + len(columns)]
        times = raw[keys + len(columns) :]
        values = {c: plain(v) for c, v in zip(columns, cells, strict=True) if v is not None}
        written = {c: t for c, t in zip(columns, times, strict=True) if t is not None}
        return Row(tuple(raw[:keys]), values, written, base)

    def _pages(self, schema: TableSchema, statement: PreparedStatement, values: Sequence[Any]) -> Iterator[Row]:
        """Rows page by page; each page's rows carry a clock taken before the page was asked for."""
        wide = any(c.kind != "scalar" for c in schema.columns.values())
        bound = statement.bind(values)
        bound.fetch_size = max(1, self._settings.page_rows // 5) if wide else self._settings.page_rows
        state = None
        while True:
            base = self.base()
            try:
                result = self._session.execute(bound, paging_state=state)
                rows, state = list(result.current_rows), result.paging_state
            except DRIVER_ERRORS as error:
                raise unavailable("answer a read", error, self._settings) from error
            yield from (self._row(schema, tuple(raw), base) for raw in rows)
            if not state:
                return

    def rows(
        self, schema: TableSchema, account: str, scope: Scope | None = None, scopes: Iterable[tuple[str, str]] = ()
    ) -> Iterator[Row]:
        """An account's rows, sorted by key.

        :param scopes: sorted (course, batch) pairs that either account touched; needed where the account alone does
            not lead to its rows.
        """
        if schema.by_account:
            yield from self._pages(schema, self._select(schema, [schema.user.logical]), [account])
            return
        if schema.user.logical in schema.indexed:
            # The index also finds rows of units, which no enrolment leads to; one learner's rows of such a table are few.
            statement = self._select(schema, [schema.user.logical])
            yield from sorted(self._pages(schema, statement, [account]), key=lambda row: row.key)
            return
        if scope is None:
            raise MergeError(
                "NO_SCOPE", f"rows of {schema.full_name} cannot be found by account", "Give the rule a scope."
            )
        for known in self._places(schema, account, scope, scopes):
            statement = self._select(schema, list(known))
            yield from self._pages(schema, statement, list(known.values()))

    def _places(
        self, schema: TableSchema, account: str, scope: Scope, scopes: Iterable[tuple[str, str]]
    ) -> Iterator[dict[str, Any]]:
        """What the primary key can be restricted to, for each course (and batch, where the key needs it), once each."""
        last: dict[str, Any] | None = None
        for course, batch in scopes:
            known = {**scope.constants, schema.user.logical: account, scope.course: course}
            known[scope.batch] = f"{scope.batch_prefix}{batch}"
            order = [*schema.partition, *schema.clustering]
            known = {c: known[c] for c in order[: next((i for i, c in enumerate(order) if c not in known), len(order))]}
            needed = order.index(schema.user.logical) + 1
            courses = {c: known[c] for c in order[: max(needed, len(schema.partition))]}
            if courses != last:
                last = courses
                yield courses

    def scopes(self, schema: TableSchema, account: str, course: str, batch: str) -> Iterator[tuple[str, str]]:
        """The (course, batch) pairs of an account's rows of a table that is sorted by them, sorted, once each."""
        names = f'"{schema.column(course).actual}", "{schema.column(batch).actual}"'
        statement = self.prepare(f'SELECT {names} FROM {schema.full_name} WHERE "{schema.user.actual}" = ?')
        try:
            for pair, _ in groupby(tuple(row) for row in self._session.execute(statement, [account])):
                yield pair
        except DRIVER_ERRORS as error:
            raise unavailable("answer a read", error, self._settings) from error

    def collect(
        self, schema: TableSchema, account: str, scope: tuple[str, str, str, str], columns: tuple[str, ...], where: Any
    ) -> set[Any]:
        """Values of `columns` in an account's rows of one (course column, course, batch column, batch)."""
        course_column, course, batch_column, batch = scope
        known = {schema.user.logical: account, course_column: course, batch_column: batch}
        restricted = [c for c in (*schema.partition, *schema.clustering) if c in known]
        names = [*columns, *([where[0]] if where else [])]
        cql = ", ".join(f'"{schema.column(c).actual}"' for c in names)
        conditions = " AND ".join(f'"{schema.column(c).actual}" = ?' for c in restricted)
        found = self._fetch(
            self.prepare(f"SELECT {cql} FROM {schema.full_name} WHERE {conditions}"), [known[c] for c in restricted]
        )
        width = len(columns)
        kept = [row for row in found if where is None or row[width] == where[1]]
        return {row[0] if width == 1 else row[:width] for row in kept}

    def rows_by_key(self, schema: TableSchema, account: str, keys: Iterable[Key]) -> dict[Key, Row]:
        """An account's rows of exactly these keys, with a clock taken before; a missing row is not in the answer."""
        base = self.base()
        found: dict[Key, Row] = {}
        leading = [*schema.partition, *schema.clustering[:-1]]
        final = schema.clustering[-1]
        statement = self._select(schema, leading, final)
        places = [schema.bind(account, key) for key in keys]
        places.sort(key=lambda p: [p[c] for c in (*leading, final)])
        groups = groupby(places, key=lambda p: tuple(p[c] for c in leading))
        for window in batched(((lead, [p[final] for p in group]) for lead, group in groups), _WINDOW):
            futures = [self._session.execute_async(statement, [*lead, finals]) for lead, finals in window]
            for future in futures:
                try:
                    for raw in future.result():
                        row = self._row(schema, tuple(raw), base)
                        found[row.key] = row
                except DRIVER_ERRORS as error:
                    raise unavailable("answer a read", error, self._settings) from error
        return found

    def write(self, schema: TableSchema, account: str, changes: Iterable[Change], base: int, attempt: int = 0) -> None:
        """Puts the changes' absolute values, each at its own timestamp.

        Safe to repeat with another `attempt`: scalars and elements are the same again, a list takes its timestamp +
        `attempt`. Returns when every write is acknowledged.

        :raises TransientError: an outcome is unknown; repeat with the next attempt number.
        """
        statements = [
            s
            for change in changes
            if change.writes or change.create
            for s in self._statements(schema, account, change, base, attempt)
        ]
        requests: list[Any] = []
        for _, same in groupby(statements, key=lambda item: item[0]):
            for chunk in batched(same, 50):
                if len(chunk) == 1:
                    requests.append(chunk[0][1])
                    continue
                batch = BatchStatement(BatchType.UNLOGGED)
                for _, statement in chunk:
                    batch.add(statement)
                requests.append(batch)
        for window in batched(requests, _WINDOW):
            futures = [self._session.execute_async(request) for request in window]
            for future in futures:
                try:
                    future.result()
                except DRIVER_ERRORS as error:
                    raise unavailable("acknowledge a write", error, self._settings) from error

    def _statements(
        self, schema: TableSchema, account: str, change: Change, base: int, attempt: int
    ) -> list[tuple[tuple[Any, ...], Any]]:
        """One statement for each timestamp of a change: scalars and lists are set, maps and sets get elements added."""
        place = schema.bind(account, change.key)
        partition = tuple(place[c] for c in schema.partition)
        order = [*schema.partition, *schema.clustering]
        keys = [place[c] for c in order]
        conditions = " AND ".join(f'"{schema.column(c).actual}" = ?' for c in order)
        statements = []
        if change.create:
            # A row without a value still exists: only INSERT leaves the marker that says so.
            names = ", ".join(f'"{schema.column(c).actual}"' for c in order)
            marks = ", ".join("?" for _ in order)
            insert = self.prepare(f"INSERT INTO {schema.full_name} ({names}) VALUES ({marks}) USING TIMESTAMP ?")
            statements.append((partition, insert.bind([*keys, base])))
        timed = sorted(
            (write.timestamp + (attempt if schema.columns[name].kind == "list" else 0), name)
            for name, write in change.writes.items()
        )
        for timestamp, group in groupby(timed, key=lambda item: item[0]):
            names_at = [name for _, name in group]
            sets = ", ".join(self._set(schema, name) for name in names_at)
            update = self.prepare(f"UPDATE {schema.full_name} USING TIMESTAMP ? SET {sets} WHERE {conditions}")
            update.is_idempotent = all(schema.columns[name].kind != "list" for name in names_at)
            values = [change.writes[name].value for name in names_at]
            statements.append(
                (partition, update.bind([timestamp, *(UNSET_VALUE if v is None else v for v in values), *keys]))
            )
        return statements

    @staticmethod
    def _set(schema: TableSchema, name: str) -> str:
        column = schema.columns[name]
        quoted = f'"{column.actual}"'
        # Replacing a map or set leaves a range tombstone behind; adding elements does not.
        return f"{quoted} = {quoted} + ?" if column.kind in ("map", "set") else f"{quoted} = ?"


__all__ = ["DRIVER_ERRORS", "Store", "connect", "unavailable"]
