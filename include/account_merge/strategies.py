"""The column algebra: pure functions that say what two values of one column become.

Every strategy is idempotent over rows that were already merged (totals through the ledger), a null gives way to a
value, and `revert` is its inverse for undo.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Combine = Callable[[Any, Any], Any]
Revert = Callable[[Any, Any, Any], Any]


def revert_value(before: Any, after: Any, now: Any) -> Any:
    """The value before, when nobody wrote since; else what is there now."""
    return before if now == after else now


def revert_elements(before: Any, after: Any, now: Any) -> Any:
    """A map or set with each element that the merge put taken back, and each that came later kept."""
    before, after, now = before or {}, after or {}, now or {}
    if isinstance(now, Mapping):
        kept = {k: v for k, v in now.items() if k not in after or v != after[k]}
        back = {k: v for k, v in before.items() if k not in kept and (k in now or k not in after)}
        return {**back, **kept} or None
    return (set(now) - (set(after) - set(before))) or None


def revert_list(before: Any, after: Any, now: Any) -> Any:
    """A list without the elements that the merge put, in the order that it has now; those it replaced are put back."""
    if now == after:
        return before
    had, put = before or [], after or []
    added = [element for element in put if element not in had]
    kept = [element for element in now or [] if element not in added]
    return kept + [element for element in had if element not in put and element not in kept] or None


def revert_total(before: Any, after: Any, now: Any) -> Any:
    """The number that is there now, less exactly what the merge added to it; never below zero."""
    if now is None or now == after:
        return before
    return max(0, now - ((after or 0) - (before or 0)))


@dataclass(frozen=True)
class Strategy:
    """How one column of two rows becomes one value.

    :param name: what people read in reports, docs and rules.
    :param why: one sentence for the report.
    :param combine: of two non-null values; the first is the target's (or what came before).
    :param commutative: the order of the rows does not matter.
    :param ledger: a total: the source's value is not combined but only what the source has not yet given is added.
    :param gap: what becomes of the other row's value where the first has none; by default it fills the gap.
    :param switch: a state that people turn on and off: what they did last says more than what either row shows.
    """

    name: str
    why: str
    combine: Combine = field(repr=False)
    commutative: bool = True
    ledger: bool = False
    revert: Revert = field(default=revert_value, repr=False)
    gap: Callable[[Any], Any] = field(default=lambda other: other, repr=False)
    switch: bool = False

    def merge(self, mine: Any, other: Any) -> Any:
        """Both values' result; a null (or an empty collection) gives way, as far as `gap` lets it."""
        if other is None or other == {} or other == []:
            return mine
        if mine is None or mine == {} or mine == []:
            return self.gap(other)
        return self.combine(mine, other)


maximum = Strategy("maximum", "the greater value stands", max)
minimum = Strategy("minimum", "the smaller value stands", min)
latest = Strategy("latest", "the later time stands", max)
earliest = Strategy("earliest", "the earlier time stands", min)
either = Strategy("either", "true when either account has it", lambda a, b: a or b, switch=True)
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
    lambda a, b: a + b,
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


