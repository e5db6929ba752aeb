"""The rules: their examples hold, every official column has a strategy, and any two rows merge without loss."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from account_merge.model import Row, Values
from account_merge.planning.combining import Facts, merge_values
from account_merge.planning.merge_join import plan_row
from account_merge.planning.rebuild import AppliedChange, Effective, rebuild
from account_merge.rules import RULES, TABLES, Example, Scope, TableRule, rule_for, rules_hash, tables
from account_merge.rules.derivations import (
    Side,
    attempts_count,
    best_score,
    count_of,
    no_less,
    twins,
    union_count,
)
from account_merge.rules.evidence import Evidence, Findings
from account_merge.rules.following import follow
from account_merge.rules.remarks import same_name
from account_merge.rules.strategies import follows, goes_with, maximum
from tests.unit.include.ddl import EVENTS, FAMILIES
from tests.values import moments

quick = settings(max_examples=60, deadline=None, database=None)
EXAMPLES = [(rule, example) for rule in RULES for example in rule.examples]
each_rule = pytest.mark.parametrize("rule", RULES, ids=TABLES)


@pytest.mark.parametrize(("rule", "example"), EXAMPLES, ids=[f"{r.table}-{n}" for n, (r, _) in enumerate(EXAMPLES)])
def test_each_example_of_the_rules_holds(rule: TableRule, example: Example) -> None:
    target = None if example.target is None else dict(example.target)
    merged, _ = merge_values(rule, {"s": dict(example.source)}, target, "t", Facts())
    assert merged == dict(example.merged)


@each_rule
def test_each_rule_says_why_and_shows_it(rule: TableRule) -> None:
    assert rule.why.endswith(".")
    assert rule.examples


# --- the official tables ------------------------------------------------------------------------------------------
NO_RULE = {"group"}  # it names its makers only: coverage ignores it with a reason
EACH_TABLE = [(family, table) for family, tables in FAMILIES.items() for table in tables if table not in NO_RULE]
OFFICIAL = FAMILIES["cassandra"] | EVENTS


def test_the_ddl_is_read_whole() -> None:
    """An independent count, so that a change of the DDL's layout cannot empty the tests below."""
    counts = {name: len(table.columns) for name, table in FAMILIES["cassandra"].items()}
    assert counts == {
        "user_enrolments": 19, "user_content_consumption": 17, "user_activity_agg": 8, "assessment_aggregator": 12,
        "group": 10, "group_member": 11, "user_group": 2, "program_enrollment": 12,
    }  # fmt: skip
    assert {name: len(table.columns) for name, table in FAMILIES["spark"].items()} == counts


@pytest.mark.parametrize(("family", "table"), EACH_TABLE)
def test_every_column_of_the_official_ddl_has_a_declared_strategy(family: str, table: str) -> None:
    official, rule = FAMILIES[family][table], rule_for(table)
    values = set(official.columns) - {*official.partition, *official.clustering}
    assert values == set(rule.columns) - rule.forks


def test_the_events_of_the_fork_have_declared_strategies() -> None:
    events = EVENTS["user_entity_enrolments"]
    values = set(events.columns) - {*events.partition, *events.clustering}
    assert values == set(rule_for("user_entity_enrolments").columns)


def test_each_rule_s_table_is_known_from_a_ddl() -> None:
    assert set(TABLES) == set(OFFICIAL) - NO_RULE


def test_a_column_that_nobody_knows_keeps_the_target_s_value_and_fills_a_gap() -> None:
    for rule in RULES:
        assert rule.strategy("invented").name == "keep_target_fill_gaps"
    assert merge_values(RULES[0], {"s": {"invented": 1}}, {"invented": 2}, "t", Facts())[0] == {"invented": 2}
    assert merge_values(RULES[0], {"s": {"invented": 1}}, {}, "t", Facts())[0] == {"invented": 1}


