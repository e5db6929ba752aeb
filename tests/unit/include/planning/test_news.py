"""Three-way: what the target shows since the last entry stands, and what is new at the source comes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from account_merge.model import Row, Values
from account_merge.planning.combining import Facts, merge_values
from account_merge.planning.merge_join import plan_row
from account_merge.planning.news import Earlier
from account_merge.planning.rebuild import AppliedChange, Effective, rebuild
from account_merge.rules import RULES, TABLES, rule_for
from tests.unit.include.rules.test_tables import row_or_none, rows_of

quick = settings(max_examples=40, deadline=None, database=None)
each_rule = pytest.mark.parametrize("rule", RULES, ids=TABLES)
ENR, CC, MEMBER = rule_for("user_enrolments"), rule_for("user_content_consumption"), rule_for("group_member")


def again(rule: Any, base: Values, now: Values, target: Values | None, given_before: Any = None) -> Values | None:
    """The target's row after a merge of a source whose row an earlier merge had brought as `base`."""
    held = None if target is None else Row((), target)
    totals = {c: v for c, v in base.items() if rule.strategy(c).ledger}
    return plan_row(
        rule, (), {"s": now}, held, "t", 1, Facts(given_before or {"s": totals}, earlier=Earlier({"s": base}))
    ).after


@each_rule
def test_of_a_source_that_stayed_as_it_was_nothing_comes_whatever_the_target_shows(rule: Any) -> None:
    @quick
    @given(rows_of(rule), row_or_none(rule))
    def check(source: Values, target: Values | None) -> None:
        assert again(rule, source, source, target) == target

    check()


@each_rule
def test_where_nobody_decided_otherwise_it_is_the_merge_of_the_whole_row(rule: Any) -> None:
    """The target as the first merge left it: then the difference alone is all that a merge of everything would bring."""

    @quick
    @given(rows_of(rule), rows_of(rule), row_or_none(rule))
    def check(base: Values, more: Values, target: Values | None) -> None:
        grown = {
            c: max(v, base[c]) if rule.strategy(c).ledger and c in base else v for c, v in {**base, **more}.items()
        }
        first, handed = merge_values(rule, {"s": base}, target, "t", Facts())
        totals = {"s": {c: after for c, (_, after) in handed.get("s", {}).items()}}
        whole, _ = merge_values(rule, {"s": grown}, first, "t", Facts(totals))
        found = again(rule, base, grown, first, totals)
        assert {k: _plain(v) for k, v in (found or {}).items()} == {k: _plain(v) for k, v in whole.items()}

    check()


def _plain(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, list) else value


@each_rule
def test_a_replay_of_both_merges_is_what_they_left_and_of_neither_what_was_before(rule: Any) -> None:
    @quick
    @given(rows_of(rule), rows_of(rule), row_or_none(rule))
    def check(base: Values, now: Values, target: Values | None) -> None:
        held = None if target is None else Row((), target)
        one = plan_row(rule, (), {"s": base}, held, "t", 1, Facts())
        totals = {"s": {c: after for c, (_, after) in one.given.get("s", {}).items()}}
        left = None if one.after is None else Row((), one.after)
        two = plan_row(rule, (), {"s": now}, left, "t", 1, Facts(totals, earlier=Earlier({"s": base})))
        steps = [AppliedChange("one", one), AppliedChange("two", two)]
        assert rebuild(rule, steps, two.after, "t", Effective(lambda merge: True)).row == two.after
        assert rebuild(rule, steps, two.after, "t", Effective(lambda merge: merge == "one")).row == one.after
        assert rebuild(rule, steps, two.after, "t", Effective(lambda merge: False)).row == target

    check()


CERTIFICATE, REISSUED, NEW = ({"identifier": f"c{n}", "name": "Merit"} for n in range(3))


