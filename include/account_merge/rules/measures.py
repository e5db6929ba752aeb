"""What a learner has a number of: how one row of a table counts, and what two accounts have of it together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from account_merge.model import Values
from account_merge.rules.strategies import same_by
from account_merge.values import usable_row

#: What one row has of a term, by the name of each part: of a sum the part is a column, of a set an element.
Parts = Mapping[Hashable, float]


@dataclass(frozen=True)
class Measure:
    """One thing that a learner has a number of.

    :param parts: what one row has of it.
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
        """Return what one row has of it; what cannot be used counts nothing."""
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
    """All parts added up."""
    return float(sum(parts.values()))


def each(values: Values) -> Parts:
    """Each row is one."""
    return {"row": 1.0}


def number(column: str) -> Callable[[Values], Parts]:
    """Return the number in a column."""
    return lambda values: {column: value} if (value := _real(values.get(column))) else {}


def shows(column: str, value: object) -> Callable[[Values], Parts]:
    """Each row that shows this value is one."""
    return lambda values: {"row": 1.0} if values.get(column) == value else {}


def elements(*columns: str) -> Callable[[Values], Parts]:
    """Each element of these columns, a map of texts, is one."""

    def parts(values: Values) -> Parts:
        return {(c, tuple(sorted(e.items()))): 1.0 for c in columns for e in values.get(c) or ()}

    return parts


def same_elements(*keys: str) -> Callable[[Any, Any], bool]:
    """Two elements of one column are the same as the strategy `union_by` with these keys says."""
    same = same_by(*keys)
    return lambda one, other: one[0] == other[0] and same(dict(one[1]), dict(other[1]))


def entries(prefix: str, *columns: str) -> Callable[[Values], Parts]:
    """Return the entries of maps whose key begins so; of an entry that several columns have, the last column's."""

    def parts(values: Values) -> Parts:
        found = {k: _real(v) for column in columns for k, v in (values.get(column) or {}).items()}
        return {key: value for key, value in found.items() if key.startswith(prefix) and value}

    return parts


def _real(value: Any) -> float:
    """Return a number; null and NaN are none."""
    found = float(value or 0)
    return found if found == found else 0.0
