"""Looks at rows of other tables: what accounts show in one scope, asked scope by scope in ascending order, or in all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from account_merge.cursor import Cursor
from account_merge.model import Row
from account_merge.rules import Lookup, TableRule, rule_for
from account_merge.sunbird.schema import Tables, TableSchema
from account_merge.sunbird.store import Store
from account_merge.sunbird.together import Together
from account_merge.values import usable

Values = tuple[Any, ...]


def shows(rule: TableRule, row: Row, names: Sequence[str]) -> Values:
    """Return the values of some columns of a row, null where it has none."""
    key = dict(zip(rule.key, row.key, strict=True))
    return tuple([key[name] if name in key else row.values.get(name) for name in names])


def _asked_of(look: Lookup) -> tuple[TableRule, Values]:
    """Return the rule of the table that a lookup is at, and the columns that are read."""
    return rule_for(look.table), (*look.collect, *([look.where[0]] if look.where else []))


class Looks:
    """Looks at the rows of some accounts.

    An account's own partition is read as one stream; a scope that it has passed is asked for by itself.

    :param together: reads of these accounts.
    :param rows: (rule, account) -> all rows of a table.
    """

    def __init__(
        self, store: Store, tables: Tables, together: Together, rows: Callable[[TableRule, str], Iterator[Row]]
    ) -> None:
        self._store, self._tables, self._together, self._rows = store, tables, together, rows
        self._cursors: dict[tuple[Any, ...], Cursor[Values]] = {}
        self._looked: tuple[Any, dict[str, list[Values]]] = None, {}
        self._begun: dict[Any, Callable[[], dict[str, list[Values]]]] = {}
        self._touched: dict[tuple[str, str], frozenset[Values]] = {}

    def look(self, look: Lookup, account: str, scope: Values | None) -> Iterator[Any]:
        """Yield what an account's rows of another table show, in one place or (None) in all."""
        other, names = _asked_of(look)
        schema = self._tables.of(other)
        if schema is None:
            return
        width = len(look.collect)
        for row in self._shown(other, schema, account, names, scope):
            if look.where is None or row[width] == look.where[1]:
                named = tuple(map(usable, row[:width]))
                if named[0] is not None:
                    yield named[0] if width == 1 else named

    def expect(self, look: Lookup, scope: Values | None) -> None:
        """Send the request that `look` will need in a place, if it needs one of its own: the answer waits until then."""
        other, names = _asked_of(look)
        schema = self._tables.of(other)
        if scope is None or schema is None or schema.by_account or (other.table, names, scope) == self._looked[0]:
            return
        if (other.table, names, scope) not in self._begun:
            self._begun[other.table, names, scope] = self._together.values(schema, names, other.scope.bind(scope))

    def touches(self, rule: TableRule, account: str, scope: Values | None) -> bool:
        """Whether an account may have rows of a table in a scope: where one reading tells all of its scopes, they do."""
        schema = self._tables.of(rule)
        if schema is None or scope is None or not (schema.by_account or schema.user.logical in schema.indexed):
            return schema is not None
        if (few := self._together.few(rule)) is not None and account in few:
            return any(rule.scope_of(row.key) == scope for row in few[account])
        if schema.by_account and schema.lies_by(rule.scope.columns, [schema.user.logical]):
            return True  # the rows themselves are read as one stream
        if (rule.table, account) not in self._touched:
            found = self._store.values(schema, rule.scope.columns, {schema.user.logical: account})
            named = (dict(zip(rule.scope.columns, values, strict=True)) for values in found)
            self._touched[rule.table, account] = frozenset(rule.scope.of(known) for known in named)
        return scope in self._touched[rule.table, account]

    def _shown(
        self, rule: TableRule, schema: TableSchema, account: str, names: Values, scope: Values | None
    ) -> Iterator[Values]:
        if scope is None:
            yield from (shows(rule, row, names) for row in self._rows(rule, account))
            return
        if (few := self._together.few(rule)) is not None and account in few:
            yield from (shows(rule, row, names) for row in few[account] if rule.scope_of(row.key) == scope)
            return
        sights = self._sights(rule, schema, account, names)
        if sights is not None and not sights.passed(scope):
            yield from sights.at(scope)
            return
        about = rule.table, names, scope
        if self._looked[0] != about:
            begun = self._begun.pop(about, None) or self._together.values(schema, names, rule.scope.bind(scope))
            self._looked = about, begun()
        yield from self._looked[1].get(account, ())

    def _sights(self, rule: TableRule, schema: TableSchema, account: str, names: Values) -> Cursor[Values] | None:
        """Return a reader of what an account's partition shows, scope by scope; None where it does not lie by scopes."""
        columns, user = rule.scope.columns, schema.user.logical
        if not schema.by_account or not schema.lies_by(columns, [user]):
            return None
        about = rule.table, account, names
        if about not in self._cursors:
            width, found = len(columns), self._store.values(schema, (*columns, *names), {user: account})
            named = (
                (rule.scope.of(dict(zip(columns, values[:width], strict=True))), values[width:]) for values in found
            )
            self._cursors[about] = Cursor(named, f"rows of {rule.table}")
        return self._cursors[about]
