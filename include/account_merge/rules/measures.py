"""Things that a learner has a number of: how one row of a table counts, and what two accounts have together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from account_merge.model import Values
from account_merge.rules.strategies import same_by
from account_merge.values import usable_row

#: A row's share of a measure, by the name of each part: the part of a sum is a column, that of a set an element.
Parts = Mapping[Hashable, float]


@dataclass(frozen=True)
class Measure:
    """One thing that a learner has a number of.

    :param parts: the share of one row.
    :param adds: two accounts' parts of one name add up. Otherwise the greater stands, and parts of different names unite.
    :param where: only rows whose key has this value in this column.
    :param same: whether two names mean one part; None: only equal ones do.
    """

    words: str
    parts: Callable[[Values], Parts]
    adds: bool = False
    where: tuple[str, str] | None = None
    same: Callable[[Any, Any], bool] | None = None

    def of(self, values: Values) -> Parts:
        """Return what one row has of it; a value that cannot be used counts as nothing."""
        return self.parts(usable_row(values))

    def together(self, sides: Sequence[Parts]) -> dict[Hashable, float]:
        """Return what accounts with these parts have together."""
        found: dict[Hashable, float] = {}
        for parts in sides:
            for name, number in parts.items():
                known = self.name_in(found, name)
                if known is None:
                    found[name] = number
                else:
                    found[known] = found[known] + number if self.adds else max(found[known], number)
        return found

    def name_in(self, parts: Parts, name: Hashable) -> Hashable | None:
        """Return the name under which `parts` have this part; None when they lack it."""
        if name in parts:
            return name
        same = self.same
        return next((other for other in parts if same(name, other)), None) if same is not None else None


def total(parts: Parts) -> float:
    """Return the sum of all parts."""
    return float(sum(parts.values()))


def each(values: Values) -> Parts:
    """Count each row as one."""
    return {"row": 1.0}


def number(column: str) -> Callable[[Values], Parts]:
    """Return the number in a column."""
    return lambda values: {column: value} if (value := _real(values.get(column))) else {}


def shows(column: str, value: object) -> Callable[[Values], Parts]:
    """Count each row that shows this value as one."""
    return lambda values: {"row": 1.0} if values.get(column) == value else {}


def elements(*columns: str) -> Callable[[Values], Parts]:
    """Count each element of these columns, a map of texts, as one."""

    def parts(values: Values) -> Parts:
        return {(c, tuple(sorted(e.items()))): 1.0 for c in columns for e in values.get(c) or ()}

    return parts


def same_elements(*keys: str) -> Callable[[Any, Any], bool]:
    """Compare two elements of one column as the strategy `union_by` with these keys does."""
    same = same_by(*keys)
    return lambda one, other: one[0] == other[0] and same(dict(one[1]), dict(other[1]))


def entries(prefix: str, *columns: str) -> Callable[[Values], Parts]:
    """Return the entries of maps whose key begins so; where several columns have an entry, the last column's."""

    def parts(values: Values) -> Parts:
        found = {k: _real(v) for column in columns for k, v in (values.get(column) or {}).items()}
        return {key: value for key, value in found.items() if key.startswith(prefix) and value}

    return parts


def _real(value: Any) -> float:
    """Return a number; null and NaN count as 0."""
    found = float(value or 0)
    return found if found == found else 0.0