# --- any two rows -------------------------------------------------------------------------------------------------
MOMENTS = moments(datetime(2020, 1, 1), datetime(2024, 1, 1))
TEXTS = st.builds(lambda m, z: f"{m:%Y-%m-%d %H:%M:%S}:000{z}", MOMENTS, st.sampled_from(["+0530", "+0000", ""]))
SMALL = st.integers(0, 6)
NAMES = st.sampled_from(["a", "b", "c"])
NUMBER_KEYS = st.sampled_from(["completedCount", "score:a", "max_score:a", "attempts_count:a", "score:b", "other"])
ATTEMPTS = st.builds(
    lambda a, d: json.dumps({"attempt_id": a, "content_id": "a", "last_attempted_on": f"Mar {d}, 2022, 1:00:00 AM"}),
    NAMES,
    st.integers(1, 28),
)
CERTIFICATES = st.builds(lambda n, d: {"identifier": n, "lastIssuedOn": f"2022-03-0{d}"}, NAMES, st.integers(1, 9))
BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "text": NAMES,
    "int": SMALL,
    "float": SMALL.map(float),
    "double": SMALL.map(float),
    "boolean": st.booleans(),
    "timestamp": MOMENTS,
    "date": MOMENTS.map(lambda moment: moment.date()),
    "set<text>": st.sets(NAMES, min_size=1),
    "map<text, text>": st.dictionaries(NAMES, NAMES, min_size=1),
    "map<text, int>": st.dictionaries(NUMBER_KEYS, SMALL, min_size=1),
    "map<text, double>": st.dictionaries(NUMBER_KEYS, SMALL.map(float), min_size=1),
    "map<text, timestamp>": st.dictionaries(NAMES, MOMENTS, min_size=1),
    "list<text>": st.lists(ATTEMPTS, min_size=1, max_size=3),
    "list<frozen<map<text, text>>>": st.lists(CERTIFICATES, min_size=1, max_size=3),
    "list<frozen<question>>": st.lists(st.tuples(NAMES, SMALL), min_size=1, max_size=2),
}
BY_COLUMN: dict[str | tuple[str, str], st.SearchStrategy[Any]] = {
    **{c: TEXTS for c in ("enrolleddate", "lastaccesstime", "lastcompletedtime", "lastupdatedtime")},
    "contentstatus": st.dictionaries(NAMES, st.integers(0, 2), min_size=1),
    ("group_member", "status"): st.sampled_from(["active", "inactive"]),
    "role": st.sampled_from(["admin", "member"]),
}


#: Columns of forks that no DDL here has.
FORKS = {"lrc_progressdetails": "text"}
#: What rows are compared by to find the one whose columns others follow.
LEADS = {
    "user_enrolments": {"lastcontentaccesstime", "datetime", "lastreadcontentstatus", "enrolled_date"},
    "user_entity_enrolments": {"lastcontentaccesstime", "datetime", "lastreadcontentstatus", "enrolled_date"},
    "user_content_consumption": {
        "progress",
        "completionpercentage",
        "last_access_time",
        "lastaccesstime",
        "datetime",
    },
    "assessment_aggregator": {"last_attempted_on", "updated_on", "created_on", "total_score"},
}


def rows_of(rule: TableRule, leads: bool | None = None) -> st.SearchStrategy[Values]:
    """Rows of a table; all with its leading columns (`leads`), all without them, or as it comes."""
    return _rows_of(rule.table, leads)


def row_or_none(rule: TableRule, leads: bool | None = None) -> st.SearchStrategy[Values | None]:
    """The same, or no row."""
    return _row_or_none(rule.table, leads)


@cache  # to make one takes longer than to draw from it
def _row_or_none(table: str, leads: bool | None) -> st.SearchStrategy[Values | None]:
    return st.none() | _rows_of(table, leads)


@cache
def _rows_of(table: str, leads: bool | None) -> st.SearchStrategy[Values]:
    rule = rule_for(table)
    types = OFFICIAL[rule.table].columns | FORKS
    values = {c: _values(rule, c, types[c]) for c in rule.columns}
    always = {c: values.pop(c) for c in LEADS.get(rule.table, ())} if leads is not None else {}
    return st.fixed_dictionaries(always if leads else {}, optional=values)


def _values(rule: TableRule, column: str, cql_type: str) -> st.SearchStrategy[Any]:
    return BY_COLUMN.get((rule.table, column), BY_COLUMN.get(column, BY_TYPE[cql_type]))


FOUND = st.fixed_dictionaries(
    {
        "finished": st.dictionaries(st.sampled_from(["s1", "s2", "t"]), st.sets(NAMES)),
        "attempts": st.dictionaries(st.sampled_from(["s1", "s2", "t"]), st.sets(st.tuples(NAMES, NAMES))),
        "memberships": st.just({}),
    }
)
EVIDENCE = FOUND.map(lambda found: Evidence({name: Findings(shown) for name, shown in found.items()}))


