"""Values as Cassandra holds them: one that Python cannot hold keeps its bytes, and NaN equals itself. Pure, no driver."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import total_ordering
from typing import Any

#: Types whose values can always be used.
_SOUND = frozenset({str, int, bool, bytes, datetime, uuid.UUID, type(None)})
#: Types whose values the core holds as the driver gives them.
PLAIN = _SOUND - {datetime}
_NAMED = 3  # parts of one column that a note names; the rest are counted


@total_ordering
class Unreadable:
    """A stored value that Python cannot hold: equal by its bytes, written back as these bytes, never combined.

    :param why: the kind of value, in words that tell no value.
    :param rank: how Cassandra sorts it: -1 before every value of its type, 1 behind, 0 by the bytes (texts).
    """

    __slots__ = ("data", "rank", "why")

    def __init__(self, data: bytes, why: str, rank: int = 0) -> None:
        self.data, self.why, self.rank = data, why, rank

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unreadable) and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.data)

    def __lt__(self, other: Any) -> bool:
        if isinstance(other, Unreadable):
            return (self.rank, self.data) < (other.rank, other.data)
        return self.rank < 0 or (not self.rank and isinstance(other, str) and self.data < other.encode())

    def __repr__(self) -> str:
        return f"unreadable 0x{self.data.hex()}"


class NotANumber(float):
    """NaN as Cassandra compares it: equal to itself, behind every number."""

    def __new__(cls) -> NotANumber:
        """Make a NaN."""
        return super().__new__(cls, math.nan)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and math.isnan(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(NotANumber)

    def __lt__(self, other: object) -> bool:
        return False

    def __le__(self, other: object) -> bool:
        return self == other

    def __gt__(self, other: object) -> bool:
        return self != other

    def __ge__(self, other: object) -> bool:
        return True


NAN = NotANumber()
#: A part of a key that is there and holds no byte; the driver gives None for it, and a key has no null.
EMPTY = Unreadable(b"", "an empty value", -1)


class FrozenMap(dict[Any, Any]):
    """A map that is itself a key of a map or an element of a set."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def plain(value: Any) -> Any:
    """Return the driver's value as the core holds it: dict, list, set; NaN equal to itself; a time to the millisecond."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, float):
        return NAN if value != value else value
    if isinstance(value, datetime):
        # The driver computes with floats: from about the year 2500 on its milliseconds are a few microseconds off.
        off = value.microsecond % 1000
        return value + timedelta(microseconds=(1000 - off) if off >= 500 else -off) if off else value
    if isinstance(value, Mapping) or type(value).__name__.startswith("OrderedMap"):
        return {hashable(k): plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, set | frozenset) or type(value).__name__ in ("SortedSet", "sortedset"):
        return {hashable(v) for v in value}
    if isinstance(value, tuple):
        return _tuple(value, map(plain, value))
    return value


def _tuple(like: tuple[Any, ...], items: Iterator[Any]) -> tuple[Any, ...]:
    """Return the same kind of tuple: a user-defined type is one with names."""
    return type(like)(*items) if hasattr(like, "_asdict") else tuple(items)


def hashable(value: Any) -> Any:
    """Return a value that can be the key of a dict: collections in it become immutable."""
    value = plain(value)
    if isinstance(value, Mapping):
        return FrozenMap({k: hashable(v) for k, v in value.items()})
    if isinstance(value, list):
        return tuple(map(hashable, value))
    if isinstance(value, set):
        return frozenset(value)
    if isinstance(value, tuple):
        return _tuple(value, map(hashable, value))
    return value


def key_part(value: Any) -> Any:
    """Return a part of a key as the core holds it."""
    return value if type(value) is str else EMPTY if value is None else hashable(value)


def sound(value: Any) -> bool:
    """Whether all of a value can be used: no NaN and nothing unreadable is in it."""
    if type(value) in _SOUND:
        return True
    if isinstance(value, float):
        return not math.isnan(value)
    if isinstance(value, Mapping):
        return all(map(sound, value)) and all(map(sound, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(sound, value))
    return not isinstance(value, Unreadable)


def all_sound(values: Mapping[str, Any]) -> bool:
    """Whether all values of a row can be used."""
    return _SOUND.issuperset(map(type, values.values())) or all(map(sound, values.values()))


def usable(value: Any) -> Any:
    """Return the usable part of a value: the sound elements of a collection, else the value, or None."""
    if sound(value):
        return value
    if isinstance(value, Mapping):
        return {k: v for k, v in value.items() if sound(k) and sound(v)} or None
    if isinstance(value, set | frozenset):
        return {v for v in value if sound(v)} or None
    return [v for v in value if sound(v)] or None if isinstance(value, list) else None


def usable_row(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without the values that cannot be used."""
    if all_sound(values):
        return {column: value for column, value in values.items() if value is not None}
    kept = ((column, usable(value)) for column, value in values.items())
    return {column: value for column, value in kept if value is not None}


def rejoined(merged: Any, whole: Any) -> Any:
    """Return a merged value with the parts of `whole` that could not be used: they stay where they were."""
    if sound(whole):
        return merged
    if merged == usable(whole):
        return whole
    if isinstance(whole, Mapping):
        return {**{k: v for k, v in whole.items() if not (sound(k) and sound(v))}, **(merged or {})}
    if isinstance(whole, set | frozenset):
        return {*(v for v in whole if not sound(v)), *(merged or ())}
    if isinstance(whole, list):
        return [*(merged or ()), *(v for v in whole if not sound(v))]
    return whole if merged is None else merged


def faults(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (column or its part, why) of each value of a row that cannot be used."""
    for column, value in () if all_sound(values) else sorted(values.items()):
        if not sound(value):
            found = list(_parts(column, value))
            yield from found[:_NAMED]
            if len(found) > _NAMED:
                yield f"{len(found) - _NAMED} more parts of {column}", found[-1][1]


def _parts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, held in value.items():
            yield from _parts(f"{name}[{_label(key)}]", held if sound(key) else key)
    elif isinstance(value, list | tuple | set | frozenset):
        for held in value:
            yield from _parts(name, held)
    elif not sound(value):
        yield name, value.why if isinstance(value, Unreadable) else "it is not a number (NaN)"


def _label(key: Any) -> str:
    try:
        return repr(key)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a long number"
