"""Tables in which some accounts have no row, found by few narrow reads that are in flight together.

An answer that would take many reads is not looked for: such a table counts as one that may have rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from account_merge.rules import RULES, TABLES, Scope, TableRule
from account_merge.settings import Settings
from account_merge.sunbird.row_finder import RowFinder
from account_merge.sunbird.schema import Tables, TableSchema
from account_merge.sunbird.store import Question, Store

Values = tuple[Any, ...]
Rows = Sequence[Values]
#: Rows of a list of scopes that are read; an account with more may have rows in any table that the list leads to.
MOST_LISTED = 200
#: Places of one table that are asked for rows.
MOST_PLACES = 32


class Presence:
    """Tells which tables the sources of one merge have no row in.

    :param sources: the accounts that are asked about.
    :param target: its scopes lead to rows of the sources as well.
    """

    def __init__(self, store: Store, tables: Tables, settings: Settings, sources: Sequence[str], target: str) -> None:
        self._store, self._tables, self._settings = store, tables, settings
        self._sources, self._accounts = tuple(sources), (*sources, target)
        self._finder = RowFinder(store, tables, settings, self._accounts)

    def without_rows(self, rules: Iterable[TableRule]) -> frozenset[str]:
        """Return those of these tables to which no source brings anything.

        It has no row there, nor in a table that the rule looks at: rows of that one count also without a row here.
        """
        needed = {rule.table: {rule.table, *(look.table for look in rule.lookups)} for rule in rules}
        asked = [rule for rule in RULES if rule.table in set().union(*needed.values()) and self._tables.of(rule)]
        rowless = self._rowless(asked) | (set(TABLES) - {rule.table for rule in asked})
        return frozenset(table for table, names in needed.items() if names <= rowless)

    def _rowless(self, asked: Sequence[TableRule]) -> set[str]:
        """Return the tables in which no source has a row of its own."""
        ways = {r.table: self._finder.access_path(r) for r in asked if r.table not in self._settings.scan_tables}
        direct = [rule for rule in asked if ways.get(rule.table) in ("partition", "index")]
        listed = [rule for rule in asked if ways.get(rule.table) == "keys" and not self._beyond_lists(rule.scope)]
        kinds = {rule.scope.kind for rule in listed}
        listers = [r for r in RULES if r.lists_scopes and r.scope.kind in kinds and self._tables.of(r)]
        questions = {
            (rule.table, source): Question(self._tables.schemas[rule.table], [rule.user], {rule.user: source}, 1)
            for rule in direct
            for source in self._sources
        } | {
            (rule.table, account): Question(
                self._tables.schemas[rule.table], rule.scope.columns, {rule.user: account}, MOST_LISTED + 1
            )
            for rule in listers
            for account in self._accounts
        }
        answers = dict(zip(questions, self._store.some(questions.values()), strict=True))
        rowless = {r.table for r in direct if not any(answers[r.table, source] for source in self._sources)}
        lists = [(rule, answers[rule.table, account]) for rule in listers for account in self._accounts]
        return rowless | self._rowless_places(listed, lists)

    def _beyond_lists(self, scope: Scope) -> bool:
        """Whether settings lead to more places than the accounts' own lists: they name scopes, or parts of them."""
        return any(getattr(self._settings, name) for name in (scope.parts, scope.listed) if name)

    def _rowless_places(self, listed: Sequence[TableRule], lists: Sequence[tuple[TableRule, Rows]]) -> set[str]:
        """Return the tables without a row in any place that the accounts' lists lead to."""
        questions: dict[tuple[str, Values], Question] = {}
        rowless = set()
        for rule in listed:
            schema = self._tables.schemas[rule.table]
            mine = [(other, rows) for other, rows in lists if other.scope.kind == rule.scope.kind]
            if any(len(rows) > MOST_LISTED for _, rows in mine):
                continue
            places = set(self._places(rule, schema, mine))
            if len(places) > MOST_PLACES or any(len(place) < len(schema.leading) for place in places):
                continue
            rowless.add(rule.table)
            for place in places:
                where = dict(zip(schema.leading, place, strict=True))
                questions[rule.table, place] = Question(schema, [rule.user], where, 1)
        found = zip(questions, self._store.some(questions.values()), strict=True)
        return rowless - {table for (table, _), rows in found if rows}

    def _places(
        self, rule: TableRule, schema: TableSchema, lists: Sequence[tuple[TableRule, Rows]]
    ) -> Iterator[Values]:
        """Yield the leading key columns of each place in which a source may have rows, as far as they are known."""
        for other, rows in lists:
            scopes = ((held,) for (value,) in rows for held in value or ()) if other.holds_scopes else rows
            for values in scopes:
                for source in self._sources:
                    where = {**rule.scope.bind(values), rule.user: source}
                    yield tuple(where[column] for column in schema.leading if column in where)
