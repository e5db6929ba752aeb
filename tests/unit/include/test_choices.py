"""A person's choice of whose row stands: what it brings, what it hands on, and that it is taken back exactly."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from account_merge.choices import COMBINE, MOST, SOURCE, TARGET, Choices, row_name
from account_merge.errors import InvalidRequest
from account_merge.journal.rows import request_columns
from account_merge.lifecycle.requests import check_request
from account_merge.model import Change, MergeRequest, Row, Values, Write
from account_merge.planning.combining import Facts, merge_values
from account_merge.planning.merge_join import TableFacts, plan, plan_row
from account_merge.planning.rebuild import AppliedChange, Effective, rebuild
from account_merge.rules import RULES, TABLES, rule_for
from account_merge.settings import Settings
from tests.unit.include.rules.test_tables import row_or_none, rows_of

quick = settings(max_examples=60, deadline=None, database=None)
each_rule = pytest.mark.parametrize("rule", RULES, ids=TABLES)
CC = rule_for("user_content_consumption")
ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)


def merged(rule: Any, target: Values | None, source: Values, choice: str = COMBINE, handed: Any = None) -> Change:
    row = None if target is None else Row((), dict(target))
    return plan_row(rule, (), {"s": source}, row, "t", 1, Facts(handed or {}, choice=choice))


def replayed(rule: Any, steps: list[AppliedChange], now: Values | None, *gone: uuid.UUID, **more: Any) -> Values | None:
    return rebuild(rule, steps, now, "t", Effective(lambda merge: merge not in gone, **more)).row


@each_rule
def test_a_row_of_the_target_that_stays_stays(rule: Any) -> None:
    @quick
    @given(rows_of(rule), row_or_none(rule))
    def check(source: Values, target: Values | None) -> None:
        change = merged(rule, target, source, TARGET)
        assert (change.writes, change.create_at, change.given, change.choice) == ({}, 0, {}, TARGET)
        assert change.after == target
        steps = [AppliedChange(ONE, change)]
        assert replayed(rule, steps, target) == replayed(rule, steps, target, ONE) == target

    check()


@each_rule
def test_of_a_source_s_row_that_stands_every_value_does(rule: Any) -> None:
    @quick
    @given(rows_of(rule), row_or_none(rule))
    def check(source: Values, target: Values | None) -> None:
        change = merged(rule, target, source, SOURCE)
        after = change.after or {}
        for column, value in source.items():
            if rule.strategy(column).gap(value) == value:
                assert after.get(column) == (value or None) or after.get(column) == value
        for column in {*(target or {})} - {*source}:
            assert after[column] == (target or {})[column]
        steps = [AppliedChange(ONE, change)]
        assert replayed(rule, steps, change.after, ONE) == target
        assert replayed(rule, steps, change.after) == change.after

    check()


@each_rule
def test_beside_another_merge_a_chosen_one_is_taken_back_as_if_it_had_never_been(rule: Any) -> None:
    @quick
    @given(rows_of(rule), rows_of(rule), row_or_none(rule), st.booleans())
    def check(first: Values, second: Values, target: Values | None, chosen_first: bool) -> None:
        choices = (SOURCE, COMBINE) if chosen_first else (COMBINE, SOURCE)
        one = merged(rule, target, first, choices[0])
        two = merged(rule, one.after, second, choices[1])
        steps = [AppliedChange(ONE, one), AppliedChange(TWO, two)]
        assert replayed(rule, steps, two.after, TWO) == one.after
        assert replayed(rule, steps, two.after, ONE) == merged(rule, target, second, choices[1]).after

    check()


def test_consent_is_no_choice_either() -> None:
    rule = rule_for("program_enrollment")
    (column,) = (c for c, strategy in rule.columns.items() if strategy.name == "consent")
    assert merge_values(rule, {"s": {column: True}}, {column: False}, "t", Facts(choice=SOURCE))[0] == {column: False}
    assert merge_values(rule, {"s": {column: True}}, {column: True}, "t", Facts(choice=SOURCE))[0] == {column: True}


@pytest.mark.parametrize(("source", "target"), [(9, 5), (3, 5)])
def test_a_total_that_the_platform_wrote_unseen_goes_on_from_the_chosen_one(source: int, target: int) -> None:
    put = merged(CC, {"viewcount": target}, {"viewcount": source}, SOURCE)
    assert put.after == {"viewcount": source}
    assert put.given == {"s": {"viewcount": (0, source)}}
    steps, seen = [AppliedChange(ONE, put)], {"viewcount": target + 1}
    assert replayed(CC, steps, seen, unseen=frozenset({"viewcount"})) == {"viewcount": source + 1}
    assert replayed(CC, steps, seen, ONE, unseen=frozenset({"viewcount"})) == {"viewcount": target + 1}
    assert replayed(CC, steps, {"viewcount": source + 2}, ONE) == {"viewcount": target + 2}
    fold = Change(
        (), {"s": {"viewcount": source}}, seen, {"viewcount": Write(source + 1, 5)}, 0, {},
        {"s": {"viewcount": (0, source)}}, unseen=frozenset({"viewcount"}), choice=SOURCE,
    )  # fmt: skip
    folded = [*steps, AppliedChange(ONE, fold, fold=True)]
    assert replayed(CC, folded, fold.after) == {"viewcount": source + 1}
    assert replayed(CC, folded, fold.after, ONE) == {"viewcount": target + 1}


def test_what_was_handed_on_before_is_not_added_by_a_choice() -> None:
    found, handed = merge_values(
        CC, {"s": {"viewcount": 7}}, {"viewcount": 9}, "t", Facts({"s": {"viewcount": 4}}, choice=SOURCE)
    )
    assert (found, handed) == ({"viewcount": 7}, {"s": {"viewcount": (4, 7)}})


def test_a_row_s_choice_goes_before_its_table_s() -> None:
    rows = [Row(("c", "b", name), {"status": 2}) for name in ("x", "y")]
    held = [Row(("c", "b", name), {"status": 1}) for name in ("x", "y")]
    choices = Choices({CC.table: TARGET}, {row_name(CC.table, ("c", "b", "y")): SOURCE})
    found = list(plan(CC, "t", {"s": rows}, held, TableFacts(choose=choices.of(CC.table, str))))
    assert [(change.choice, (change.after or {})["status"]) for change, _ in found] == [(TARGET, 1), (SOURCE, 2)]


def test_of_maps_and_sets_what_is_not_the_source_s_goes() -> None:
    rule = rule_for("user_enrolments")
    change = merged(rule, {"contentstatus": {"a": 1, "b": 2}}, {"contentstatus": {"b": 1}}, SOURCE)
    assert change.writes["contentstatus"].remove == {"a"}
    assert change.after == {"contentstatus": {"b": 1}}


def test_choices_are_kept_without_keys_and_later_ones_never_put_the_source_s_again() -> None:
    name = row_name(CC.table, ("do_secret", "b", "l"))
    choices = Choices({"user_enrolments": SOURCE}, {name: TARGET})
    kept = choices.hidden(lambda text: "hash")
    assert "do_secret" not in kept.to_text()
    assert Choices.of_text(kept.to_text()) == kept == kept.hidden(lambda text: "other")
    assert kept.of(CC.table, lambda text: "hash" if text == name else "-")(("do_secret", "b", "l")) == TARGET
    assert kept.of(CC.table, lambda text: "hash" if text == name else "-")(("do_secret", "b", "m")) == COMBINE
    assert choices.later() == Choices({"user_enrolments": COMBINE}, {name: TARGET})
    assert request_columns(MergeRequest(("a",), "b"))["choices"] == ""


@pytest.mark.parametrize(
    ("choices", "code"),
    [
        (Choices({"nothing": TARGET}), "UNKNOWN_TABLE"),
        (Choices({}, {row_name("nothing", ("a",)): TARGET}), "UNKNOWN_TABLE"),
        (Choices({CC.table: "both"}), "BAD_OPTION"),
        (Choices({}, {row_name(CC.table, (n,)): TARGET for n in range(MOST + 1)}), "TOO_MANY_CHOICES"),
    ],
)
def test_a_bad_choice_is_refused(choices: Choices, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_request(MergeRequest(("a",), "b", choices=choices), Settings.from_env({}))
    assert refused.value.code == code
