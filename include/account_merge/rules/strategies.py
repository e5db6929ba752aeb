"""The column algebra: pure functions that make one value of two values of a column.

Every strategy is idempotent over rows that were already merged (totals through the ledger), a null gives way to NaN and
both to a value, and `revert` is its inverse for undo. No strategy raises an error, whatever a column of its type holds.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from account_merge.rules.comparing import ATOMS, least, number, size, soonest, time, weight
from account_merge.rules.moments import usual

#: Types of which two values compare as `size` ranks them.
_DIRECT = frozenset({str, int, bool})

Combine = Callable[[Any, Any], Any]
Revert = Callable[[Any, Any, Any], Any]


def revert_value(before: Any, after: Any, now: Any) -> Any:
    """Return the value before, when nobody wrote since; else what is there now."""
    return before if now == after else now


def goes_on(combine: Combine) -> Revert:
    """Return `revert_value`, but for a value that only went on from what was left there: it keeps the better of both.

    The platform may go on with a row while a merge is undone. When the merge stands again, nothing of either is lost.
    """

    def revert(before: Any, after: Any, now: Any) -> Any:
        if now == after:
            return before
        went_on = before is not None and now is not None and (after is None or combine(after, now) == now)
        return combine(before, now) if went_on else now

    return revert


def revert_elements(before: Any, after: Any, now: Any) -> Any:
    """Return a set with each element that the merge put taken back, each that it took put back, and later ones kept."""
    before, after, now = set(before or ()), set(after or ()), set(now or ())
    return (now - (after - before)) | (before - after) or None


def revert_list(before: Any, after: Any, now: Any) -> Any:
    """Return a list without the elements that the merge put, in the order that it has now; those it replaced are put back."""
    if now == after:
        return before
    had, put = before or [], after or []
    added = [element for element in put if element not in had]
    kept = [element for element in now or [] if element not in added]
    return kept + [element for element in had if element not in put and element not in kept] or None


def revert_total(before: Any, after: Any, now: Any) -> Any:
    """Return the number that is there now, less exactly what the merge added to it; never below zero."""
    if now is None or now == after:
        return before
    return now if number(now) is None else max(0, now - ((number(after) or 0) - (number(before) or 0)))


def no_times(value: Any) -> Iterable[Any]:
    """Return nothing, for a column in which no time decides."""
    return ()


@dataclass(frozen=True)
class Strategy:
    """How one column of two rows becomes one value.

    :param name: what people read in reports, docs and rules.
    :param why: one sentence for the report.
    :param combine: of two non-null values; the first is the target's (or what came before).
    :param commutative: the order of the rows does not matter.
    :param ledger: a total: the source's value is not combined but only what the source has not yet given is added.
    :param gap: the result of the other row's value where the first has none; by default it fills the gap.
    :param revert: (the value before, what was left there, what is there now) -> the value without what was put.
    :param switch: a state that people turn on and off: their last action says more than either row shows.
    :param times: the times in a value that decide what stands; those that cannot be are named in the report.
    """

    name: str
    why: str
    combine: Combine = field(repr=False)
    commutative: bool = True
    ledger: bool = False
    revert: Revert = field(default=revert_value, repr=False)
    gap: Callable[[Any], Any] = field(default=lambda other: other, repr=False)
    switch: bool = False
    times: Callable[[Any], Iterable[Any]] = field(default=no_times, repr=False)

    def merge(self, mine: Any, other: Any) -> Any:
        """Return both values' result. A null or an empty collection gives way, as far as `gap` lets it, and so does NaN."""
        if type(other) in ATOMS:
            if mine is None:
                return self.gap(other)
            if mine == other and type(mine) in ATOMS and not self.ledger:
                return mine
        held, found = weight(mine), weight(other)
        if not found or found < held:
            return mine
        return self.gap(other) if held < found else self.combine(mine, other)


def _later(mine: Any, other: Any) -> Any:
    if usual(mine) and usual(other):
        return other if other > mine else mine
    return max(mine, other, key=time)


def _sum(mine: Any, other: Any) -> Any:
    return mine if number(other) is None else other if number(mine) is None else mine + other


def _itself(value: Any) -> tuple[Any]:
    return (value,)


def _greater(mine: Any, other: Any) -> Any:
    if type(mine) is type(other) and type(mine) in _DIRECT:
        return other if other > mine else mine
    return max(mine, other, key=size)


def _ordered(name: str, why: str, combine: Combine, **more: Any) -> Strategy:
    return Strategy(name, why, combine, revert=goes_on(combine), **more)


