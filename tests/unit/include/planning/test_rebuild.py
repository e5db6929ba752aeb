"""A row without a merge: exact when nothing happened since, the rest stays; any merge of several, in either order."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from account_merge.model import Change, Row, Values
from account_merge.planning.combining import Facts
from account_merge.planning.merge_join import plan_row
from account_merge.planning.rebuild import AppliedChange, Effective, rebuild
from account_merge.planning.row_change import change_to
from account_merge.rules import RULES, TABLES, rule_for
from tests.unit.include.rules.test_tables import row_or_none, rows_of

quick = settings(max_examples=60, deadline=None, database=None)
each_rule = pytest.mark.parametrize("rule", RULES, ids=TABLES)
CC, ENR = rule_for("user_content_consumption"), rule_for("user_enrolments")
ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)


def merged(rule: Any, target: Values | None, sources: dict[str, Values], handed: Any = None) -> Change:
    """The change of one merge of these rows."""
    row = None if target is None else Row((), dict(target))
    return plan_row(rule, (), sources, row, "t", 1, Facts(handed or {}))


def rewound(rule: Any, steps: list[AppliedChange], now: Values | None, *gone: uuid.UUID, **more: Any) -> Values | None:
    return rebuild(rule, steps, now, "t", Effective(lambda merge: merge not in gone, **more)).row


def undone(change: Change, now: Values | None, to: Values | None) -> AppliedChange:
    """The step that an undo leaves in the log: it found `now` and left `to`."""
    step = AppliedChange(None, change_to((), now, to, lambda column: 9, {}, "undone"))
    assert step.change.after == to
    return step


@each_rule
def test_without_the_only_merge_is_the_row_before(rule: Any) -> None:
    @quick
    @given(rows_of(rule), row_or_none(rule))
    def check(source: Values, target: Values | None) -> None:
        change = merged(rule, target, {"s": source})
        assert rewound(rule, [AppliedChange(ONE, change)], change.after, ONE) == target
        # And with it, the row is as the merge left it.
        assert rewound(rule, [AppliedChange(ONE, change)], change.after) == change.after

    check()


@each_rule
def test_of_two_merges_either_is_taken_back_in_either_order(rule: Any) -> None:
    @quick
    @given(rows_of(rule), rows_of(rule), row_or_none(rule))
    def check(first: Values, second: Values, target: Values | None) -> None:
        one = merged(rule, target, {"a": first})
        two = merged(rule, one.after, {"d": second})
        steps = [AppliedChange(ONE, one), AppliedChange(TWO, two)]
        only_two = merged(rule, target, {"d": second}).after
        without_one = rewound(rule, steps, two.after, ONE)
        assert without_one == only_two
        assert rewound(rule, steps, two.after, TWO) == one.after
        # Both, one after the other: the row before any of it.
        steps.append(undone(two, two.after, without_one))
        assert rewound(rule, steps, without_one, ONE, TWO) == target
        # The first one again: as if only the second had been taken back.
        again = rewound(rule, steps, without_one)
        assert again == two.after

    check()


def test_a_total_that_went_on_loses_exactly_what_was_added() -> None:
    change = merged(CC, {"viewcount": 2}, {"s": {"viewcount": 3}})
    assert change.after == {"viewcount": 5}
    assert rewound(CC, [AppliedChange(ONE, change)], {"viewcount": 9}, ONE) == {"viewcount": 6}
    # Below what was put there: written by who had not seen it.
    assert rewound(CC, [AppliedChange(ONE, change)], {"viewcount": 1}, ONE) == {"viewcount": 1}


def test_a_total_that_the_platform_wrote_without_our_share_keeps_what_it_wrote() -> None:
    first = merged(CC, {"viewcount": 2}, {"s": {"viewcount": 3}})
    fold = merged(CC, {"viewcount": 4}, {"s": {"viewcount": 3}})
    steps = [AppliedChange(ONE, first), AppliedChange(ONE, fold._replace(unseen=frozenset({"viewcount"})), fold=True)]
    assert fold.after == {"viewcount": 7}
    assert rewound(CC, steps, fold.after, ONE) == {"viewcount": 4}
    assert rewound(CC, steps, fold.after) == {"viewcount": 7}


def test_what_the_platform_wrote_later_stays_and_elements_are_looked_at_alone() -> None:
    target = {"contentstatus": {"a": 1}, "progress": 0, "status": 1}
    change = merged(ENR, target, {"s": {"contentstatus": {"a": 2, "b": 2}, "progress": 2, "status": 2}})
    assert change.after == {"contentstatus": {"a": 2, "b": 2}, "progress": 2, "status": 2}
    now = {"contentstatus": {"a": 2, "b": 2, "c": 2}, "progress": 3, "status": 2, "lastreadcontentid": "c"}
    # Progress counts the finished items: what the platform counted with ours is counted again without them.
    assert rewound(ENR, [AppliedChange(ONE, change)], now, ONE) == {
        "contentstatus": {"a": 1, "c": 2}, "progress": 1, "status": 1, "lastreadcontentid": "c",
    }  # fmt: skip


def test_a_row_that_only_the_merge_made_goes_and_one_that_lives_on_stays() -> None:
    change = merged(CC, None, {"s": {"viewcount": 3, "status": 2}})
    assert rewound(CC, [AppliedChange(ONE, change)], change.after, ONE) is None
    assert rewound(CC, [AppliedChange(ONE, change)], {"viewcount": 4, "status": 2}, ONE) == {"viewcount": 1}
    assert rewound(CC, [AppliedChange(ONE, change)], None, ONE) is None


def test_what_a_later_merge_of_the_same_source_handed_on_stays_counted() -> None:
    one = merged(CC, {"viewcount": 1}, {"s": {"viewcount": 3}})
    two = merged(CC, one.after, {"s": {"viewcount": 5}}, {"s": {"viewcount": 3}})
    steps = [AppliedChange(ONE, one), AppliedChange(TWO, two)]
    assert two.after == {"viewcount": 6}
    assert rewound(CC, steps, two.after, ONE) == {"viewcount": 6}
    assert rewound(CC, steps, two.after, TWO) == {"viewcount": 4}
    assert rewound(CC, steps, two.after, ONE, TWO) == {"viewcount": 1}


def test_a_row_that_leads_again_takes_what_it_lacks_from_the_row_that_the_platform_wrote_meanwhile() -> None:
    """Under `apart` a gap is filled: what only the platform's row has is not dropped."""
    rule = rule_for("assessment_aggregator")
    first, second = (datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2))
    change = merged(rule, None, {"s": {"last_attempted_on": second, "total_score": 4.0}})
    platform = {"last_attempted_on": first, "total_score": 9.0, "grand_total": "9/10", "of_another_release": "kept"}
    steps = [AppliedChange(ONE, change), undone(change, change.after, None)]
    assert rewound(rule, steps, platform, ONE) == platform
    again = rewound(rule, steps, platform)
    assert again is not None
    assert {c: again[c] for c in ("last_attempted_on", "total_score", "grand_total")} == {
        "last_attempted_on": second, "total_score": 4.0, "grand_total": "9/10",
    }  # fmt: skip
    assert again["of_another_release"] == "kept"
