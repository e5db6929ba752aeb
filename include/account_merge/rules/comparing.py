"""How values of one column are put in order: total orders over anything that a column can hold. Never raises. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from account_merge.rules.moments import believable, instant, usual

#: Compares with any other rank, and so gives values of all types one order.
Rank = tuple[Any, ...]
#: Types whose values are neither null, NaN nor a collection.
ATOMS = frozenset({str, int, bool, datetime})


def number(value: Any) -> Any:
    """Return the value when it is a number, infinity included; None for NaN and for everything else."""
    if type(value) is int:
        return value
    if isinstance(value, Decimal):
        return None if value.is_nan() else value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return None if isinstance(value, float) and math.isnan(value) else value
    return None


def like(example: Any, found: Any) -> Any:
    """Return a number as the type of another one; what an integer cannot be (infinity) stays that other one."""
    if not isinstance(example, int | float):
        return found
    try:
        return type(example)(found)
    except OverflowError:
        return math.copysign(math.inf, 1 if found > 0 else -1) if isinstance(example, float) else example


def weight(value: Any) -> int:
    """Return 2 for a value, 1 for NaN, and 0 for a null and an empty collection."""
    if type(value) in ATOMS:
        return 2
    if value is None or (isinstance(value, Mapping | list | tuple | set | frozenset) and not value):
        return 0
    return 1 if isinstance(value, float) and math.isnan(value) else 2


def size(value: Any) -> Rank:
    """Return the order of sizes: numbers over texts and times, these over any other value; NaN and null are below all."""
    if isinstance(value, bool) or number(value) is not None:
        return (3, value)
    if isinstance(value, str | bytes):
        return (2, type(value).__name__, value)
    if isinstance(value, date) and (moment := instant(value)) is not None:
        return (2, "time", moment)
    return (min(weight(value), 1), type(value).__name__, repr(value))


def time(value: Any) -> Rank:
    """Return the order of times: those that can be over those that cannot; a value from which no moment is read is below both."""
    moment = instant(value)
    if moment is None:
        return (0, size(value))
    return (2 if believable(moment) else 1, moment, size(value))


def least(one: Any, other: Any) -> Any:
    """Return the smaller of two numbers, texts or times; any other value, and NaN, gives way."""
    a, b = size(one), size(other)
    smaller = a <= b if a[0] == b[0] else a[0] > b[0]
    return one if smaller else other


def soonest(one: Any, other: Any) -> Any:
    """Return the earlier of two times; a time that cannot be gives way, and so does a value that is not a time."""
    if usual(one) and usual(other):
        return other if other < one else one
    a, b = time(one), time(other)
    if a[:-1] == b[:-1]:  # one moment in two forms, or no moment at all
        return max(one, other, key=time)
    return one if (a[0] > b[0] if a[0] != b[0] else a < b) else other
