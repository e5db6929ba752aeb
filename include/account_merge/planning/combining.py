"""Rows of one key made one: combined by the rules, or one row by choice. Pure.

A merge, a fold of later writes and the rebuild of a row ask the same function. It names no table and knows no server.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import NamedTuple

from account_merge.choices import COMBINE, SOURCE, TARGET
from account_merge.model import NONE, Values
from account_merge.planning.news import Earlier, newly, stayed
from account_merge.rules import TableRule
from account_merge.rules.derivations import Side
from account_merge.rules.evidence import NO_EVIDENCE, Evidence
from account_merge.values import all_sound, rejoined, sound, usable_row

Given = Mapping[str, Mapping[str, int]]
#: source account -> column -> highest absolute value of a total handed on (before, after)
Handed = dict[str, dict[str, tuple[int, int]]]
#: No earlier merge of these sources.
FIRST = Earlier()


class Facts(NamedTuple):
    """The things known of one row beside the rows themselves.

    :param given: what each source has handed on before.
    :param evidence: what rows of other tables show.
    :param earlier: what earlier merges of these sources mean for the row. The retired job added up totals and never
        deleted a source's row: each total that the target has contains the totals of a source that it had merged. A row
        or a total that the target lacks was not moved, and moves whole.
    :param choice: whose row stands. Where a source's row stands, all its values do, totals too; a value that only the
        target has stays. Where the target's row stands, the source hands nothing on.
    :param notes: what a person should know of it already.
    :param instead: columns of the target that count otherwise than they show.
    """

    given: Given = NONE
    evidence: Evidence = NO_EVIDENCE
    earlier: Earlier = FIRST
    choice: str = COMBINE
    notes: tuple[str, ...] = ()
    instead: Values | None = None


def merge_values(
    rule: TableRule, sources: Mapping[str, Values], target: Values | None, target_account: str, facts: Facts
) -> tuple[Values, Handed]:
    """Return the target's values after the merge, and what each source has handed on then.

    Only the part of a total beyond `given` is added. Every other column is the same however often it is merged. A source
    whose row an earlier merge had brought brings only what is new since then.

    A value that cannot be used (NaN, or one that cannot be read) gives way to every other and stays where it is: the
    target's readers shall not stumble over it as well.
    """
    if facts.choice == TARGET:
        return dict(target or {}), _seeded(rule, sources, target, facts)
    rows = (*sources.values(), *facts.earlier.known.values(), target or {})
    if not all(map(all_sound, rows)):
        good = {account: usable_row(values) for account, values in sources.items()}
        held = None if target is None else usable_row(target)
        usable_facts = facts._replace(earlier=facts.earlier.usable())
        found, handed = merge_values(rule, good, held, target_account, usable_facts)
        return found | {c: rejoined(found.get(c), v) for c, v in (target or {}).items() if not sound(v)}, handed
    if facts.choice == SOURCE:
        return _sources_values(rule, sources, target, facts.given)
    known = {account: values for account, values in sources.items() if account in facts.earlier.known}
    if known:  # an account without a row, for which other tables' rows count, brought none before either
        known |= {account: values for account, values in sources.items() if not values}
    first = {account: values for account, values in sources.items() if account not in known}
    merged, handed = dict(target or {}), Handed()
    if known:
        merged, handed = _news(rule, known, target, target_account, facts)
    if first:
        here = target if not known or not (merged or target) else merged
        merged, more = _combined(rule, first, here, target_account, facts)
        handed |= more
    return merged, handed


def _news(
    rule: TableRule, sources: Mapping[str, Values], target: Values | None, target_account: str, facts: Facts
) -> tuple[Values, Handed]:
    """Return what `merge_values` returns, of sources whose rows an earlier merge had brought: only what is new comes."""
    now, handed = _combined(rule, sources, target, target_account, facts)
    images = {account: facts.earlier.known.get(account, {}) for account in sources}
    if images == sources and all(sources.values()):
        return stayed(rule, target, now), handed
    before, _ = _combined(rule, images, target, target_account, facts._replace(evidence=NO_EVIDENCE))
    return newly(rule, target_account, target, before, now), handed


def _combined(
    rule: TableRule, sources: Mapping[str, Values], target: Values | None, target_account: str, facts: Facts
) -> tuple[Values, Handed]:
    """Return the values of all rows combined column by column, then what follows from several columns."""
    held = target or {}
    brings = [(a, values, facts.earlier.stays.get(a, ())) for a, values in sorted(sources.items())]
    present = {*held}.union(*sources.values())
    found: Values = dict(held)
    handed: Handed = {}
    for account, values, stays in brings:
        for column, other in values.items():
            if other is None or column in stays:
                continue
            strategy = rule.strategy(column)
            if strategy.ledger:
                before = _before(column, other, account, target, facts)
                handed.setdefault(account, {})[column] = (before, max(before, other))
                other = max(0, other - before)
            found[column] = strategy.merge(found.get(column), other)
    merged = {column: value for column in sorted(found) if (value := found[column]) is not None}
    sides = [*(Side(account, values) for account, values, _ in brings), Side(target_account, held, target=True)]
    _derive(rule, sides, present, merged, facts.evidence)
    return merged, handed


def _before(column: str, shown: int, account: str, target: Values | None, facts: Facts) -> int:
    """Return what a source's total has handed on before this merge."""
    known = facts.given.get(account, {}).get(column)
    if known is not None:
        return known
    return shown if facts.earlier.seeded.get(account) and (target or {}).get(column) is not None else 0


def _seeded(rule: TableRule, sources: Mapping[str, Values], target: Values | None, facts: Facts) -> Handed:
    """Return what the retired job had moved: it counts as handed on also where the row stays as the target has it."""
    handed: Handed = {}
    for account in facts.earlier.seeded:
        for column, shown in sources.get(account, {}).items():
            if rule.strategy(column).ledger and (before := _before(column, shown, account, target, facts)):
                handed.setdefault(account, {})[column] = (before, before)
    return handed


def _derive(rule: TableRule, sides: list[Side], present: Collection[str], merged: Values, evidence: Evidence) -> None:
    for derivation in rule.derivations(present):
        if found := derivation.apply(sides, merged, evidence):
            put_derived(merged, found, present)


def put_derived(merged: Values, found: Values, present: Collection[str]) -> None:
    """Put what a derivation found into a row: None empties a column, and one that no row has is not made."""
    for column, value in found.items():
        if value is None:
            merged.pop(column, None)
        elif column in present:
            merged[column] = value


def _sources_values(
    rule: TableRule, sources: Mapping[str, Values], target: Values | None, given: Given
) -> tuple[Values, Handed]:
    merged: Values = dict(target or {})
    handed: Handed = {}
    for column in sorted({c for values in sources.values() for c in values}):
        strategy, chosen = rule.strategy(column), None
        for account in sorted(sources):
            other = sources[account].get(column)
            chosen = other if chosen is None else strategy.merge(chosen, other)
            if strategy.ledger and other is not None:
                before = given.get(account, {}).get(column, 0)
                handed.setdefault(account, {})[column] = (before, max(before, other))
        # A value that no merge hands over as it is (consent, say) is not handed over by choice either.
        passes = strategy.gap(chosen) == chosen
        merged[column] = chosen if passes else strategy.merge((target or {}).get(column), chosen)
    return {column: value for column, value in merged.items() if value is not None}, handed


def folding(rule: TableRule, choice: str) -> TableRule:
    """Return the rule for folding in later writes; a row that was chosen from the source derives no columns."""
    return replace(rule, derive=()) if choice == SOURCE else rule
