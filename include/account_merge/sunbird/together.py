"""Reads of several accounts at once: of few rows by one request, of lists of keys by requests that are in flight together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from account_merge.connection.batches import batched
from account_merge.connection.cells import bind
from account_merge.model import Row
from account_merge.rules import TableRule
from account_merge.sunbird.few_rows import FewRows, Rows
from account_merge.sunbird.keyed_reads import PARTITIONS
from account_merge.sunbird.schema import Tables, TableSchema
from account_merge.sunbird.selects import select, whole_row
from account_merge.sunbird.store import Store
from account_merge.values import Unreadable, plain

Answer = Callable[[], Iterator[tuple[Any, ...]]]
Shown = dict[str, list[tuple[Any, ...]]]  # account -> values of its rows
_Asked = tuple[str, int, Answer]  # an account, the clock that was read before, and what waits for its rows
_MOST_ACCOUNTS = 20  # that one request names
_AHEAD = 16  # scopes whose requests are in flight: measured best for small reads on two cores
_PAGE = 500  # rows of a scope that are read at once


class Together:
    """Reads the rows of some accounts.

    :param few: what was read of them a moment ago.
    :param page_rows: half of that many rows of all accounts are few; of a table with maps, a tenth.
    """

    def __init__(self, store: Store, tables: Tables, accounts: Sequence[str], few: FewRows, page_rows: int) -> None:
        self._page_rows = page_rows
        self._store, self._tables, self._few = store, tables, few
        self.accounts = tuple(dict.fromkeys(accounts))

    # --- few rows -----------------------------------------------------------------------------------------------------
    def few(self, rule: TableRule, with_it: Iterable[TableRule] = ()) -> Rows | None:
        """Return each account's rows of a table in which an account has a partition of its own; None where they are many.

        :param with_it: tables that will be asked for next: they are read at the same time.
        """
        schema = self._tables.of(rule)
        if schema is None or not self._readable(schema):
            return None
        if self._few.of(rule.table) is None and not self._few.many(rule.table):
            self._read([rule, *with_it])
        return self._few.of(rule.table)

    def _readable(self, schema: TableSchema) -> bool:
        return schema.by_account and 0 < len(self.accounts) <= _MOST_ACCOUNTS

    def _read(self, rules: Iterable[TableRule]) -> None:
        """Read tables whose rows are not known, all at the same time."""
        begun = []
        for rule in {rule.table: rule for rule in rules}.values():
            schema, known = self._tables.of(rule), self._few.of(rule.table) is not None or self._few.many(rule.table)
            if schema is not None and self._readable(schema) and not known:
                at = time.monotonic()
                begun.append((rule.table, at, schema, self._store.safe_timestamp(), *self._begin(schema)))
        for table, at, schema, base, most, answer in begun:
            rows: dict[str, list[Row]] = {account: [] for account in self.accounts}
            number = 0
            for number, (account, *raw) in enumerate(answer(), 1):
                if number > most:
                    break
                rows[account].append(self._store.row(schema, tuple(raw), base))
            for found in rows.values():
                found.sort(key=lambda row: row.key)
            self._few.put(table, at, rows if number <= most else None)

    def _begin(self, schema: TableSchema) -> tuple[int, Answer]:
        wide = any(c.kind != "scalar" for c in schema.columns.values())
        most = max(1, self._page_rows // (10 if wide else 2))
        cql = select(schema, [f'"{schema.user.actual}"', *whole_row(schema)], (), (schema.user.logical,))
        request = bind(self._store.prepare(f"{cql} LIMIT {most + 1}"), [list(self.accounts)])
        request.fetch_size = most + 1
        return most, self._store.begin(schema, request)

    # --- lists of keys ------------------------------------------------------------------------------------------------
    def rows(self, schema: TableSchema, places: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Row]]:
        """Yield (account, row) of the rows in each of these places, in the order of the places and then of the key.

        :param places: leading key columns without the account -> value.
        """
        looked, asked = deque[tuple[Mapping[str, Any], Callable[[], Shown]]](), deque[Iterator[tuple[str, Row]]]()
        for some in batched(places, PARTITIONS):
            varies = [c for c in some[0] if len({place[c] for place in some}) > 1]
            odd = any(isinstance(place[c], Unreadable) for place in some for c in varies)
            if {*some[0], schema.user.logical} == {*schema.partition} and len(varies) == 1 and not odd:
                asked.append(self._partitions(schema, some, varies[0]))
            elif self._seldom(schema):
                looked.extend((place, self.values(schema, (), place)) for place in some)
            else:
                asked.extend(self._answers(schema, self._ask(schema, place, self.accounts)) for place in some)
            while len(looked) >= _AHEAD:
                asked.append(self._where(schema, *looked.popleft()))
            while len(asked) >= _AHEAD:
                yield from asked.popleft()
        while looked:
            asked.append(self._where(schema, *looked.popleft()))
        while asked:
            yield from asked.popleft()

    def _seldom(self, schema: TableSchema) -> bool:
        """Whether it is asked first who has rows in a place: of a table with collections, all accounts by one request."""
        wide = any(c.kind != "scalar" for c in schema.columns.values())
        return wide and schema.user.logical in schema.clustering and 1 < len(self.accounts) <= _MOST_ACCOUNTS

    def _where(
        self, schema: TableSchema, place: Mapping[str, Any], shown: Callable[[], Shown]
    ) -> Iterator[tuple[str, Row]]:
        there = shown()
        return self._answers(schema, self._ask(schema, place, [a for a in self.accounts if there[a]]))

    def _partitions(
        self, schema: TableSchema, places: Sequence[Mapping[str, Any]], varies: str
    ) -> Iterator[tuple[str, Row]]:
        """Send one request for whole small partitions of all accounts; return their rows in the order of the places."""
        user, same = schema.user.logical, [c for c in places[0] if c != varies]
        cql = select(schema, [f'"{schema.user.actual}"', *whole_row(schema)], same, (varies, user))
        values = [*(places[0][c] for c in same), [place[varies] for place in places], list(self.accounts)]
        base = self._store.safe_timestamp()
        answer = self._store.begin(schema, bind(self._store.prepare(cql), values))
        position, place_of = list(schema.key).index(varies), {place[varies]: n for n, place in enumerate(places)}

        def rows() -> Iterator[tuple[str, Row]]:
            found = [(account, self._store.row(schema, tuple(raw), base)) for account, *raw in answer()]
            yield from sorted(found, key=lambda one: (place_of[one[1].key[position]], one[1].key))

        return rows()

    def _ask(self, schema: TableSchema, place: Mapping[str, Any], accounts: Iterable[str]) -> list[_Asked]:
        """Send the requests for one place: one for each account, whose rows then come in their order."""
        begun = []
        for account in accounts:
            known = {**place, schema.user.logical: account}
            leading = [c for c in (*schema.partition, *schema.clustering) if c in known]
            base = self._store.safe_timestamp()
            request = bind(self._store.prepare(select(schema, whole_row(schema), leading)), [known[c] for c in leading])
            request.fetch_size = _PAGE
            begun.append((account, base, self._store.begin(schema, request)))
        return begun

    def _answers(self, schema: TableSchema, begun: Iterable[_Asked]) -> Iterator[tuple[str, Row]]:
        for account, base, answer in begun:
            yield from ((account, self._store.row(schema, raw, base)) for raw in answer())

    def values(self, schema: TableSchema, columns: Sequence[str], known: Mapping[str, Any]) -> Callable[[], Shown]:
        """Ask for values of some columns of each account's rows where the leading key columns are `known`; return what waits.

        One request names all accounts, where Cassandra allows that: no collection may be selected beside a list of
        values of a clustering column (3.11).
        """
        user = schema.user.logical
        leading = [c for c in (*schema.partition, *schema.clustering) if c in known and c != user]
        plain_cells = all(schema.column(c).kind == "scalar" for c in columns)
        if len(self.accounts) > _MOST_ACCOUNTS or not (user in schema.partition or plain_cells):
            place = {c: known[c] for c in leading}
            return lambda: {a: list(self._store.values(schema, columns, {**place, user: a})) for a in self.accounts}
        named = [f'"{schema.column(c).actual}"' for c in columns]
        cql = select(schema, [f'"{schema.user.actual}"', *named], leading, (user,))
        request = bind(self._store.prepare(cql), [*(known[c] for c in leading), list(self.accounts)])
        request.fetch_size = _PAGE
        answer = self._store.begin(schema, request)

        def values() -> Shown:
            found: Shown = {account: [] for account in self.accounts}
            for account, *raw in answer():
                found[account].append(tuple(map(plain, raw)))
            return found

        return values


class SharedStream:
    """Rows of several accounts from one reading, handed out to each account's own reader in their order."""

    def __init__(self, found: Iterator[tuple[str, Row]], accounts: Iterable[str]) -> None:
        self._found = found
        self._waiting: dict[str, deque[Row]] = {account: deque() for account in accounts}
        self._taken: set[str] = set()

    def begun(self, account: str) -> bool:
        """Whether an account's rows were asked for already: each are handed out once."""
        return account in self._taken

    def of(self, account: str) -> Iterator[Row]:
        """Yield an account's rows; those of others that come before are kept until they are asked for."""
        self._taken.add(account)
        mine = self._waiting[account]
        while True:
            while mine:
                yield mine.popleft()
            following = next(self._found, None)
            if following is None:
                return
            self._waiting[following[0]].append(following[1])