def totals(handed: Mapping[str, Mapping[str, tuple[int, int]]]) -> dict[str, dict[str, int]]:
    return {account: {column: after for column, (_, after) in g.items()} for account, g in handed.items()}


@each_rule
@quick
@given(data=st.data())
def test_merging_a_row_again_changes_nothing(rule: TableRule, data: st.DataObject) -> None:
    sources = {name: data.draw(rows_of(rule)) for name in data.draw(st.sampled_from([["s1"], ["s1", "s2"]]))}
    target, evidence = data.draw(row_or_none(rule)), data.draw(EVIDENCE)
    once, handed = merge_values(rule, sources, target, "t", Facts({}, evidence))
    given_then = totals(handed)
    twice, again = merge_values(rule, sources, once, "t", Facts(given_then, evidence))
    assert twice == once
    assert totals(again) == given_then


@each_rule
@quick
@given(data=st.data())
def test_the_order_of_several_sources_is_free(rule: TableRule, data: st.DataObject) -> None:
    one, two, target = (data.draw(rows_of(rule)) for _ in range(3))
    evidence = data.draw(EVIDENCE)
    forward = merge_values(rule, {"s1": one, "s2": two}, target, "t", Facts({}, evidence))
    assert merge_values(rule, {"s2": two, "s1": one}, target, "t", Facts({}, evidence)) == forward
    # Names of accounts decide only what neither order nor content does.
    renamed = merge_values(rule, {"s1": two, "s2": one}, target, "t", Facts())[0]
    plain = merge_values(rule, {"s1": one, "s2": two}, target, "t", Facts())[0]
    for column in {*renamed, *plain}:
        if rule.strategy(column).commutative:
            assert renamed.get(column) == plain.get(column), column


@each_rule
@quick
@given(data=st.data())
def test_nothing_earned_is_lost(rule: TableRule, data: st.DataObject) -> None:
    sides = [data.draw(rows_of(rule)) for _ in range(3)]
    merged, _ = merge_values(rule, {"s1": sides[0], "s2": sides[1]}, sides[2], "t", Facts({}, data.draw(EVIDENCE)))
    everything = {column for side in sides for column in side}
    emptied = {"lastreadcontentid", "lastreadcontentstatus", "lrc_progressdetails"}  # they come from one row together
    assert everything - set(merged) <= {c for c in everything if rule.strategy(c).gap(1) is None} | emptied
    assert not everything & emptied or {c: v for c, v in merged.items() if c in emptied} in [
        {c: v for c, v in side.items() if c in emptied} for side in sides if emptied & set(side)
    ]
    for column, value in merged.items():
        held = [side[column] for side in sides if column in side]
        strategy = rule.strategy(column)
        if strategy.ledger:
            assert value == sum(held)
        elif strategy.name in ("maximum", "latest", "either"):
            assert value >= max(held)
        elif strategy.name == "earliest":
            assert value <= min(held)
        elif isinstance(value, set):
            assert value == set().union(*held)
        elif isinstance(value, dict) and strategy.commutative:
            for key in {key for m in held for key in m}:
                best = max(m[key] for m in held if key in m)
                assert value[key] >= best or key.startswith("max_score:"), key


@each_rule
@quick
@given(data=st.data())
def test_a_row_that_only_the_source_has_moves_whole(rule: TableRule, data: st.DataObject) -> None:
    row = data.draw(rows_of(rule))
    merged, _ = merge_values(rule, {"s1": row}, None, "t", Facts())
    derived = {column for d in rule.derive for column in d.columns}
    assert set(merged) == set(row)
    derived |= {"pii_consent_required"}  # never switched on
    assert {c: v for c, v in merged.items() if c not in derived} == {c: v for c, v in row.items() if c not in derived}


# --- totals -------------------------------------------------------------------------------------------------------
CONSUMPTION = rule_for("user_content_consumption")


