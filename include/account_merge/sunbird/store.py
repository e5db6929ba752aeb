"""Learners' tables: read sorted pages with write times, write absolute values at a given timestamp.

Plain statements only: a conditional write takes no timestamp.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cassandra.cluster import Session
from cassandra.query import PreparedStatement

from account_merge.connection.answers import answer_of
from account_merge.connection.batches import batch, batched, portions
from account_merge.connection.cells import bind
from account_merge.connection.driver_errors import DRIVER_ERRORS, driver_error
from account_merge.errors import MergeError, TransientError
from account_merge.model import Change, Key, Row
from account_merge.settings import Settings
from account_merge.sunbird.keyed_reads import Request, by_key, slice_of
from account_merge.sunbird.schema import TableSchema
from account_merge.sunbird.selects import row_of, select, whole_row
from account_merge.sunbird.server_clock import ServerClock
from account_merge.sunbird.statements import statements
from account_merge.values import plain

T = TypeVar("T")
Work = Callable[[], object]
_NARROW_PAGE = 5000  # rows of a page without wide columns: measured best for reading
_MOMENT = 1.0  # s for which the columns of a keyspace's tables are believed
_WINDOW = 16  # requests in flight: measured best for small batches on two cores


def rest() -> None:
    """Do nothing while servers work."""


@dataclass(frozen=True)
class Question:
    """A read of some columns of the first rows whose key columns are `known`.

    :param most: how many rows, at most.
    """

    schema: TableSchema
    columns: Sequence[str]
    known: Mapping[str, Any]
    most: int


def _at(schema: TableSchema, place: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return where a place lies in its partition."""
    return tuple(place[c] for c in schema.clustering)


