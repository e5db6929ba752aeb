"""The merge-join: one change for each key that a source has, absolute values that win, and a second time changes nothing."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from account_merge.model import Change, HandedOn, Key, Row, Values
from account_merge.planning.combining import Facts, merge_values
from account_merge.planning.handed_on import HandedOnByKey
from account_merge.planning.merge_join import Shown, TableFacts, plan, plan_row, written_part
from account_merge.rules import RULES, rule_for
from account_merge.rules.evidence import Evidence, Findings
from account_merge.settings import Settings
from account_merge.sunbird.events import parse

quick = settings(max_examples=60, deadline=None, database=None)
CONSUMPTION, ENROLMENTS = rule_for("user_content_consumption"), rule_for("user_enrolments")
KEYS = st.tuples(st.sampled_from("ab"), st.sampled_from("12"), st.sampled_from("xyz"))
VALUES = st.fixed_dictionaries(
    {}, optional={"status": st.integers(0, 2), "viewcount": st.integers(0, 9), "lastaccesstime": st.just("soon")}
)
ACCOUNT = st.dictionaries(KEYS, VALUES, max_size=6)
Table = dict[Key, Values]
BASE = 1_000_000


def stream(table: Table, written: int = 0, base: int = BASE) -> list[Row]:
    return [Row(key, values, {c: written for c in values}, base) for key, values in sorted(table.items())]


def planned(sources: dict[str, Table], target: Table, given_totals: Any = (), **more: Any) -> list[tuple[Change, int]]:
    return list(
        plan(
            CONSUMPTION,
            "t",
            {a: stream(t) for a, t in sources.items()},
            stream(target),
            TableFacts(HandedOnByKey(given_totals, "totals").at, **more),
        )
    )


def applied(target: Table, changes: list[Change]) -> Table:
    """The target's rows after the changes' absolute values were written."""
    result = {key: dict(values) for key, values in target.items()}
    for change in changes:
        row = result.setdefault(change.key, {})
        for column, write in change.writes.items():
            row[column] = {**row.get(column, {}), **write.value} if isinstance(write.value, dict) else write.value
    return result


def handed_on(changes: list[Change]) -> list[tuple[Key, str, HandedOn]]:
    return [
        (change.key, account, HandedOn({c: after for c, (_, after) in change.given[account].items()}))
        for change in changes
        for account in sorted(change.given)
    ]


@quick
@given(ACCOUNT, ACCOUNT, ACCOUNT)
def test_one_change_for_each_key_of_a_source_in_key_order(one: Table, two: Table, target: Table) -> None:
    changes = [change for change, _ in planned({"s1": one, "s2": two}, target)]
    assert [change.key for change in changes] == sorted({*one, *two})
    for change in changes:
        assert change.before == target.get(change.key)
        assert bool(change.create_at) == (change.key not in target)
        assert change.sources == {a: t[change.key] for a, t in (("s1", one), ("s2", two)) if change.key in t}
        assert set(change.why) == set(change.writes)


@quick
@given(ACCOUNT, ACCOUNT, ACCOUNT)
def test_applied_changes_give_the_merged_rows_and_leave_the_others(one: Table, two: Table, target: Table) -> None:
    after = applied(target, [change for change, _ in planned({"s1": one, "s2": two}, target)])
    for key in {*one, *two, *target}:
        sources = {a: t[key] for a, t in (("s1", one), ("s2", two)) if key in t}
        wanted = merge_values(CONSUMPTION, sources, target.get(key), "t", Facts())[0] if sources else target[key]
        assert after[key] == wanted


@quick
@given(ACCOUNT, ACCOUNT, ACCOUNT, st.integers(1, 3))
def test_applying_and_planning_again_changes_nothing(one: Table, two: Table, target: Table, times: int) -> None:
    sources = {"s1": one, "s2": two}
    changes = [change for change, _ in planned(sources, target)]
    after = applied(target, changes)
    assert applied(target, changes * times) == after
    again = [change for change, _ in planned(sources, after, handed_on(changes))]
    assert not [change.writes for change in again if change.writes or change.create_at]
    assert handed_on(again) == handed_on(changes)


@quick
@given(ACCOUNT, ACCOUNT)
def test_keys_to_skip_stay_as_the_target_has_them(source: Table, target: Table) -> None:
    changes = [c for c, _ in planned({"s": source}, target, skip=lambda key: CONSUMPTION.scope_of(key) == ("a", "1"))]
    assert [c.key for c in changes] == sorted(key for key in source if key[:2] != ("a", "1"))


def test_a_ledger_of_several_entries_counts_the_highest_value_handed_on() -> None:
    key = ("a", "1", "x")
    earlier = [(key, "s", HandedOn({"viewcount": number})) for number in (3, 5, 4)]
    ((change, _),) = planned({"s": {key: {"viewcount": 6}}}, {key: {"viewcount": 10}}, earlier)
    assert change.writes["viewcount"].value == 11
    assert change.given == {"s": {"viewcount": (5, 6)}}


def test_a_row_of_places_exists_only_with_one() -> None:
    groups = rule_for("user_group")
    nothing, some = (Evidence({"memberships": Findings({"s": found})}) for found in (set(), {"g"}))
    rows = {"s": [Row((), {"groupid": {"g"}}, {}, 70)]}
    ((change, _),) = plan(groups, "t", rows, [], TableFacts(shown=Shown(lambda key: nothing)))
    assert (change.create_at, change.writes) == (0, {})
    ((change, _),) = plan(groups, "t", rows, [], TableFacts(shown=Shown(lambda key: some)))
    assert (change.create_at, change.writes["groupid"].value) == (70, {"g"})


def test_a_value_that_does_not_move_as_it_is_says_why() -> None:
    program = rule_for("program_enrollment")
    rows = {"s": [Row(("p",), {"pii_consent_required": True, "user_type": "teacher"}, {}, 70)]}
    ((change, _),) = plan(program, "t", rows, [], TableFacts())
    assert change.writes["pii_consent_required"].value is False
    assert "never switched on" in change.why["pii_consent_required"]
    assert "moves whole" in change.why["user_type"]


def test_the_base_is_the_lowest_clock_of_the_rows_at_hand() -> None:
    key = ("a", "1", "x")
    rows = {"s1": [Row(key, {"status": 2}, {}, 70)], "s2": [Row(key, {"status": 1}, {}, 90)]}
    ((change, base),) = plan(CONSUMPTION, "t", rows, [Row(key, {"status": 0}, {"status": 5}, 80)], TableFacts())
    assert base == 70
    assert change.writes["status"].timestamp == 70


@pytest.mark.parametrize(("written", "timestamp"), [(0, 100), (99, 100), (100, 101), (5000, 5001)])
def test_a_write_always_wins_over_the_cell_that_was_read(written: int, timestamp: int) -> None:
    row = Row(("a", "1", "x"), {"status": 1}, {"status": written}, 100)
    change = plan_row(CONSUMPTION, row.key, {"s": {"status": 2}}, row, "t", 100, Facts())
    assert change.writes["status"].timestamp == timestamp


def test_only_cells_that_differ_are_written_and_say_why() -> None:
    row = Row(("a", "1", "x"), {"status": 2, "viewcount": 1, "progress": 9}, {}, 100)
    source = {"status": 1, "viewcount": 2, "progress": 9}
    change = plan_row(CONSUMPTION, row.key, {"s": source}, row, "t", 100, Facts(notes=("a note",)))
    assert {c: w.value for c, w in change.writes.items()} == {"viewcount": 3}
    assert change.why == {"viewcount": CONSUMPTION.strategy("viewcount").why}
    assert change.notes == ("a note",)


def test_of_a_map_only_the_keys_that_differ_are_written() -> None:
    row = Row(("c", "1"), {"contentstatus": {"a": 2, "b": 1}}, {}, 100)
    change = plan_row(ENROLMENTS, row.key, {"s": {"contentstatus": {"b": 2, "a": 1, "c": 0}}}, row, "t", 100, Facts())
    assert change.writes["contentstatus"].value == {"b": 2, "c": 0}


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, {"b": 2}),
        (None, {"a": 1}, {"a": 1}),
        ({"x"}, {"x", "y"}, {"y"}),
        (None, {"x"}, {"x"}),
        ([1], [1, 2], [1, 2]),
        (1, 2, 2),
    ],
)
def test_written_part(old: Any, new: Any, part: Any) -> None:
    assert written_part(old, new) == part


# --- the given cases, without a server ----------------------------------------------------------------------------
CASES = json.loads((Path(__file__).parents[3] / "cases" / "merge.json").read_text())
SETTINGS = Settings.from_env({})
SINGLE = [c for c in CASES["cases"] if len(c["events"]) == 1 and "edata" in json.loads(c["events"][0])]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)


def typed(cql_type: str, value: Any) -> Any:
    if "timestamp" in cql_type:
        return {k: moment(v) for k, v in value.items()} if isinstance(value, dict) else moment(value)
    return value


def accounts(case: dict[str, Any], table: str) -> dict[str, Table]:
    rule, types = rule_for(table), CASES["schema"][table]
    found: dict[str, Table] = defaultdict(dict)
    for row in case["before"].get(table, []):
        key = tuple(row[c] for c in rule.key)
        values = {
            c: typed(types[c], v) for c, v in row.items() if c not in (*rule.key, rule.user) and v not in (None, {})
        }
        found[row[rule.user]][key] = values
    return found


def finished(case: dict[str, Any], place: tuple[str, str]) -> Evidence:
    consumption = accounts(case, "user_content_consumption")
    shown = {
        account: {key[2] for key, row in table.items() if key[:2] == place and row.get("status") == 2}
        for account, table in consumption.items()
    }
    return Evidence({"finished": Findings(shown)})


def comparable(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, list) else value


@pytest.mark.parametrize("table", [t for t in CASES["schema"]])
@pytest.mark.parametrize("case", SINGLE, ids=lambda c: c["name"])
def test_each_case_of_one_event_is_planned_right(case: dict[str, Any], table: str) -> None:
    rule, types, event = rule_for(table), CASES["schema"][table], parse(case["events"][0].encode(), SETTINGS)
    assert event is not None
    held = accounts(case, table)
    changes = plan(
        rule,
        event.target,
        {source: stream(held.get(source, {})) for source in event.sources},
        stream(held.get(event.target, {})),
        TableFacts(shown=Shown(lambda key: finished(case, rule.scope_of(key)))),
    )
    after = applied(held.get(event.target, {}), [change for change, _ in changes])
    free = {f["column"] for f in (*case["free_columns"], *CASES["always_free"]) if f["table"] == table}
    wanted = {
        tuple(row[c] for c in rule.key): {
            c: comparable(typed(types[c], v))
            for c, v in row.items()
            if c not in (*rule.key, rule.user, *free) and v not in (None, {}, [])
        }
        for row in case["right_after_target"].get(table, [])
    }
    assert {k: {c: comparable(v) for c, v in row.items() if c not in free} for k, row in after.items()} == wanted


def test_the_cases_cover_the_tables_that_they_say() -> None:
    assert len(SINGLE) >= 10
    assert set(CASES["schema"]) <= {rule.table for rule in RULES}