@pytest.mark.parametrize(
    ("source", "target", "already", "after", "handed"),
    [
        (3, 2, None, 5, (0, 3)),
        (3, None, None, 3, (0, 3)),
        (3, 5, 3, 5, (3, 3)),
        (7, 5, 3, 9, (3, 7)),
        (1, 5, 3, 5, (3, 3)),  # a counter that fell gives nothing and forgets nothing
    ],
)
def test_a_total_adds_only_what_was_not_given_yet(
    source: int, target: int | None, already: int | None, after: int, handed: tuple[int, int]
) -> None:
    before = {} if target is None else {"viewcount": target}
    ledger = {} if already is None else {"s": {"viewcount": already}}
    merged, found = merge_values(CONSUMPTION, {"s": {"viewcount": source}}, before, "t", Facts(ledger))
    assert merged["viewcount"] == after
    assert found["s"]["viewcount"] == handed


# --- columns that follow ------------------------------------------------------------------------------------------
def sides(*rows: Values) -> list[Side]:
    *sources, target = rows
    return [*(Side(f"s{n}", row) for n, row in enumerate(sources)), Side("t", target, target=True)]


def derived(derivation: Any, *rows: Values, merged: Values | None = None, evidence: Evidence | None = None) -> Values:
    return dict(derivation.apply(sides(*rows), merged or {}, evidence or Evidence()))


DAYS = [datetime(2022, 3, day) for day in range(1, 10)]


def test_follow_takes_the_row_whose_lead_won() -> None:
    by_latest, by_first = follow("lead", ("a",)), follow("lead", ("a",), first=True)
    one, two = {"lead": DAYS[1], "a": "early"}, {"lead": DAYS[2], "a": "late"}
    assert derived(by_latest, one, two) == derived(by_latest, two, one) == {"a": "late"}
    assert derived(by_first, one, two) == derived(by_first, two, one) == {"a": "early"}


def test_followers_come_together_from_one_row_and_what_it_lacks_stays_empty() -> None:
    rule = follow("lead", ("a", "b"))
    assert derived(rule, {"lead": 2, "a": 1}, {"lead": 1, "a": 9, "b": 8}) == {"a": 1, "b": None}
    assert derived(rule, {"lead": 2}, {"lead": 1, "a": 9, "b": 8}) == {"a": 9, "b": 8}  # the other row has none
    assert derived(rule, {"lead": 2}, {"lead": 1}) == {}
    assert derived(follow("lead", ("a", "b"), apart=True), {"lead": 2, "a": 1}, {"a": 9, "b": 8}) == {"a": 1, "b": 8}


def test_a_row_that_lacks_the_lead_is_compared_by_the_next_one() -> None:
    rule = follow(("lead", "next", "then"), ("a",))
    for mine, other, found in (
        ({"lead": 1}, {"lead": 1}, "target"),  # nothing decides
        ({"lead": 0, "next": 80.0}, {"lead": 0, "next": 20.0}, "source"),
        ({"next": 80.0}, {"next": 20.0}, "source"),
        ({"next": 80.0}, {"lead": 9, "next": 20.0}, "source"),
        ({"lead": 9, "next": 20.0}, {"next": 80.0}, "target"),
        ({"lead": 1}, {"next": 80.0}, "source"),  # nothing that both show: the one with the first lead
        ({"lead": float("nan"), "next": 2}, {"lead": 1, "next": 1}, "source"),
        ({"lead": 1, "next": float("nan"), "then": DAYS[2]}, {"lead": 1, "next": 1, "then": DAYS[1]}, "source"),
        ({"lead": datetime(1970, 1, 1), "then": DAYS[2]}, {"lead": DAYS[1], "then": DAYS[1]}, "source"),
        ({"lead": datetime(2200, 1, 1), "then": DAYS[1]}, {"lead": DAYS[1], "then": DAYS[2]}, "target"),
        ({"lead": "junk"}, {"lead": object()}, "target"),
    ):
        assert derived(rule, mine | {"a": "source"}, other | {"a": "target"}) == {"a": found}, (mine, other)


def test_an_unknown_column_comes_with_the_row_that_gave_what_the_rule_knows() -> None:
    for table, lead in (("user_enrolments", "lastcontentaccesstime"), ("user_entity_enrolments", "datetime")):
        rule, companion = rule_for(table), "lastreadcontentid"
        source = {lead: DAYS[5], companion: "late", "new_column": "its own", "other": 1}
        target = {lead: DAYS[1], companion: "early", "new_column": "stale", "third": 2}
        found = merge_values(rule, {"s": source}, target, "t", Facts())[0]
        assert found == {**source, "third": 2}
        back = merge_values(rule, {"s": target}, source, "t", Facts())[0]
        assert back == {**source, "third": 2}
        why = plan_row(rule, ("k",) * len(rule.key), {"s": source}, Row((), target), "t", 1, Facts()).why
        assert why["new_column"].startswith("no rule knows this column: it comes with the greatest")
        assert why["other"].startswith("no rule knows this column")


