"""A preview in the learner's terms: what each account has of each course, group or program, and what results.

The terms are data of the rules. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from account_merge.rules import TableRule, rule_for
from account_merge.table_merge import TableMerge
from account_merge.terms import Term

#: Rows of one account and table that are counted at most.
MOST = 200_000


@dataclass
class Line:
    """One term of one place.

    :param sources: source account -> its number.
    """

    term: Term
    sources: dict[str, float] = field(default_factory=dict)
    target: float = 0
    result: float = 0

    @property
    def kept(self) -> bool:
        """Whether the result has no less than each account had."""
        return self.result >= max(self.target, *self.sources.values(), 0)


@dataclass
class Balance:
    """Place (kind and values) -> term's words -> line. `complete` false: an account has more rows than are counted."""

    places: dict[tuple[str, tuple[Any, ...]], dict[str, Line]] = field(default_factory=dict)
    complete: bool = True

    @property
    def lost(self) -> list[Line]:
        """Lines whose result is less than what an account had."""
        return [line for lines in self.places.values() for line in lines.values() if not line.kept]


def weigh(works: Mapping[str, TableMerge], target: str) -> Balance:
    """The balance of a merge that is only planned.

    :param works: table -> what the merge plans for it.
    :param target: the account that the merge writes to.
    """
    found = Balance()
    for table, work in works.items():
        if (rule := rule_for(table)).terms:
            _weigh(found, work, rule, target)
    return found


def _weigh(found: Balance, work: TableMerge, rule: TableRule, target: str) -> None:
    def line(key: Any, term: Term) -> Line | None:
        known = dict(zip(rule.key, key, strict=True))
        if term.where and known.get(term.where[0]) != term.where[1]:
            return None
        place = (rule.belongs.kind, rule.belongs.of(known))
        return found.places.setdefault(place, {}).setdefault(term.words, Line(term))

    for row in _limited(found, work.found.rows(rule, target)):
        for term in rule.terms:
            if held := line(row.key, term):
                number = float(term.count(row.values))
                held.target += number
                held.result += number
    for change, _ in _limited(found, work.plan()):
        for term in rule.terms:
            if not (held := line(change.key, term)):
                continue
            for account, values in change.sources.items():
                held.sources[account] = held.sources.get(account, 0) + float(term.count(values))
            before = 0 if change.before is None else float(term.count(change.before))
            after = change.after
            held.result += (0 if after is None else float(term.count(after))) - before


def _limited(found: Balance, stream: Iterator[Any]) -> Iterator[Any]:
    yield from islice(stream, MOST)
    if next(stream, None) is not None:
        found.complete = False
