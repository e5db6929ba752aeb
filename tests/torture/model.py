"""What learners earned, as plain facts: pure Python that knows nothing of the rules under test.

An account is a mapping of facts, `(kind, …) -> number`. What several accounts hold together is the sum where every unit
counts (views, completions) and the best elsewhere; a thing that is there once is a fact of value 1. A survivor's rows
are read back as the same facts, so that lost and doubled are less and more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Fact = tuple[str, ...]
Facts = dict[Fact, float]
#: Kinds whose units add up; all others take the best.
SUMS = frozenset({"views", "completions"})
#: Kinds that follow from others, from least to most: what lies between is right (the platform aggregates late).
BOUNDS = frozenset({"finished", "attempts count"})
STATUS_DONE = 2


@dataclass
class Account:
    """One account: what it earned itself, every write acknowledged.

    :param open_totals: views whose last write had no answer, or came while a merge may have been at the same cell.
    :param late: something was written to it after its merge was asked for.
    """

    id: str
    facts: Facts = field(default_factory=dict)
    open_totals: set[Fact] = field(default_factory=set)
    late: bool = False


def together(several: Iterable[Mapping[Fact, float]]) -> Facts:
    """What accounts hold together: each unit once, of everything else the best."""
    result: Facts = {}
    for facts in several:
        for fact, value in facts.items():
            known = result.get(fact)
            result[fact] = value if known is None else known + value if fact[0] in SUMS else max(known, value)
    for course in {fact[1] for fact in result if fact[0] == "enrolled"}:
        done = (v for f, v in result.items() if f[:2] == ("content", course))
        result["progress", course] = sum(v == STATUS_DONE for v in done)
    return result


@dataclass(frozen=True)
class Difference:
    """One fact that is not as the model has it."""

    kind: str  # lost or doubled
    fact: Fact
    expected: float
    found: float

    def __str__(self) -> str:
        return f"{' '.join(self.fact)}: expected {self.expected:g}, found {self.found:g}"


def differences(low: Facts, high: Facts, found: Facts) -> list[Difference]:
    """What is less than `low` or more than `high` (equal unless the history leaves both open)."""
    result = []
    for fact in sorted({*low, *high, *found}):
        value, least, most = found.get(fact, 0), low.get(fact, 0), high.get(fact, 0)
        if fact[0] in BOUNDS:
            most = max(most, _most(fact, high))
        if value < least:
            result.append(Difference("lost", fact, least, value))
        elif value > most:
            result.append(Difference("doubled", fact, most, value))
    return result


def _most(fact: Fact, facts: Facts) -> float:
    """As many finished lessons of a course, or attempts at a test, as there are by their own rows."""
    if fact[0] == "finished":
        return sum(v == STATUS_DONE for f, v in facts.items() if f[:2] == ("status", fact[1]))
    return sum(1 for f in facts if f[:3] == ("attempt", *fact[1:]))