def test_what_the_leading_row_lacks_is_emptied_at_the_target_and_comes_back_by_the_undo() -> None:
    rule = rule_for("user_enrolments")
    source = {"lastcontentaccesstime": DAYS[5], "lastreadcontentid": "late"}
    target = {"lastcontentaccesstime": DAYS[1], "lastreadcontentid": "early", "lrc_progressdetails": "of early"}
    change = plan_row(rule, ("c", "b"), {"s": source}, Row((), target), "t", 1, Facts())
    assert change.writes["lrc_progressdetails"].value is None
    assert change.after == source
    undone = rebuild(
        rule,
        [AppliedChange(uuid.uuid4(), change)],
        change.after,
        "t",
        Effective(lambda merge: False),
    ).row
    assert undone == target


def test_follow_compares_a_moment_in_either_of_its_forms() -> None:
    rule = follow((("at", "text"),), ("by",), first=True)
    as_text, as_time = {"text": "2022-03-01 05:30:00:000+0530", "by": "text"}, {"at": DAYS[1], "by": "time"}
    assert derived(rule, as_text, as_time) == derived(rule, as_time, as_text) == {"by": "text"}
    assert derived(rule, {"text": "soon", "by": "unreadable"}, as_time) == {"by": "time"}


def test_twins_show_the_latest_moment_of_both_forms() -> None:
    rule = twins("at", "text")
    late = "2022-03-09 05:30:00:000+0530"
    assert derived(rule, {"at": DAYS[0]}, {"text": late}) == {"at": DAYS[8]}
    assert derived(rule, {"at": DAYS[0], "text": late}, {"at": DAYS[3]}) == {"at": DAYS[8]}
    assert derived(twins("at", "text", first=True), {"at": DAYS[0]}, {"at": DAYS[3], "text": late}) == {"at": DAYS[0]}


def test_twins_leave_a_form_null_that_nobody_has_and_pass_over_what_they_cannot_read() -> None:
    rule = twins("at", "text")
    assert derived(rule, {"text": "2022-03-09 05:30:00:000+0530"}, {}) == {}
    assert derived(rule, {"at": DAYS[0], "text": "soon"}, {}) == {"at": DAYS[0]}


def test_twins_never_give_more_than_a_timestamp_column_can_hold() -> None:
    """Cassandra keeps milliseconds: a finer value would differ from itself when it is read back."""
    found = derived(twins("at", "text"), {"at": DAYS[0], "text": "2022-03-09 05:30:00.123456+0530"}, {})
    assert found == {"at": DAYS[8].replace(microsecond=123000)}


def test_count_of_counts_the_union_only_where_each_side_s_own_number_does_so() -> None:
    rule = count_of("progress", "status", 2)
    one, two = {"progress": 1, "status": {"a": 2}}, {"progress": 2, "status": {"b": 2, "c": 2, "d": 1}}
    united = {"status": {"a": 2, "b": 2, "c": 2, "d": 1}}
    assert derived(rule, one, two, merged=united) == {"progress": 3}
    assert derived(rule, {**one, "progress": 5}, two, merged=united) == {}
    assert derived(rule, {"status": {"a": 2}}, {}, merged={"status": {"a": 2}}) == {}


def test_best_score_comes_with_its_own_maximum() -> None:
    rule = best_score("m", "details")
    one, two = {"m": {"score:q": 7, "max_score:q": 10}}, {"m": {"score:q": 5, "max_score:q": 20, "other": 1}}
    united = {"m": {"score:q": 7, "max_score:q": 20, "other": 1}}
    assert derived(rule, one, two, merged=united) == {"m": {"score:q": 7, "max_score:q": 10, "other": 1}}
    assert derived(rule, {}, {}, merged={}) == {}


