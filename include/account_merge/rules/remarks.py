"""Remarks: sentences for the report about a merged row; a remark changes nothing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from account_merge.model import Values
from account_merge.rules.moments import CANNOT_BE, cannot_be, usual
from account_merge.rules.strategies import Strategy


@dataclass(frozen=True)
class Remark:
    """A remark about one column.

    :param column: the note is made when the merge writes this column.
    :param apply: the merged value -> sentences.
    """

    column: str
    apply: Callable[[Any], Sequence[str]] = field(repr=False)


def same_name(column: str) -> Remark:
    """Remark that two elements of one name both stay: they may be one certificate that was issued twice, or two."""

    def apply(value: Any) -> list[str]:
        elements = [element for element in value or [] if isinstance(element, Mapping)]
        names = [str(element.get("name")) for element in elements if element.get("name")]
        twice = sorted({name for name in names if names.count(name) > 1})
        return [
            f"{column}: {names.count(name)} named {name!r} stay; they may be one that was issued again"
            for name in twice
        ]

    return Remark(column, apply)


def doubts(timed: Mapping[str, Strategy], whose: str, values: Values) -> Iterator[str]:
    """Name each column of a row that holds a time which cannot be, so that it decides nothing; no value is told.

    :param timed: the columns in which times decide, sorted.
    :param whose: the row, in words.
    :param values: all can be used (see `values.usable_row`).
    """
    for column, strategy in timed.items():
        value = values.get(column)
        if value is not None and not usual(value) and any(map(cannot_be, strategy.times(value))):
            yield f"{column}: {whose} has {CANNOT_BE}; it counts as no time"
