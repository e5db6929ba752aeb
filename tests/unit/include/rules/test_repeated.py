"""Whole rules, repeated: cells that are put n times, merges that come again in any order, equal each of them once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from account_merge.model import Change, Row, Values
from account_merge.planning.combining import Facts, merge_values
from account_merge.planning.merge_join import plan_row
from account_merge.rules import TableRule
from account_merge.rules.evidence import Evidence
from tests.unit.include.rules.test_tables import EVIDENCE, each_rule, row_or_none, rows_of, totals

quick = settings(max_examples=60, deadline=None, database=None)


def put_in(row: Values | None, change: Change) -> Values:
    """The row after a change's cells were put; of a map or set its elements."""
    after = dict(row or {})
    for column, write in change.writes.items():
        held = after.get(column)
        if isinstance(write.value, dict):
            after[column] = {**(held or {}), **write.value}
        else:
            after[column] = write.value | (held or set()) if isinstance(write.value, set) else write.value
    return {column: value for column, value in after.items() if value is not None}


@each_rule
@quick
@given(data=st.data())
def test_applying_n_times_equals_once(rule: TableRule, data: st.DataObject) -> None:
    """Put again, or planned again and put, in any turn: the row is as it is after once."""
    sources = {name: data.draw(rows_of(rule)) for name in data.draw(st.sampled_from([["s1"], ["s1", "s2"]]))}
    target, evidence = data.draw(row_or_none(rule)), data.draw(EVIDENCE)
    key, row = ("k",) * len(rule.key), target
    changes: list[Change] = []
    already: dict[str, dict[str, int]] = {}
    for again in data.draw(st.lists(st.booleans(), min_size=1, max_size=4)):
        if not again or not changes:
            held = None if row is None else Row(key, row, dict.fromkeys(row, 7))
            changes.append(plan_row(rule, key, sources, held, "t", 5, Facts(already, evidence)))
            already = totals(changes[-1].given)
        row = put_in(row, data.draw(st.sampled_from(changes)))
    once, handed = merge_values(rule, sources, target, "t", Facts({}, evidence))
    assert row == once
    assert already == totals(handed)
    assert not any(change.writes or change.create_at for change in changes[1:])


def after_merge(evidence: Evidence, source: str) -> Evidence:
    """What the other tables show once they were merged too: the target has the source's lessons and attempts."""
    found = dict(evidence.found)
    for name in ("finished", "attempts"):
        shown, brought = found[name].shown, found[name].brought
        had, moved = set(shown.get("t", ())), set(shown.get(source, ()))
        brought_now = {**brought, "t": {*brought.get("t", ())} | (moved - had)}
        found[name] = replace(found[name], shown={**shown, "t": had | moved}, brought=brought_now)
    return replace(evidence, found=found)


@each_rule
@quick
@given(data=st.data())
def test_merges_that_come_again_in_any_order_end_as_when_each_is_done_once(
    rule: TableRule, data: st.DataObject
) -> None:
    # Which row leads is the same in any order where all rows show what they are compared by, or none does.
    leads = data.draw(st.booleans())
    rows = {name: data.draw(rows_of(rule, leads)) for name in ("s1", "s2", "s3")}
    target, shown = data.draw(row_or_none(rule, leads)), data.draw(EVIDENCE)

    def in_turn(names: list[str]) -> Values | None:
        row, already, evidence = target, dict[str, dict[str, int]](), shown
        for name in names:
            row, handed = merge_values(rule, {name: rows[name]}, row, "t", Facts(already, evidence))
            already, evidence = already | totals(handed), after_merge(evidence, name)
        return row

    order = data.draw(st.lists(st.sampled_from(sorted(rows)), min_size=1, max_size=7))
    again, counted = without_count(in_turn(order))
    once, least = without_count(in_turn(list(dict.fromkeys(order))))
    assert again == once
    # A number of lessons that one merge could not prove the next one may: up to the lessons that there are, no further.
    lessons = set().union(*(shown.of("finished").shown.get(account, ()) for account in (*order, "t")))
    assert all(least[c] <= number <= max(least[c], len(lessons)) for c, number in counted.items())


def without_count(row: Values | None) -> tuple[Values, dict[str, float]]:
    """The row without the numbers of completed lessons, and these."""
    rest = {c: dict(v) if isinstance(v, dict) else v for c, v in (row or {}).items()}
    return rest, {c: v.pop("completedCount") for c, v in rest.items() if isinstance(v, dict) and "completedCount" in v}