def test_no_less_than_what_an_account_shows_in_the_older_form() -> None:
    """The platform reads `agg`, then `aggregates` over it: 1 in the newer form would hide 3 in the older one."""
    rule = no_less("new", "old")
    one, two = {"old": {"n": 3, "x": 1}}, {"new": {"n": 1.0, "score:q": 5.0}}
    united = {"new": {"n": 1.0, "score:q": 5.0}, "old": {"n": 3, "x": 1}}
    assert derived(rule, one, two, merged=united) == {"new": {"n": 3.0, "score:q": 5.0}}
    # What an account shows itself in the newer form is what counts for it.
    assert derived(rule, {"old": {"n": 9}, "new": {"n": 2.0}}, two, merged={"new": {"n": 2.0}}) == {"new": {"n": 2.0}}
    assert derived(rule, one, {}, merged={"old": {"n": 3}}) == {}


def test_best_score_looks_at_the_older_form_too() -> None:
    rule = best_score("new", "details", "old")
    one, two = {"old": {"score:q": 7, "max_score:q": 10}}, {"new": {"score:q": 5.0, "max_score:q": 20.0}}
    found = derived(rule, one, two, merged={"new": {"score:q": 5.0, "max_score:q": 20.0}})
    assert found == {"new": {"score:q": 7.0, "max_score:q": 10.0}}


def test_certificates_of_one_name_are_remarked() -> None:
    remark = same_name("certificates")
    assert remark.apply([{"name": "A", "identifier": "1"}, {"name": "B"}]) == []
    assert [words for words in remark.apply([{"name": "A"}, {"name": "A"}, {}]) if "2 named 'A'" in words]
    assert remark.apply(None) == []


@pytest.mark.parametrize(
    ("stored", "finished", "brought", "count"),
    [
        ((2, 2), ("ab", "cd"), "", 4),
        ((2, 2), ("ab", "bc"), "", 3),
        ((2, 3), ("ab", "abcd"), "d", 4),  # the target's own three, besides the one that an earlier merge brought it
        ((5, 2), ("ab", "cd"), "", None),  # the source counted something that we do not see: the maximum stands
        ((2, 4), ("ab", "cd"), "", None),
    ],
)
def test_union_count_only_where_it_is_proved(
    stored: tuple[int, int], finished: tuple[str, str], brought: str, count: int | None
) -> None:
    rule = union_count("m", "completedCount", "finished")
    found_by = Findings({"s0": set(finished[0]), "t": set(finished[1])}, {"t": set(brought)})
    evidence = Evidence({"finished": found_by})
    rows = [{"m": {"completedCount": float(n)}} for n in stored]
    merged = {"m": {"completedCount": float(max(stored)), "other": 1.0}}
    found = derived(rule, *rows, merged=merged, evidence=evidence)
    assert found == ({} if count is None else {"m": {"completedCount": float(count), "other": 1.0}})
    assert not found or isinstance(found["m"]["completedCount"], float)


def test_a_union_stays_proved_when_a_lesson_came_by_a_merge_that_has_expired() -> None:
    """The target's own two and one that an expired merge brought were counted before a later merge brought two more."""
    rule = union_count("m", "completedCount", "finished")
    findings = Findings({"s0": set("ab"), "t": set("abcde")}, {"t": set("bde")})
    evidence = Evidence({"finished": findings})
    rows = [{"m": {"completedCount": float(n)}} for n in (2, 3)]
    merged = {"m": {"completedCount": 3.0}}
    assert derived(rule, *rows, merged=merged, evidence=evidence) == {}
    lately = Evidence({"finished": replace(findings, lately={"t": set("de")})})
    assert derived(rule, *rows, merged=merged, evidence=lately) == {"m": {"completedCount": 5.0}}


def test_a_count_that_nobody_proved_is_the_same_when_the_merge_comes_again() -> None:
    """The target's 0 is not its two finished lessons. The 2 that the merge would leave there is: so it counts at once."""
    sources = {"s1": {}, "s2": {"aggregates": {"completedCount": 2.0}}}
    target = {"aggregates": {"completedCount": 0.0}}
    evidence = Evidence({"finished": Findings({"s1": {*"abc"}, "s2": {*"ab"}, "t": {*"ab"}})})
    rule = rule_for("user_activity_agg")
    once, handed = merge_values(rule, sources, target, "t", Facts({}, evidence))
    assert once == {"aggregates": {"completedCount": 3.0}}
    totals = {account: {c: after for c, (_, after) in given.items()} for account, given in handed.items()}
    assert merge_values(rule, sources, once, "t", Facts(totals, evidence))[0] == once