maximum = _ordered("maximum", "the greater value stands", _greater)
minimum = _ordered("minimum", "the smaller value stands", least)
latest = _ordered("latest", "the later time stands", _later, times=_itself)
earliest = _ordered("earliest", "the earlier time stands", soonest, times=_itself)
latest_text = _ordered("latest_text", "the later moment stands, as it was written", _later, times=_itself)
earliest_text = _ordered("earliest_text", "the earlier moment stands, as it was written", soonest, times=_itself)
either = Strategy("either", "true when either account has it", _greater, switch=True)
keep_target = Strategy("keep_target", "the target's value stays; a gap is filled", lambda a, b: a, commutative=False)
keep_target_fill_gaps = Strategy(
    "keep_target_fill_gaps",
    "no rule knows this column: the target's stays, a gap is filled",
    lambda a, b: a,
    commutative=False,
)
total = Strategy(
    "total",
    "what the source has not yet handed on is added",
    _sum,
    ledger=True,
    revert=revert_total,
)
union = Strategy("union", "every element of either account", lambda a, b: set(a) | set(b), revert=revert_elements)
consent = Strategy(
    "consent",
    "consent is never switched on by a merge: the target's stays, and what moves is off",
    lambda a, b: a,
    commutative=False,
    gap=lambda other: False,
)
goes_with = Strategy(
    "goes_with",
    "belongs to the row that stands, and fills no gap of another",
    lambda a, b: a,
    commutative=False,
    gap=lambda other: None,
)
follows = Strategy("follows", "comes with the row whose leading column won", lambda a, b: a, commutative=False)


def highest(*ranks: str) -> Strategy:
    """Keep the word that comes later in `ranks`; an unknown word is below all."""

    def rank(word: Any) -> tuple[Any, ...]:
        return (ranks.index(word) if word in ranks else -1, size(word))

    words = " over ".join(reversed(ranks))
    return Strategy(f"highest({words})", words, lambda a, b: max(a, b, key=rank), switch=True)


def same_by(*keys: str) -> Callable[[Any, Any], bool]:
    """Whether two maps mean one thing: by the first of `keys` that both have, else as a whole."""

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            for key in keys:
                if a.get(key) and b.get(key):
                    return bool(a[key] == b[key])
        return bool(a == b)

    return same


@dataclass(frozen=True)
class _United:
    """Elements of lists, united by their keys; `newer` names the time by which one form of an element stands."""

    keys: tuple[str, ...]
    newer: str

    def combine(self, mine: Sequence[Any], other: Sequence[Any]) -> list[Any]:
        united, before = self._once(list(mine), other), None
        while united != before:  # an element may join another only once that has taken over a key of a third
            united, before = self._once(united, other), united
        return united

    def times(self, value: Sequence[Any]) -> Iterator[Any]:
        yield from (element.get(self.newer) for element in value if isinstance(element, Mapping))

    def _once(self, united: list[Any], other: Sequence[Any]) -> list[Any]:
        same = same_by(*self.keys)
        for element in other:
            if element in united:
                continue
            at = next((i for i, have in enumerate(united) if same(have, element)), len(united))
            joined = self._joined(united[at], element) if at < len(united) else element
            united = [*united[:at], joined, *united[at + 1 :]]
        return united

    def _joined(self, have: Any, element: Any) -> Any:
        if not isinstance(have, Mapping) or not isinstance(element, Mapping):
            return have
        later = self.newer and time(element.get(self.newer)) > time(have.get(self.newer))
        stands, falls = (element, have) if later else (have, element)
        return {**stands, **{k: falls[k] for k in self.keys if falls.get(k) and not stands.get(k)}}


def union_by(*keys: str, newer: str = "") -> Strategy:
    """Unite lists of maps: two elements are the same by the first of `keys` that both have, else as a whole.

    Two forms of one element: the one with the later time in `newer` stands, and a key that only the other has is kept.
    """
    united = _United(keys, newer)
    return Strategy(
        f"union_by({', '.join(keys)})",
        f"united by {', else '.join(keys)}",
        united.combine,
        commutative=False,
        revert=revert_list,
        times=united.times,
    )


def per_key(patterns: Mapping[str, Strategy]) -> Strategy:
    """Combine a map key by key, each by the strategy of the first pattern that matches; no key is ever dropped."""

    def by(key: Any) -> Strategy:
        found = (s for pattern, s in patterns.items() if isinstance(key, str) and fnmatch.fnmatchcase(key, pattern))
        return next(found, keep_target)

    def combine(mine: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
        result = dict(mine)
        for key, value in other.items():
            found = by(key).merge(result.get(key), value)
            if found is not None:
                result[key] = found
        return result

    def times(value: Mapping[str, Any]) -> Iterator[Any]:
        for key, held in value.items():
            yield from by(key).times(held)

    def revert(before: Any, after: Any, now: Any) -> Any:
        sides = [side or {} for side in (before, after, now)]
        keys = dict.fromkeys(key for side in sides for key in side)
        found = {key: by(key).revert(*(side.get(key) for side in sides)) for key in keys}
        return {key: value for key, value in found.items() if value is not None} or None

    words = ", ".join(f"{pattern}: {strategy.name}" for pattern, strategy in patterns.items())
    return Strategy(f"per_key({words})", f"key by key ({words})", combine, revert=revert, times=times)
