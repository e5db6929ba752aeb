"""Row finder: finds an account's rows of a table, sorted by key, and names the rows that it cannot find.

The first of these that leads to all of them: the account's own partition; an index on the account; a list of keys (the
scopes that either account touched, with their parts); a scan, where the operator gave leave. Names no table.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from account_merge.connection.batches import batched
from account_merge.cursor import ascending
from account_merge.errors import NeedsAttention
from account_merge.model import Key, Row
from account_merge.rules import RULES, Lookup, Scope, TableRule
from account_merge.settings import Settings, variable_of
from account_merge.sunbird.few_rows import FewRows
from account_merge.sunbird.looks import Looks, shows
from account_merge.sunbird.schema import Tables, TableSchema
from account_merge.sunbird.scope_parts import parts_of
from account_merge.sunbird.store import Store
from account_merge.sunbird.together import SharedStream, Together

Values = tuple[Any, ...]
#: Rows of one account and table that are held at once to be sorted: some 100 MB of the widest rows of the platform.
MOST_SORTED = 50_000


class RowFinder:
    """Finds the rows of some accounts.

    :param accounts: scopes that any of them touched lead to the rows of all.
    :param few: what the operation that looks has read of them a moment ago.
    """

    def __init__(
        self, store: Store, tables: Tables, settings: Settings, accounts: Sequence[str], few: FewRows | None = None
    ) -> None:
        self._store, self._tables, self._settings = store, tables, settings
        self._accounts = tuple(accounts)
        self._ahead = (few or FewRows()).ahead
        self._together = Together(store, tables, accounts, few or FewRows(), settings.page_rows)
        self._streams: dict[str, SharedStream] = {}
        self._looks = Looks(store, tables, self._together, self.rows)
        self._scanned: dict[str, dict[str, list[Key]]] = {}
        self._unseen: dict[str, str] = {}

    # --- rows -----------------------------------------------------------------------------------------------------
    def rows(self, rule: TableRule, account: str) -> Iterator[Row]:
        """Yield an account's rows of a table that this cluster has, sorted by key.

        :raises NeedsAttention: the table's key cannot be reached from what is known.
        """
        schema = self._tables.schemas[rule.table]
        way = self.access_path(rule)
        if (few := self._few(rule)) is not None and account in few:
            yield from few[account]
        elif way == "partition":
            pages = self._store.pages(schema, {schema.user.logical: account})
            yield from pages if schema.lies_by(rule.key, [schema.user.logical]) else self._sorted(schema, pages)
        elif way == "index":
            # An account has few rows outside its own partition.
            yield from sorted(self._store.pages(schema, {schema.user.logical: account}), key=lambda row: row.key)
        elif way == "scan":
            for keys in batched(self._scan(rule, schema)[account], self._settings.page_rows):
                found = self._store.rows_by_key(schema, account, keys)
                yield from (found[key] for key in keys if key in found)
        else:
            pages = self._listed_rows(rule, schema, account)
            yield from pages if self._list_lies_by_key(rule, schema) else self._sorted(schema, pages)

    def _few(self, rule: TableRule, beside: Iterable[TableRule] = ()) -> Mapping[str, list[Row]] | None:
        """Return each account's rows where an account has a partition of its own and all have few; None otherwise.

        :param beside: tables that will be asked for next.
        """
        return self._together.few(rule, (*beside, *(r for r in RULES if r.table in self._ahead)))

    def _listed_rows(self, rule: TableRule, schema: TableSchema, account: str) -> Iterator[Row]:
        """Return the rows that a list of keys leads to: each scope is read once for all accounts, in flight together."""
        stream = self._streams.get(rule.table)
        if stream is None or stream.begun(account):
            found = self._together.rows(schema, self._key_list(rule, schema))
            stream = self._streams[rule.table] = SharedStream(found, self._together.accounts)
        return stream.of(account)

    def _list_lies_by_key(self, rule: TableRule, schema: TableSchema) -> bool:
        """Whether the rows of a list of keys come in the order of the rule's key: first the scopes', then Cassandra's."""
        known = schema.leading
        led = [c for c in rule.scope.columns if c in known]
        left = [c for c in rule.key if c not in known]
        leads = rule.scope.columns[: len(led)] == tuple(led)
        by_key = [*led, *left] == [c for c in rule.key if c not in rule.scope.constants or c not in known]
        return leads and by_key and schema.lies_by(left, known)

    @staticmethod
    def _sorted(schema: TableSchema, found: Iterable[Row]) -> list[Row]:
        """Return rows that do not come in the order of the rule's key, put in order.

        :raises NeedsAttention: there are too many to hold them at once.
        """
        rows = list(islice(found, MOST_SORTED + 1))
        if len(rows) > MOST_SORTED:
            raise NeedsAttention(
                "UNKNOWN_KEY",
                f"rows of {schema.full_name} do not lie in the order of the rule's key, and an account has more than the "
                f"{MOST_SORTED} that are sorted in memory",
                "Copy the table into one that has the key of docs/rules.md, and name that in ACCOUNT_MERGE_TABLE_NAMES; or "
                "leave the table out of the merge's tables.",
            )
        return sorted(rows, key=lambda row: row.key)

    def access_path(self, rule: TableRule) -> str:
        """Return how the rows of a table of this cluster are found: partition, index, scan or keys."""
        schema = self._tables.schemas[rule.table]
        if schema.by_account:
            return "partition"
        if schema.user.logical in schema.indexed:
            return "index"
        return "scan" if rule.table in self._settings.scan_tables and self._out_of_reach(rule) else "keys"

    def note(self, rule: TableRule) -> str:
        """Return which part of a table is not moved or not looked for, and why; empty when all of it is."""
        schema = self._tables.of(rule)
        unmoved = [f"column {name} is not moved: {why}" for name, why in schema.unmoved.items()] if schema else []
        return "; ".join(filter(None, (*unmoved, self.unseen(rule))))

    def unseen(self, rule: TableRule) -> str:
        """Return which rows of a table are not looked for, with the remedy; empty when every row is found."""
        schema = self._tables.of(rule)
        words = self._out_of_reach(rule) if schema and self.access_path(rule) == "keys" else ""
        if not words or schema is None:
            return ""
        options = [f"an index on {schema.name} ({schema.user.actual})"]
        options += [variable_of(name) for name in (rule.scope.parts, rule.scope.listed) if name]
        options.append(f"{rule.table} in {variable_of('scan_tables')}")
        return f"not looked for: {words} (what leads to them: {', '.join(options[:-1])} or {options[-1]})"

    def _out_of_reach(self, rule: TableRule) -> str:
        """Return in words which rows the list of keys does not lead to; empty when it leads to every row."""
        if rule.table not in self._unseen:
            self._unseen[rule.table] = self._beyond_the_list(rule)
        return self._unseen[rule.table]

    def _beyond_the_list(self, rule: TableRule) -> str:
        if self._listed(rule.scope):
            return ""
        parts = parts_of(self._settings, rule.scope)
        if not rule.unseen or parts is None:
            return rule.unseen
        missing = sum(1 for whole, _ in groupby(v[0] for v in self.scopes(rule.scope)) if whole not in parts)
        file = Path(getattr(self._settings, rule.scope.parts)).name
        return f"{rule.unseen} ({rule.scope.kind}s that {file} does not name: {missing})" if missing else ""

    def _scan(self, rule: TableRule, schema: TableSchema) -> dict[str, list[Key]]:
        """Return the keys of every account of this merge, from one reading of the whole table's keys."""
        if rule.table not in self._scanned:
            found: dict[str, list[Key]] = {account: [] for account in self._accounts}
            for account, *key in self._store.values(schema, (schema.user.logical, *schema.key), {}):
                if account in found:
                    found[account].append(tuple(key))
            self._scanned[rule.table] = {account: sorted(keys) for account, keys in found.items()}
        return self._scanned[rule.table]

    # --- lists of keys ----------------------------------------------------------------------------------------------
    def scopes(self, scope: Scope) -> Iterator[Values]:
        """Yield every scope of a kind that an account of this merge touched, sorted, once each."""
        streams = [
            self._given(rule, schema, account)
            for rule in RULES
            if rule.lists_scopes and rule.scope.kind == scope.kind and (schema := self._tables.of(rule)) is not None
            for account in self._accounts
        ]
        checked = (ascending(((values,) for values in stream), f"{scope.kind}s of an account") for stream in streams)
        for (values,), _ in groupby(heapq.merge(((values,) for values in self._listed(scope)), *checked)):
            yield values

    def _given(self, rule: TableRule, schema: TableSchema, account: str) -> Iterator[Values]:
        beside = (r for r in RULES if r.lists_scopes and r.scope.kind == rule.scope.kind)
        if (few := self._few(rule, beside)) is not None:
            shown = (shows(rule, row, rule.scope.columns) for row in few[account])
            yield from sorted({(v,) for (held,) in shown for v in held or ()} if rule.holds_scopes else set(shown))
            return
        columns, known = rule.scope.columns, {schema.user.logical: account}
        if rule.holds_scopes:
            found = self._store.values(schema, columns, known)
            yield from ((value,) for (held,) in found for value in sorted(held or ()))
        elif schema.lies_by(columns, [schema.user.logical]):
            yield from self._store.distinct(schema, columns, known)
        else:
            yield from sorted(set(self._store.values(schema, columns, known)))

    def _listed(self, scope: Scope) -> list[Values]:
        return sorted({(value,) for value in getattr(self._settings, scope.listed)}) if scope.listed else []

    def _with_parts(self, scope: Scope) -> Iterator[Values]:
        parts = parts_of(self._settings, scope)
        if not parts:
            return self.scopes(scope)
        pairs = ((part, *rest) for whole, *rest in self.scopes(scope) for part in (whole, *parts.get(whole, ())))
        return iter(sorted(set(pairs)))

    def _key_list(self, rule: TableRule, schema: TableSchema) -> Iterator[dict[str, Any]]:
        """Yield what the leading key columns without the account are for each scope, as far as the key needs it, once each."""
        needed = [column for column in schema.leading if column != schema.user.logical]
        asked: set[Values] = set()
        for values in self._with_parts(rule.scope):
            known = rule.scope.bind(values)
            if not known.keys() >= set(needed):
                raise NeedsAttention(
                    "UNKNOWN_KEY",
                    f"rows of {schema.full_name} cannot be found by account: its key begins with "
                    f"{', '.join(schema.leading)}",
                    f"Create an index on its column {schema.user.actual}, then clear the task.",
                )
            wanted = tuple(known[column] for column in needed)
            if wanted not in asked:
                asked.add(wanted)
                yield dict(zip(needed, wanted, strict=True))

    # --- under `skip` -----------------------------------------------------------------------------------------------
    def stays(self, rule: TableRule, kept: frozenset[Values]) -> Callable[[Key], bool]:
        """Whether a key's row stays as the target has it, because it belongs to one of the scopes `kept`."""
        if not kept or rule.holds_scopes:
            return lambda key: False
        if not rule.scope.parts:
            return lambda key: rule.scope_of(key) in kept
        # A part belongs to its whole, which the rest of the scope tells: a unit's row names the course's batch.
        wholes, rests = frozenset(self.scopes(rule.scope)), {scope[1:] for scope in kept}

        def stays(key: Key) -> bool:
            scope = rule.scope_of(key)
            return scope in kept or (scope not in wholes and scope[1:] in rests)

        return stays

    # --- looking at other tables ------------------------------------------------------------------------------------
    def look(self, look: Lookup, account: str, scope: Values | None) -> Iterator[Any]:
        """Yield what an account's rows of another table show, in one place or (None) in all."""
        return self._looks.look(look, account, scope)

    def expect(self, look: Lookup, scope: Values | None) -> None:
        """Be told that `look` will be asked for a place soon, in the order of the places."""
        self._looks.expect(look, scope)

    def touches(self, rule: TableRule, account: str, scope: Values | None) -> bool:
        """Whether an account may have rows of a table in a scope: where one reading tells all of its scopes, they do."""
        return self._looks.touches(rule, account, scope)