def test_attempts_count_counts_each_known_attempt_once_and_never_falls() -> None:
    rule = attempts_count("m", "details", "attempts")
    texts = [json.dumps({"attempt_id": a, "content_id": c}) for a, c in (("1", "q"), ("2", "q"), ("1", "p"))]
    evidence = Evidence({"attempts": Findings({"s": {("q", "2"), ("q", "3")}, "t": {("p", "1")}})})
    merged = {"m": {"attempts_count:q": 1, "attempts_count:p": 9, "score:q": 1}, "details": texts}
    found = derived(rule, {}, {}, merged=merged, evidence=evidence)
    assert found == {"m": {"attempts_count:q": 3, "attempts_count:p": 9, "score:q": 1}}


# --- groups and programs ------------------------------------------------------------------------------------------
MEMBER, GROUPS, PROGRAM = rule_for("group_member"), rule_for("user_group"), rule_for("program_enrollment")


@pytest.mark.parametrize(
    ("source", "target", "merged"),
    [
        (("admin", "active"), ("member", "active"), ("admin", "active")),
        (("member", "active"), ("admin", "active"), ("admin", "active")),
        (("admin", "inactive"), ("member", "active"), ("member", "active")),
        (("member", "active"), ("admin", "inactive"), ("member", "active")),
        (("admin", "inactive"), ("member", "inactive"), ("admin", "inactive")),
        (("admin", "inactive"), (None, "active"), (None, "active")),
    ],
)
def test_an_active_membership_stands_with_its_own_role(
    source: tuple[str, str], target: tuple[str | None, str], merged: tuple[str | None, str]
) -> None:
    rows = [{c: v for c, v in zip(("role", "status"), row, strict=True) if v} for row in (source, target)]
    found, _ = merge_values(MEMBER, {"s": rows[0]}, rows[1], "t", Facts())
    assert (found.get("role"), found["status"]) == merged


def test_who_removed_somebody_goes_with_the_membership_that_stands() -> None:
    ended = {"status": "inactive", "removedby": "r", "removedon": DAYS[2]}
    active = {"status": "active"}
    assert merge_values(MEMBER, {"s": ended}, active, "t", Facts())[0] == active
    assert merge_values(MEMBER, {"s": active}, ended, "t", Facts())[0] == active  # nobody removed the one that stands
    assert merge_values(MEMBER, {"s": ended, "s2": active}, None, "t", Facts())[0] == active
    later = {"status": "inactive", "removedby": "x", "removedon": DAYS[5]}
    assert merge_values(MEMBER, {"s": later}, ended, "t", Facts())[0] == later
    assert merge_values(MEMBER, {"s": ended}, later, "t", Facts())[0] == later


def test_the_groups_of_an_account_are_those_with_an_active_membership() -> None:
    evidence = Evidence({"memberships": Findings({"s": {"g1", "g4"}, "t": {"g2"}})})
    found, _ = merge_values(
        GROUPS, {"s": {"groupid": {"g1", "g3"}}}, {"groupid": {"g2", "g5"}}, "t", Facts({}, evidence)
    )
    assert found == {"groupid": {"g1", "g2", "g4", "g5"}}
    kept = replace(evidence, kept=frozenset({("g1",)}))
    found, _ = merge_values(GROUPS, {"s": {"groupid": {"g1", "g4"}}}, {"groupid": {"g2"}}, "t", Facts({}, kept))
    assert found == {"groupid": {"g2", "g4"}}


@pytest.mark.parametrize("source", [True, False, None])
@pytest.mark.parametrize("target", [True, False, None])
@pytest.mark.parametrize("exists", [True, False])
def test_consent_is_never_switched_on(source: bool | None, target: bool | None, exists: bool) -> None:
    rows = [{} if value is None else {"pii_consent_required": value} for value in (source, target)]
    found, _ = merge_values(PROGRAM, {"s": rows[0]}, rows[1] if exists else None, "t", Facts())
    assert bool(found.get("pii_consent_required")) == bool(exists and target)


# --- the table itself ---------------------------------------------------------------------------------------------
def test_content_consumption_is_merged_last_and_the_others_before() -> None:
    assert [rule.table for rule in RULES if rule.last] == ["user_content_consumption"] == [TABLES[-1]]


