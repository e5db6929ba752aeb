"""One row replayed without a merge: what it would be if only the merges that stand had touched it. Pure.

Everything that we ever wrote to the row is known from the logs, in order; what the platform wrote in between shows as
the difference between what we left and what we found. The replay starts at what the row was before any merge, carries
the platform's writes over, and lets only the standing merges bring their sources' rows again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from account_merge.derive import Evidence, Side
from account_merge.model import Change, Key, Values, Write
from account_merge.planner import merge_values
from account_merge.rules import TableRule

#: source account -> column -> highest absolute value of a total handed on
Given = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Step:
    """One thing that we did to the row.

    :param merge: the merge that brought its sources' rows; None for an undo, which brings nothing.
    :param fold: what the platform had written was folded in; the merge brings its rows once more.
    :param seeded: the retired job had merged these accounts before.
    """

    merge: uuid.UUID | None
    change: Change
    fold: bool = False
    seeded: bool = False

    def stays(self, rule: TableRule) -> frozenset[str]:
        """Switches of the target's row that a seeded merge left alone."""
        held = self.change.before or {} if self.seeded else {}
        return frozenset(c for c in held if rule.strategy(c).switch and c not in self.change.writes)


def without(
    rule: TableRule,
    steps: Sequence[Step],
    now: Values | None,
    account: str,
    standing: Callable[[uuid.UUID], bool],
    given: Mapping[str, Mapping[str, int]],
    evidence: Evidence,
    unseen: frozenset[str] = frozenset(),
) -> Values | None:
    """What the row is when only the standing merges count; None when there is no row then.

    `without(…)` of the only merge is exactly the row before it, when nobody wrote in between; a total that went on loses
    exactly what was added, of collections each element is looked at alone, and what the platform wrote later stays.

    :param steps: all that was done to the row, in order; at least one.
    :param now: the row as it is, None when it is gone.
    :param given: what each source account handed on by standing merges into other accounts.
    :param unseen: columns of `now` that were written without having seen the last step.
    """
    row = steps[0].change.before
    prior, found, left = row, row, row
    handed: Given = {source: dict(totals) for source, totals in given.items()}
    first: dict[uuid.UUID, Given] = {}
    for number, step in enumerate(steps):
        if number:
            row = _carried(rule, (prior, found), (row, left), step.change.before, step.change.unseen)
        prior, found, left = row, step.change.before, step.change.after
        if step.merge is None or not standing(step.merge) or not step.change.sources:
            continue
        before = first.setdefault(step.merge, {s: dict(handed.get(s, {})) for s in step.change.sources})
        known = {
            s: {**handed.get(s, {}), **{c: before[s].get(c, 0) for c in step.change.unseen}}
            for s in step.change.sources
        }
        seeded, stays = step.seeded, step.stays(rule)
        brought, new = merge_values(rule, step.change.sources, row, account, known, evidence, seeded, stays)
        # A row that is nothing but a set of places exists only with one.
        row = None if row is None and rule.collects and not any(brought.values()) else brought
        for source, totals in new.items():
            mine = handed.setdefault(source, {})
            for column, (_, after) in totals.items():
                mine[column] = max(after, mine.get(column, 0))
    last = _carried(rule, (prior, found), (row, left), now, unseen)
    if last is None or now is None:
        return last
    moved = {column for column in now if now[column] != (left or {}).get(column)}
    return {**last, **{c: v for c, v in _derived(rule, now, last, account, evidence).items() if c in moved}}


Pair = tuple[Values | None, Values | None]


def _carried(rule: TableRule, earlier: Pair, later: Pair, to: Values | None, unseen: frozenset[str]) -> Values | None:
    """The replayed row with what the platform changed since our last step.

    :param earlier: (replayed row, real row) before that step, for what was written without having seen it.
    :param later: the same after that step.
    :param to: the real row as it was found next.
    """
    row, left = later
    if to == left:
        return row
    if to is None:
        return None
    result: Values = {}
    for column in sorted({*(row or {}), *(left or {}), *to}):
        replayed, real = earlier if column in unseen else later
        value = rule.strategy(column).revert((replayed or {}).get(column), (real or {}).get(column), to.get(column))
        if value is not None:
            result[column] = value
    return result if result or row is not None else None


def _derived(rule: TableRule, now: Values, row: Values, account: str, evidence: Evidence) -> Values:
    """Columns that follow from others, derived again where the platform's own number was right for what it saw."""
    found: Values = {}
    for derivation in rule.derive:
        if derivation.again is not None:
            found |= derivation.again(Side(account, now, target=True), {**row, **found}, evidence)
    return {column: value for column, value in found.items() if column in row and value is not None}


def change_to(
    key: Key,
    now: Values | None,
    to: Values | None,
    at: Callable[[str], int],
    also: Mapping[str, frozenset[Any]],
    why: str,
) -> Change:
    """The change that brings a row from `now` to `to`.

    :param at: column -> timestamp (µs) of its write; of "" that of the row itself.
    :param also: columns that are put even if they are right, with the elements that we ever put there: a write of ours
        that is still under way must lose.
    """
    if to is None:
        return Change(key, {}, now, {}, 0, {"": why}, {}, delete=at(""))
    row = now or {}
    writes = {}
    for column in sorted({*row, *to, *also}):
        had, value = row.get(column), to.get(column)
        if had != value or column in also:
            writes[column] = _write(had, value, at(column), also.get(column, frozenset()))
    return Change(key, {}, now, writes, 0 if now is not None else at(""), dict.fromkeys(writes, why), {})


def _write(had: Any, value: Any, timestamp: int, put: frozenset[Any]) -> Write:
    """A whole value, or of a map or set all its elements and the removal of those that go."""
    if isinstance(value if value is not None else had, Mapping | set | frozenset) or put:
        return Write(value, timestamp, frozenset({*(had or ()), *put} - {*(value or ())}))
    return Write(value, timestamp)