class Store:
    """Reads and writes one account's rows of a table. Every method raises what `driver_error` makes of a failure.

    :param schema_changed: called when a table or column turns out to be gone.
    """

    def __init__(self, session: Session, settings: Settings, schema_changed: Callable[[], None] = lambda: None) -> None:
        self._session = session
        self._settings = settings
        self._schema_changed = schema_changed
        self._prepared: dict[str, PreparedStatement] = {}
        self._clock = ServerClock(settings, self._server_time)
        self._columns: dict[str, tuple[float, Mapping[str, frozenset[str]]]] = {}

    def _told(self, doing: str, error: BaseException) -> MergeError:
        told = driver_error(doing, error, self._settings)
        if told.code == "SCHEMA_CHANGED":
            self._prepared.clear()
            self._schema_changed()
        return told

    def prepare(self, cql: str) -> PreparedStatement:
        """Return a prepared statement, made once for this session."""
        if cql not in self._prepared:
            try:
                self._prepared[cql] = self._session.prepare(cql)
            except DRIVER_ERRORS as error:
                raise self._told("prepare a statement", error) from error
        return self._prepared[cql]

    def safe_timestamp(self) -> int:
        """Return a time (µs) that no write from now on can be below; see `ServerClock`."""
        return self._clock.safe_timestamp()

    def _server_time(self) -> float:
        return float(self.fetch(self.prepare("SELECT toUnixTimestamp(now()) FROM system.local"), ())[0][0])

    def fetch(self, statement: Any, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return all rows of one small read."""
        try:
            return list(self._session.execute(statement, values))
        except DRIVER_ERRORS as error:
            raise self._told("answer a read", error) from error

    def begin(self, schema: TableSchema, request: Any) -> Callable[[], Iterator[tuple[Any, ...]]]:
        """Send a read, and return what waits for its rows: further pages are asked for as they are needed."""
        future = self._session.execute_async(request)

        def rows() -> Iterator[tuple[Any, ...]]:
            try:
                yield from answer_of(future)
            except DRIVER_ERRORS as error:
                raise self._told(f"answer a read of {schema.full_name}", error) from error

        return rows

    def row(self, schema: TableSchema, raw: tuple[Any, ...], base: int) -> Row:
        """Return a row as `whole_row` selects it."""
        return row_of(schema, raw, base, self._settings.clock_margin_seconds)

    def columns(self, schema: TableSchema) -> frozenset[str]:
        """Return the names of the columns that a table has, as they were a moment ago: a keyspace's tables are asked together."""
        at, found = self._columns.get(schema.keyspace, (0.0, {}))
        if time.monotonic() - at > _MOMENT:
            cql = "SELECT table_name, column_name FROM system_schema.columns WHERE keyspace_name = ?"
            names: dict[str, set[str]] = {}
            at = time.monotonic()
            for table, name in self.fetch(self.prepare(cql), (schema.keyspace,)):
                names.setdefault(table, set()).add(name)
            found = {table: frozenset(columns) for table, columns in names.items()}
            self._columns[schema.keyspace] = at, found
        return found.get(schema.name, frozenset())

    def pages(self, schema: TableSchema, known: Mapping[str, Any]) -> Iterator[Row]:
        """Yield the rows whose key columns are `known`, page by page; a partition from its least to its greatest key.

        Each page's rows carry a clock taken before the page was asked for.

        :param known: the account (by its partition key or an index), or leading key columns that end with it.
        """
        wide = any(c.kind != "scalar" for c in schema.columns.values())
        bound = bind(self.prepare(select(schema, whole_row(schema), list(known))), list(known.values()))
        bound.fetch_size = max(1, self._settings.page_rows // 5) if wide else self._settings.page_rows
        for base, rows in self._pages(schema, bound, self.safe_timestamp):
            yield from (self.row(schema, raw, base) for raw in rows)

    def _pages(
        self, schema: TableSchema, bound: Any, clock: Callable[[], int]
    ) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
        """Yield (clock before it was asked for, rows) of each page; the server reads the next while one is worked on."""

        def page(state: bytes | None) -> tuple[int, Any]:
            base = clock()
            return base, self._session.execute_async(bound, paging_state=state)

        asked: tuple[int, Any] | None = page(None)
        while asked is not None:
            base, answer = asked
            try:
                here = answer_of(answer)
            except DRIVER_ERRORS as error:
                raise self._told(f"answer a read of {schema.full_name}", error) from error
            asked = page(here.paging_state) if here.paging_state else None
            yield base, here.current_rows

    def values(
        self, schema: TableSchema, columns: Sequence[str], known: Mapping[str, Any]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield values of some columns in the rows whose key columns are `known`; of the whole table when nothing is.

        One page at a time and one request in flight, so that reading a whole table disturbs nobody.
        """
        return self._narrow(schema, columns, known)

    def _narrow(
        self, schema: TableSchema, columns: Sequence[str], known: Mapping[str, Any], grouped: Sequence[str] = ()
    ) -> Iterator[tuple[Any, ...]]:
        what = [f'"{schema.column(c).actual}"' for c in columns]
        bound = bind(self.prepare(select(schema, what, list(known), grouped=grouped)), list(known.values()))
        bound.fetch_size = _NARROW_PAGE
        for _, rows in self._pages(schema, bound, int):  # its rows are no base of a write
            yield from (tuple(map(plain, row)) for row in rows)

    def distinct(
        self, schema: TableSchema, columns: Sequence[str], known: Mapping[str, Any]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the values of leading clustering columns in the partition whose key is `known`, sorted, each once.

        The server groups its rows; a learner has some hundred lessons in each course.
        """
        return self._narrow(schema, columns, known, grouped=columns)

    def some(self, questions: Iterable[Question]) -> list[list[tuple[Any, ...]]]:
        """Return the first values that answer each question; up to 16 questions are in flight together."""
        answers: list[list[tuple[Any, ...]]] = []
        for window in batched(questions, _WINDOW):
            begun = []
            for one in window:
                what = [f'"{one.schema.column(c).actual}"' for c in one.columns]
                statement = self.prepare(select(one.schema, what, list(one.known), most=one.most))
                begun.append(self.begin(one.schema, bind(statement, list(one.known.values()))))
            answers += [[tuple(map(plain, row)) for row in answer()] for answer in begun]
        return answers

    def rows_by_key(self, schema: TableSchema, account: str, keys: Iterable[Key]) -> dict[Key, Row]:
        """Return an account's rows of exactly these keys, with a clock taken before; a missing row is not in the answer."""
        wanted, base = set(keys), self.safe_timestamp()
        order = [*schema.partition, *schema.clustering]
        places = sorted((schema.bind(account, key) for key in wanted), key=lambda place: [place[c] for c in order])
        found: dict[Key, Row] = {}
        if places and (part := slice_of(schema, places)) is not None:
            answers = list(self._send(schema, [part], base))
            found |= {row.key: row for row in answers}
            if len(answers) < part.most:
                places = []
            else:  # many rows lie between those that are asked for
                last = _at(schema, schema.bind(account, answers[-1].key))
                places = [place for place in places if _at(schema, place) > last]
        found |= {row.key: row for row in self._send(schema, by_key(schema, places), base)} if places else {}
        return {key: row for key, row in found.items() if key in wanted}

    def _send(self, schema: TableSchema, requests: Iterable[Request], base: int) -> Iterator[Row]:
        """Yield the rows that requests answer with; some are in flight together."""
        for window in batched(requests, _WINDOW):
            begun = [self.begin(schema, bind(self.prepare(one.cql), one.values)) for one in window]
            yield from (self.row(schema, raw, base) for answer in begun for raw in answer())

    def write(
        self, schema: TableSchema, account: str, changes: Iterable[Change], attempt: int = 0, meanwhile: Work = rest
    ) -> None:
        """Put the changes' absolute values, each at its own timestamp.

        Safe to repeat with another `attempt`: scalars and elements are the same again, a list takes its timestamp +
        `attempt`. Returns, or raises, when every write is acknowledged or lost.

        :param meanwhile: done while the servers write.
        :raises TransientError: an outcome is unknown; repeat with the next attempt number.
        """
        sent, now = [], time.time()
        for change in changes:
            place = schema.bind(account, change.key)
            partition = tuple(place[c] for c in schema.partition)
            for one in statements(schema, account, change, now, attempt):
                prepared = self.prepare(one.cql)
                prepared.is_idempotent = one.idempotent
                sent.append((partition, bind(prepared, one.values)))
        for window in batched(map(batch, portions(sent)), _WINDOW):
            futures = [self._session.execute_async(request) for request in window]
            try:
                meanwhile()
            finally:
                self._acknowledged(schema, futures)
            meanwhile = rest

    def _acknowledged(self, schema: TableSchema, futures: Iterable[Any]) -> None:
        """Wait for all of them: whoever looks at the rows next must not be overtaken by one of these."""
        problems: list[MergeError] = []
        for future in futures:
            try:
                answer_of(future)
            except DRIVER_ERRORS as error:
                problems.append(self._told(f"acknowledge a write of {schema.full_name}", error))
        if problems:  # an outage first: what was sent then may still arrive
            raise min(problems, key=lambda problem: not isinstance(problem, TransientError))