@pytest.mark.parametrize(
    ("rule", "base", "now", "target", "after"),
    [
        # left a course; a change of something else does not enrol again
        (ENR, {"active": True, "progress": 1}, {"active": True, "progress": 4}, {"active": False, "progress": 1},
         {"active": False, "progress": 4}),
        # enrolled again at the source after having left there
        (ENR, {"active": False}, {"active": True}, {"active": False}, {"active": True}),
        # a certificate was replaced at the target, and another one was issued at the source
        (ENR, {"issued_certificates": [CERTIFICATE]}, {"issued_certificates": [CERTIFICATE, NEW]},
         {"issued_certificates": [REISSUED]}, {"issued_certificates": [REISSUED, NEW]}),
        # one that was reissued at the source takes the place of its older form
        (ENR, {"issued_certificates": [{"identifier": "c0", "lastIssuedOn": "1"}]},
         {"issued_certificates": [{"identifier": "c0", "lastIssuedOn": "2"}]},
         {"issued_certificates": [{"identifier": "c0", "lastIssuedOn": "1"}]},
         {"issued_certificates": [{"identifier": "c0", "lastIssuedOn": "2"}]}),
        # a lesson's state was taken back at the target, another lesson was finished at the source
        (ENR, {"contentstatus": {"a": 2, "b": 2}, "progress": 2},
         {"contentstatus": {"a": 2, "b": 2, "d": 2}, "progress": 3},
         {"contentstatus": {"a": 2, "c": 2}, "progress": 2}, {"contentstatus": {"a": 2, "c": 2, "d": 2}, "progress": 3}),
        # an administrator became a member, and another's visit came
        (MEMBER, {"role": "admin", "status": "active"}, {"role": "admin", "status": "active", "visited": True},
         {"role": "member", "status": "active"}, {"role": "member", "status": "active", "visited": True}),
        # a removed member stays removed, with who removed it
        (MEMBER, {"status": "active"}, {"status": "active", "visited": True}, {"status": "inactive", "removedby": "boss"},
         {"status": "inactive", "removedby": "boss", "visited": True}),
        # the platform computed the progress anew; views go on
        (CC, {"progress": 80, "viewcount": 3}, {"progress": 80, "viewcount": 5}, {"progress": 60, "viewcount": 4},
         {"progress": 60, "viewcount": 6}),
        # further at the source than ever: that is new
        (CC, {"progress": 80}, {"progress": 90}, {"progress": 60}, {"progress": 90}),
        # the last place comes with its time, whole
        (ENR, {"lastcontentaccesstime": 1, "lastreadcontentid": "x", "lastreadcontentstatus": 1},
         {"lastcontentaccesstime": 9, "lastreadcontentid": "x", "lastreadcontentstatus": 2},
         {"lastcontentaccesstime": 5, "lastreadcontentid": "y", "lastreadcontentstatus": 1},
         {"lastcontentaccesstime": 9, "lastreadcontentid": "x", "lastreadcontentstatus": 2}),
    ],
)  # fmt: skip
def test_decisions_stand_and_news_comes(rule: Any, base: Values, now: Values, target: Values, after: Values) -> None:
    assert again(rule, base, now, target) == after


@each_rule
def test_a_row_that_was_removed_is_not_made_again(rule: Any) -> None:
    @quick
    @given(rows_of(rule))
    def check(source: Values) -> None:
        totals = {"s": {c: v for c, v in source.items() if rule.strategy(c).ledger}}
        change = plan_row(rule, (), {"s": source}, None, "t", 1, Facts(totals, earlier=Earlier({"s": source})))
        assert (change.create_at, change.writes, change.after) == (0, {}, None)
        assert "removed at the target" in change.why[""]

    check()


def test_of_a_removed_row_only_what_is_new_comes() -> None:
    change = plan_row(
        CC,
        (),
        {"s": {"viewcount": 6, "status": 2}},
        None,
        "t",
        1,
        Facts({"s": {"viewcount": 4}}, earlier=Earlier({"s": {"viewcount": 4, "status": 2}})),
    )
    assert change.after == {"viewcount": 2}
    assert change.given == {"s": {"viewcount": (4, 6)}}


def test_a_source_that_no_merge_knew_comes_whole_beside_one_that_is_known() -> None:
    sources = {"s": {"active": True, "progress": 1}, "u": {"active": True, "progress": 2}}
    held = Row((), {"active": False, "progress": 1})
    change = plan_row(ENR, (), sources, held, "t", 1, Facts(earlier=Earlier({"s": sources["s"]})))
    assert change.after == {"active": True, "progress": 2}
    alone = plan_row(ENR, (), sources, held, "t", 1, Facts(earlier=Earlier(sources)))
    assert alone.after == held.values


def test_a_fold_decides_as_the_change_that_it_mends_did() -> None:
    base, now = {"active": True, "progress": 1}, {"active": True, "progress": 4}
    change = plan_row(
        ENR, (), {"s": now}, Row((), {"active": False, "progress": 1}), "t", 1, Facts(earlier=Earlier({"s": base}))
    )
    assert Earlier.of(ENR, change) == Earlier({"s": base})
    seeded = change._replace(seeded={"s": True})
    assert Earlier.of(ENR, seeded).stays == {"s": frozenset({"active"})}