def test_rule_for_names_what_there_is() -> None:
    assert rule_for("user_enrolments").table == "user_enrolments"
    with pytest.raises(KeyError, match=r"no rule for table 'nothing'.*user_enrolments"):
        rule_for("nothing")


def test_place_is_the_course_and_batch_of_a_key() -> None:
    assert rule_for("user_activity_agg").scope_of(("Course", "do_1", "cb:7")) == ("do_1", "7")
    assert rule_for("user_enrolments").scope_of(("do_1", "7")) == ("do_1", "7")
    assert CONSUMPTION.scope_of(("do_1", "7", "x")) == ("do_1", "7")
    assert rule_for("assessment_aggregator").scope_of(("do_1", "7", "x", "a")) == ("do_1", "7")
    assert MEMBER.scope_of(("g1",)) == ("g1",)
    assert GROUPS.holds_scopes
    assert not MEMBER.holds_scopes


def test_a_place_decides_key_columns_and_is_read_back_from_them() -> None:
    place = Scope("course", ("activity", "context"), constants={"type": "Course"}, prefix="cb:")
    known = place.bind(("do_1", "7"))
    assert known == {"type": "Course", "activity": "do_1", "context": "cb:7"}
    assert place.of(known) == ("do_1", "7")


K = Scope("course", ("k",))


def test_the_hash_changes_with_a_rule_s_meaning_only() -> None:
    assert rules_hash() == rules_hash(RULES)
    assert len({rules_hash(RULES[:n]) for n in range(len(RULES) + 1)}) == len(RULES) + 1
    changed = TableRule("t", "u", ("k",), "why", {"c": maximum}, K)
    assert rules_hash((changed,)) != rules_hash((TableRule("t", "u", ("k",), "why", {"d": maximum}, K),))
    assert rules_hash((replace(changed, why="in other words"),)) == rules_hash((changed,))
    led = next(rule for rule in RULES if rule.derive)
    reworded = tuple(replace(derivation, why="in other words") for derivation in led.derive)
    assert rules_hash((replace(led, derive=reworded),)) == rules_hash((led,))
    assert rules_hash((replace(led, derive=led.derive[1:]),)) != rules_hash((led,))
    assert rules_hash((replace(led, deactivated={"x": 1}),)) != rules_hash((led,))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (TableRule("t", "u", ("k",), "why", {"c": follows}, K), "no derivation leads it"),
        (TableRule("t", "u", ("k",), "why", {"c": goes_with}, K), "no derivation leads it"),
        (TableRule("t", "u", ("other",), "why", {"c": maximum}, K), "belongs to a scope by k, which it lacks"),
    ],
)
def test_a_rule_that_cannot_work_fails_at_import(rule: TableRule, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tables._check((rule,))
    tables._check((TableRule("t", "u", ("k",), "why", {"c": maximum}, K),))


def test_an_undo_keeps_the_best_attempt_that_stays_and_counts_those() -> None:
    """A score that a merged better one had hidden shows in its attempt's own text alone."""

    def text(name: str, score: float) -> str:
        return json.dumps({"attempt_id": name, "content_id": "q", "score": score, "max_score": 10})

    now = Side("t", {"m": {"score:q": 9.0, "attempts_count:q": 3.0},
                     "details": [text("s1", 9), text("t1", 5), text("t2", 7)]}, target=True)  # fmt: skip
    row = {"m": {"score:q": 5.0, "attempts_count:q": 3.0}, "details": [text("t1", 5), text("t2", 7)]}
    best, count = best_score("m", "details"), attempts_count("m", "details", "attempts")
    assert best.rederive is not None
    assert count.rederive is not None
    found = {**row, **best.rederive(now, row, Evidence())}
    found |= count.rederive(now, found, Evidence())
    assert found["m"] == {"score:q": 7.0, "max_score:q": 10.0, "attempts_count:q": 2.0}
    assert best.rederive(now, {**row, "m": {}}, Evidence()) == {
        "m": {"score:q": 7.0, "max_score:q": 10.0}
    }  # ours was as good
    without = Side("t", {**now.values, "m": {}}, target=True)
    assert best.rederive(without, {**row, "m": {}}, Evidence()) == {}  # the platform has not scored it
    unlike = Side("t", {**now.values, "m": {"attempts_count:q": 8.0}}, target=True)
    assert count.rederive(unlike, row, Evidence())["m"]["attempts_count:q"] == 3.0  # it counts something else
