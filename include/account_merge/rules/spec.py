"""The words of a rule: about a table, its scopes, its lookups, and when a row counts. Pure data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from account_merge.model import Key
from account_merge.rules.derivations import Derivation
from account_merge.rules.measures import Measure
from account_merge.rules.remarks import Remark
from account_merge.rules.strategies import Strategy, keep_target_fill_gaps, no_times


@dataclass(frozen=True)
class Example:
    """A worked example: the rows of source and target, and the target's row after the merge."""

    source: Mapping[str, Any]
    target: Mapping[str, Any] | None
    merged: Mapping[str, Any]


@dataclass(frozen=True)
class Scope:
    """The thing that a row belongs to: a course and batch, say. Rows of several tables meet in one scope.

    :param kind: scopes of two tables are the same when their kinds and values are.
    :param columns: key columns whose values name the scope, in the order of the kind.
    :param constants: other key columns, which have one fixed value.
    :param prefix: what stands before the value in the last of the columns.
    :param parts: the setting whose file lists the parts of the thing that the first column names (a course's units); a
        row may name a part instead.
    :param listed: the setting that lists the scopes themselves.
    """

    kind: str
    columns: tuple[str, ...]
    constants: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    parts: str = ""
    listed: str = ""

    def bind(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """Return the key columns that a scope decides, with their values."""
        known = dict(zip(self.columns, values, strict=True))
        return {**self.constants, **known, self.columns[-1]: f"{self.prefix}{values[-1]}"}

    def of(self, known: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the scope that these columns name."""
        *first, last = (known[column] for column in self.columns)
        return *first, str(last).removeprefix(self.prefix)


@dataclass(frozen=True)
class Lookup:
    """Rows of another table that a rule may look at: both accounts' rows of the same scope.

    :param collect: columns whose values are collected (one: the value, more: a tuple).
    :param where: only rows with this value in this column.
    """

    name: str
    table: str
    collect: tuple[str, ...]
    where: tuple[str, Any] | None = None


@dataclass(frozen=True)
class Counts:
    """When a row counts as what its table is about, an enrolment say: a row may be there without being one.

    :param why: the same for people.
    :param shows: (column, value): a row with this value counts, a row with another one does not.
    :param has: where that column is null, a row with a value in one of these counts.
    """

    why: str
    shows: tuple[str, Any] | None = None
    has: tuple[str, ...] = ()

    def of(self, row: Mapping[str, Any]) -> bool:
        """Whether a row counts."""
        if self.shows is None:
            return True
        column, value = self.shows
        if row.get(column) is not None:
            return bool(row[column] == value)
        return any(row.get(name) is not None for name in self.has)


@dataclass(frozen=True)
class Limit:
    """A limit of the platform that a merge may pass: the report says so, and nothing is held back.

    :param words: what is counted.
    :param column: the set whose elements count; without it the rows of a scope count.
    :param where: only rows with this value in this column count.
    """

    most: int
    words: str
    column: str = ""
    where: tuple[str, Any] | None = None


@dataclass(frozen=True)
class TableRule:
    """The rule for one table.

    :param user: the column that holds the account.
    :param key: the rest of the primary key, in clustering order.
    :param columns: column -> strategy; a column that is not listed keeps the target's value and fills gaps, or comes
        with the row that the derivation which leads unknown columns chooses.
    :param forks: those of `columns` that only forks of the platform have.
    :param derive: derivations, applied in this order.
    :param scope: the scope of each row; its columns may also be one set column, a row then holds many scopes.
    :param lists_scopes: the account's rows tell which scopes of that kind it touched; other tables' rows are found
        through them.
    :param unseen: in words, the rows of an account that no such scope leads to; empty where the scopes lead to all.
    :param lookups: other tables' rows that the derivations need.
    :param decides_skip: under `skip`, where the target has a row here that counts, every table's rows of that scope stay.
    :param limits: limits of the platform that are reported when a merge passes them.
    :param keyspace: role of the keyspace: the setting `<role>_keyspace` names it.
    :param enrolments: each row is one enrolment: the sync events are made from these.
    :param deactivated: the values of an inactive row, for `source_rows: deactivate`; empty where rows have no such state.
    :param remarks: sentences about a merged row for the report.
    :param last: merged after every other table.
    :param measures: the numbers that these rows give a learner.
    """

    table: str
    user: str
    key: tuple[str, ...]
    why: str
    columns: Mapping[str, Strategy]
    scope: Scope
    forks: frozenset[str] = frozenset()
    derive: tuple[Derivation, ...] = ()
    lists_scopes: bool = False
    unseen: str = ""
    lookups: tuple[Lookup, ...] = ()
    decides_skip: Counts | None = None
    limits: tuple[Limit, ...] = ()
    keyspace: str = "courses"
    enrolments: bool = False
    deactivated: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    last: bool = False
    measures: tuple[Measure, ...] = ()
    examples: tuple[Example, ...] = ()

    def strategy(self, column: str) -> Strategy:
        """Return the strategy of a column, also of one that no rule knows."""
        return self.columns.get(column, keep_target_fill_gaps)

    @cached_property
    def timed(self) -> Mapping[str, Strategy]:
        """The columns in which times decide, sorted."""
        return {c: strategy for c, strategy in sorted(self.columns.items()) if strategy.times is not no_times}

    def derivations(self, columns: Iterable[str]) -> tuple[Derivation, ...]:
        """Return the derivations for rows with these columns: those that lead unknown ones too do so."""
        return self._widened(columns)[0]

    def led(self, columns: Iterable[str]) -> Mapping[str, str]:
        """Return column -> words for why it follows from others, of the columns of such rows that do."""
        return self._widened(columns)[1]

    def _widened(self, columns: Iterable[str]) -> tuple[tuple[Derivation, ...], Mapping[str, str]]:
        unknown = frozenset(columns).difference(self.columns)
        found = self._known_widened.get(unknown)
        if found is None:
            more = tuple(sorted(unknown))
            derivations = tuple(d.widen(more) if more and d.widen else d for d in self.derive)
            found = self._known_widened[unknown] = derivations, self._reasons(derivations)
        return found

    @cached_property
    def _known_widened(self) -> dict[frozenset[str], tuple[tuple[Derivation, ...], Mapping[str, str]]]:
        """Unknown columns -> the derivations for rows with them, and why columns follow: the same for all rows of a table."""
        return {}

    def _reasons(self, derivations: Iterable[Derivation]) -> Mapping[str, str]:
        led: dict[str, str] = {}
        for derivation in derivations:
            for column in derivation.columns:
                words = derivation.why if column in self.columns else f"no rule knows this column: it {derivation.why}"
                led[column] = f"{led[column]}; {words}" if column in led else words
        return led

    @property
    def holds_scopes(self) -> bool:
        """Whether a row holds a set of scopes; its key then names none."""
        return not set(self.scope.columns) <= set(self.key)

    @property
    def needs_values(self) -> bool:
        """Whether a row without a value says nothing: a set of scopes, numbers that follow from other tables' rows."""
        return self.holds_scopes or bool(self.lookups)

    def scope_of(self, key: Key) -> tuple[Any, ...]:
        """Return the scope that a key belongs to."""
        return self.scope.of(dict(zip(self.key, key, strict=True)))