_TEXT_FORMS = (
    *("%Y-%m-%d %H:%M:%S:%f%z", "%Y-%m-%d %H:%M:%S.%f%z", "%Y-%m-%d %H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"),
    *("%Y-%m-%d %H:%M:%S:%f", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"),
)


def instant(value: Any, time_zone: str = "Asia/Kolkata") -> datetime | None:
    """The moment that a timestamp or one of the platform's text times names; None when it cannot be read.

    The platform writes `yyyy-MM-dd HH:mm:ss:SSSZ` (a colon before the milliseconds, a zone like +0530).
    A text without a zone is read in `time_zone` (the platform's `sunbird_time_zone`). To the millisecond, in UTC: what a
    timestamp column can hold.
    """
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if not isinstance(value, str):
        return None
    from zoneinfo import ZoneInfo

    text = value.strip()
    for form in _TEXT_FORMS:
        try:
            read = datetime.strptime(text, form)
            moment = (read if read.tzinfo else read.replace(tzinfo=ZoneInfo(time_zone))).astimezone(UTC)
        except (ValueError, OverflowError):  # not this form; or a moment that UTC cannot name
            continue
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return None


def _pick_text(better: Callable[[datetime, datetime], bool]) -> Combine:
    def pick(mine: str, other: str) -> str:
        a, b = instant(mine), instant(other)
        if a is None or b is None:
            return other if a is None and (b is not None or other > mine) else mine
        if a == b:
            return max(mine, other)
        return mine if better(a, b) else other

    return pick


latest_text = Strategy("latest_text", "the later moment stands, as it was written", _pick_text(lambda a, b: a > b))
earliest_text = Strategy(
    "earliest_text", "the earlier moment stands, as it was written", _pick_text(lambda a, b: a < b)
)


def highest(*ranks: str) -> Strategy:
    """The word that comes later in `ranks` stands; a word that is none of them is below all."""

    def rank(word: str) -> tuple[int, str]:
        return (ranks.index(word) if word in ranks else -1, word)

    words = " over ".join(reversed(ranks))
    return Strategy(f"highest({words})", words, lambda a, b: max(a, b, key=rank))


def same_by(*keys: str) -> Callable[[Mapping[str, Any], Mapping[str, Any]], bool]:
    """Whether two maps mean one thing: by the first of `keys` that both have, else as a whole."""

    def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
        for key in keys:
            if a.get(key) and b.get(key):
                return bool(a[key] == b[key])
        return a == b

    return same


def union_by(*keys: str, newer: str = "") -> Strategy:
    """A list of maps united: two elements are the same by the first of `keys` that both have, else as a whole.

    Of two forms of one element the one with the greater `newer` field stands; a key that only the other has is kept.
    """
    same = same_by(*keys)

    def combine(mine: Sequence[Any], other: Sequence[Any]) -> list[Any]:
        united = list(mine)
        for element in other:
            if element in united:
                continue
            at = next((i for i, have in enumerate(united) if same(have, element)), None)
            if at is None:
                united.append(element)
                continue
            have = united[at]
            later = newer and (element.get(newer) or "") > (have.get(newer) or "")
            stands, falls = (element, have) if later else (have, element)
            united[at] = {**stands, **{k: falls[k] for k in keys if falls.get(k) and not stands.get(k)}}
        return united

    return Strategy(
        f"union_by({', '.join(keys)})",
        f"united by {', else '.join(keys)}",
        combine,
        commutative=False,
        revert=revert_list,
    )


def _details(mine: Sequence[str], other: Sequence[str]) -> list[str]:
    """Attempt details (JSON texts) united by attempt; of one attempt the later text by its own `last_attempted_on`."""
    united: list[str] = list(mine)
    at: dict[str, int] = {}
    for index, text in enumerate(united):
        have = at.setdefault(_identity(text), index)
        if _attempted(text) > _attempted(united[have]):
            at[_identity(text)] = index
    for text in other:
        index = at.setdefault(_identity(text), len(united))
        if index == len(united):
            united.append(text)
        elif _attempted(text) > _attempted(united[index]):
            united[index] = text
    return united


def _identity(text: str) -> str:
    attempt = attempt_of(text)
    return json.dumps([attempt["attempt_id"], attempt.get("content_id")]) if attempt.get("attempt_id") else text


def attempt_of(text: str) -> dict[str, Any]:
    """The fields of one attempt's JSON text; empty when it is no JSON object."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _attempted(text: str) -> str:
    stamp = str(attempt_of(text).get("last_attempted_on") or "")
    for form in ("%b %d, %Y, %I:%M:%S %p", "%b %d, %Y %I:%M:%S %p"):  # Gson's default date, JDK 9+ and before
        try:
            return datetime.strptime(stamp.replace("\u202f", " "), form).isoformat()
        except ValueError:
            continue
    return stamp


union_of_attempts = Strategy(
    "union_of_attempts", "every attempt of either account, each once", _details, commutative=False, revert=revert_list
)


def per_key(patterns: Mapping[str, Strategy]) -> Strategy:
    """A map combined key by key, each by the strategy of the first pattern that matches; no key is ever dropped."""

    def combine(mine: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
        result = dict(mine)
        for key, value in other.items():
            strategy = next((s for pattern, s in patterns.items() if fnmatch.fnmatchcase(key, pattern)), keep_target)
            result[key] = strategy.merge(result.get(key), value)
        return result

    words = ", ".join(f"{pattern}: {strategy.name}" for pattern, strategy in patterns.items())
    return Strategy(f"per_key({words})", f"key by key ({words})", combine, revert=revert_elements)
