"""What a learner has a number of: how one row of a table counts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from account_merge.model import Values


@dataclass(frozen=True)
class Term:
    """One thing that a learner has a number of.

    :param where: only rows whose key has this value in this column.
    """

    words: str
    count: Callable[[Values], float]
    where: tuple[str, str] | None = None


def each(values: Values) -> float:
    """Each row is one."""
    return 1


def number(column: str) -> Callable[[Values], float]:
    """What a column says."""
    return lambda values: float(values.get(column) or 0)


def shows(column: str, value: object) -> Callable[[Values], float]:
    """Each row that shows this value."""
    return lambda values: values.get(column) == value


def elements(*columns: str) -> Callable[[Values], float]:
    """The elements of these columns."""
    return lambda values: float(sum(len(values.get(column) or ()) for column in columns))


def entries(prefix: str, *columns: str) -> Callable[[Values], float]:
    """The entries of maps whose key begins so, added up; of an entry that several have, the last column's."""

    def count(values: Values) -> float:
        found: Mapping[str, float] = {k: v for column in columns for k, v in (values.get(column) or {}).items()}
        return float(sum(value for key, value in found.items() if key.startswith(prefix)))

    return count
