"""Columns that follow from others: each function looks at all rows of one key and corrects the merged row.

A derivation is pure and may only raise what the strategies gave, or choose between the rows' own values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from account_merge.model import Values
from account_merge.strategies import attempt_of, instant

#: evidence name -> account -> what that account's stored rows of another table show
Evidence = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Side:
    """One account's row of the key at hand; the target is the side with `target` true."""

    account: str
    values: Values
    target: bool = False


@dataclass(frozen=True)
class Derivation:
    """A rule about several columns of one row.

    :param columns: the columns that it may change, for docs and reports.
    :param why: one sentence for the report.
    :param apply: (sides, merged values, evidence) -> columns to set.
    """

    columns: tuple[str, ...]
    why: str
    apply: Callable[[Sequence[Side], Values, Evidence], Values] = field(repr=False)


def _order(sides: Sequence[Side]) -> list[Side]:
    return sorted(sides, key=lambda s: (not s.target, s.account))


def follow(lead: str, columns: tuple[str, ...], first: bool = False) -> Derivation:
    """`columns` come from the row whose `lead` is the greatest (`first`: the least); a gap is filled from the next."""

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        led = [s for s in _order(sides) if s.values.get(lead) is not None]
        led.sort(key=lambda s: s.values[lead], reverse=not first)
        ranked = led + [s for s in _order(sides) if s not in led]
        return {c: next((s.values[c] for s in ranked if s.values.get(c) is not None), None) for c in columns}

    return Derivation(columns, f"comes with the {'least' if first else 'greatest'} {lead}", apply)


def twins(timestamp: str, text: str, first: bool = False) -> Derivation:
    """A timestamp column and its older text form: the timestamp shows the latest (`first`: earliest) moment of both.

    A form that no account has stays null; a text stays as somebody wrote it; an unreadable text loses.
    """

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        if all(s.values.get(timestamp) is None for s in sides):
            return {}
        moments = [m for s in sides for c in (timestamp, text) if (m := instant(s.values.get(c))) is not None]
        best = (min if first else max)(moments)
        return {timestamp: best.replace(tzinfo=None) if best.utcoffset() is None else _utc(best)}

    return Derivation((timestamp,), f"the {'earliest' if first else 'latest'} moment of {timestamp} and {text}", apply)


def _utc(moment: Any) -> Any:
    from datetime import UTC

    return moment.astimezone(UTC).replace(tzinfo=None)


def count_of(column: str, counted: str, value: int) -> Derivation:
    """`column` counts the elements of the map `counted` that equal `value`, where each side's own number does so too."""

    def number(values: Values) -> int:
        return sum(1 for v in (values.get(counted) or {}).values() if v == value)

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        known = [s for s in sides if s.values.get(column) is not None]
        if not known or any(s.values[column] != number(s.values) for s in known):
            return {}
        return {column: max(number(merged), *(s.values[column] for s in known))}

    return Derivation((column,), f"number of finished items in the united {counted}", apply)


def best_score(column: str) -> Derivation:
    """`score:X` is the best of all sides, and `max_score:X` is the one that belongs to it."""

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        result = dict(merged.get(column) or {})
        for key in [k for k in result if k.startswith("score:")]:
            content = key.removeprefix("score:")
            pairs = [
                (m[key], m.get(f"max_score:{content}") or 0.0)
                for s in sides
                if (m := s.values.get(column) or {}).get(key) is not None
            ]
            score, out_of = max(pairs)
            result[key] = score
            if out_of:
                result[f"max_score:{content}"] = out_of
        return {column: result} if result else {}

    return Derivation((column,), "best score with its own maximum", apply)


def union_count(column: str, key: str, evidence_name: str) -> Derivation:
    """The number under `key` is the size of the union of what both accounts finished, where that is proved.

    Proved: each side's stored number equals that account's own number of finished items (with or without the items
    that merges brought it). Never below either side's number.
    """

    def proved(stored: float, finished: frozenset[str], brought: frozenset[str]) -> bool:
        return stored in (len(finished), len(finished - brought))

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        result = merged.get(column) or {}
        finished, brought = evidence.get(evidence_name, {}), evidence.get("brought", {})
        stored = {s.account: number for s in sides if (number := (s.values.get(column) or {}).get(key)) is not None}
        # A target without a number has finished lessons all the same: left out, the next merge would add them.
        own = {s.account: frozenset(finished.get(s.account, ())) for s in sides if s.account in stored or s.target}
        if not stored or not all(proved(stored[a], own[a], frozenset(brought.get(a, ()))) for a in stored):
            return {}
        union = frozenset().union(*own.values())
        return {column: {**result, key: type(result[key])(max(len(union), *stored.values()))}}

    return Derivation((column,), "union of the lessons that both finished", apply)


def attempts_count(column: str, details: str, evidence_name: str) -> Derivation:
    """`attempts_count:X` counts the distinct attempts known for X; never below either side's number."""

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        result = dict(merged.get(column) or {})
        named: dict[str, set[str]] = {}
        for text in merged.get(details) or []:
            attempt = attempt_of(text)
            if attempt.get("content_id") and attempt.get("attempt_id"):
                named.setdefault(str(attempt["content_id"]), set()).add(str(attempt["attempt_id"]))
        for attempts in evidence.get(evidence_name, {}).values():
            for content, attempt_id in attempts:
                named.setdefault(content, set()).add(attempt_id)
        for key in [k for k in result if k.startswith("attempts_count:")]:
            result[key] = type(result[key])(max(result[key], len(named.get(key.removeprefix("attempts_count:"), ()))))
        return {column: result} if result else {}

    return Derivation((column,), "distinct attempts known for the assessment", apply)
