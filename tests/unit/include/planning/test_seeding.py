"""Merges that the retired job did before: totals stay, what it lost comes, what stays open is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from account_merge.errors import InvalidRequest
from account_merge.journal.rows import request_columns
from account_merge.lifecycle.requests import request_of
from account_merge.model import Row
from account_merge.planning.combining import Facts, merge_values
from account_merge.planning.merge_join import TableFacts, plan, plan_row
from account_merge.planning.news import Earlier
from account_merge.planning.rebuild import AppliedChange, Effective, rebuild
from account_merge.planning.seeding import Seeding
from account_merge.rules import rule_for
from account_merge.rules.derivations import Side, scores_of_attempts, union_count
from account_merge.rules.evidence import Evidence, Findings
from account_merge.settings import Settings
from account_merge.sunbird.events import MergeEvent

LESSONS, ENROLMENTS = rule_for("user_content_consumption"), rule_for("user_enrolments")
COUNTS = st.dictionaries(st.sampled_from(["viewcount", "completedcount", "status"]), st.integers(0, 9))
KEY = ("c", "b", "l")


SEEDED = Earlier(seeded={"s": True})


@given(COUNTS, COUNTS, st.dictionaries(st.sampled_from(["viewcount", "completedcount"]), st.integers(0, 9)))
def test_a_total_that_both_have_stays_and_everything_else_is_as_ever(source, target, ledger):
    """What a ledger knows is counted by it: what the source has beyond that came after the retired job."""
    found, handed = merge_values(LESSONS, {"s": source}, target, "t", Facts({"s": ledger}, earlier=SEEDED))
    plain, _ = merge_values(LESSONS, {"s": source}, target, "t", Facts({"s": ledger}))
    for column in ("viewcount", "completedcount"):
        stays = column in target and column not in ledger
        assert found.get(column) == (target[column] if stays else plain.get(column))
        if column in source:
            before, after = handed["s"][column]
            assert after == max(source[column], ledger.get(column, 0))
            assert before == (after if stays else ledger.get(column, 0))
    assert found.get("status") == plain.get("status")


@given(COUNTS, COUNTS)
def test_what_comes_later_moves_by_its_difference(source, target):
    once, handed = merge_values(LESSONS, {"s": source}, target, "t", Facts(earlier=SEEDED))
    given_then = {"s": {column: after for column, (_, after) in handed.get("s", {}).items()}}
    assert merge_values(LESSONS, {"s": source}, once, "t", Facts(given_then))[0] == once
    later = {column: value + 3 for column, value in source.items()}
    more, _ = merge_values(LESSONS, {"s": later}, once, "t", Facts(given_then))
    for column in {"viewcount", "completedcount"} & set(source):
        assert more[column] == once[column] + 3


@given(COUNTS, st.one_of(st.none(), COUNTS))
def test_undo_and_redo_of_a_seeded_merge_are_exact(source, target):
    row = None if target is None else Row(KEY, target, dict.fromkeys(target, 5), 100)
    change = plan_row(LESSONS, KEY, {"s": source}, row, "t", 100, Facts(earlier=SEEDED))
    steps = [AppliedChange("m", change)]
    assert rebuild(LESSONS, steps, change.after, "t", Effective(lambda m: False)).row == target
    assert rebuild(LESSONS, steps, change.after, "t", Effective(lambda m: True)).row == change.after


def test_a_row_that_only_the_source_has_moves_whole():
    found, handed = merge_values(LESSONS, {"s": {"viewcount": 4}}, None, "t", Facts(earlier=SEEDED))
    assert (found, handed) == ({"viewcount": 4}, {"s": {"viewcount": (0, 4)}})


@pytest.mark.parametrize(("written", "since", "active"), [(10, 20, True), (30, 20, False), (10, 0, False)])
def test_a_switch_that_was_turned_after_the_merge_stays(written, since, active):
    target = Row(("c", "b"), {"active": False}, {"active": written}, 100)
    args = (ENROLMENTS, ("c", "b"), {"s": {"active": True}}, target, "t", 100)
    seeding = Seeding({"s": since})
    change = plan_row(*args, Facts(earlier=Earlier({}, seeding.seeded, seeding.stays(ENROLMENTS, target))))
    assert change.after == {"active": active}
    assert plan_row(*args, Facts()).after == {"active": True}
    steps = [AppliedChange("m", change)]
    assert rebuild(ENROLMENTS, steps, change.after, "t", Effective(lambda m: True)).row == change.after


@pytest.mark.parametrize(("value", "held", "written", "since", "words"), [
    (3, 5, 10, 20, ""), (3, 5, 30, 20, "went on"), (3, 5, 30, 0, ""), (5, 3, 10, 20, "less than the source"),
    (3, 3, 10, 20, ""),
])  # fmt: skip
def test_both_readings_are_named_where_the_data_leaves_them_open(value, held, written, since, words):
    source, target = Row(KEY, {"viewcount": value}, {"viewcount": written}, 100), Row(KEY, {"viewcount": held}, {}, 100)
    ((change, _),) = plan(LESSONS, "t", {"s": [source]}, [target], TableFacts(seeding=Seeding({"s": since})))
    assert change.writes == {}
    assert len(change.notes) == bool(words)
    assert not words or (words in change.notes[0] and f"up to {value} of source account s" in change.notes[0])


def count(stored, finished, seeded=("s",)):
    sides = [
        Side("s", {"m": {"completedCount": stored[0]}}),
        Side("t", {"m": {"completedCount": stored[1]}}, target=True),
    ]
    findings = Findings(dict(zip("st", map(set, finished), strict=True)))
    evidence = Evidence({"finished": findings}, seeded=frozenset(seeded))
    merged = {"m": {"completedCount": max(stored)}}
    found = union_count("m", "completedCount", "finished").apply(sides, merged, evidence) or merged
    return found["m"]["completedCount"]


def test_a_count_that_the_retired_job_put_over_the_target_s_becomes_the_union():
    assert count((2, 2), ("ab", "abcd")) == 4
    assert count((2, 2), ("ab", "abcd"), seeded=()) == 2
    assert count((2, 3), ("ab", "abcd")) == 3  # neither's number: some lessons do not count here
    assert count((1, 1), ("ab", "abcd")) == 1  # the source's own is not proved


def test_erased_scores_are_made_of_the_attempts():
    early, late = datetime(2022, 1, 1), datetime(2022, 1, 2)
    attempts = {
        "s": {("q", "1", 8.0, 10.0, early), ("q", "2", 3.0, 10.0, late), ("r", "1", 9.0, 9.0, None)},
        "t": {("q", "1", 2.0, 10.0, late), ("p", "1", 5.0, 20.0, early), ("p", "2", None, None, None)},
    }
    rule = scores_of_attempts("m", "attempts", "old")
    merged = {"m": {"score:r": 9.5, "completedCount": 2.0}, "old": {"score:q": 1}}
    evidence = Evidence({"attempts": Findings(attempts)})
    found = rule.apply([], merged, replace(evidence, seeded=frozenset("s")))["m"]
    assert found == {
        "completedCount": 2.0, "score:r": 9.5, "score:q": 3.0, "max_score:q": 10.0, "score:p": 5.0, "max_score:p": 20.0,
        "attempts_count:q": 0.0, "attempts_count:p": 0.0, "attempts_count:r": 0.0,
    }  # fmt: skip
    assert rule.apply([], merged, replace(evidence, seeded=frozenset())) == {}
    assert rule.apply([], merged, evidence) == {}


@pytest.mark.parametrize(("ets", "stamp", "dated", "seeded"), [
    (1672531199999, 0, 1672531199999, True), (1672531200000, 1672531199999, 1672531200000, False),
    (1672531199, 0, 1672531199000, True), (1672531199999999, 0, 1672531199999, True),  # seconds, microseconds
    (1700000000, 0, 1700000000000, False), (1700000000000000, 0, 1700000000000, False),
    (None, 1672531199999, 1672531199999, True), (None, 0, None, False), (None, -1, None, False),
    # What cannot be is no time: the message's own counts, and without one nobody knows.
    (-7, 1672531199999, 1672531199999, True), (0, 1672531200001, 1672531200001, False), (1, 0, None, False),
    (10**30, 0, None, False), (4102444800000, 1700000000000, 1700000000000, False), (1, 5, None, False),
])  # fmt: skip
def test_the_event_s_own_time_decides_else_the_message_s(ets, stamp, dated, seeded):
    event = MergeEvent(("s",), "t", "m", ets)
    settings = Settings.from_env({})
    assert request_of(event, b"", settings, stamp_ms=stamp).seeded is False
    cut = settings.replace(cutover=datetime(2023, 1, 1, tzinfo=UTC))
    request = request_of(event, b"", cut, stamp_ms=stamp)
    assert (request.dated, request.seeded) == (dated, seeded)
    assert request_columns(request)["seeded"] == seeded
    believed = ets is None or dated is not None and str(dated)[:8] == str(ets)[:8]
    assert ("the event's ets is a time that cannot be" in request.doubt) != believed
    assert ("the message's own time counts" in request.doubt) == (dated is not None and not believed)


@pytest.mark.parametrize("text", ["yesterday", "2023-01-01T00:00:00", "2023-01-01", "1672531200"])
def test_a_cutover_without_its_zone_is_refused(text):
    with pytest.raises(InvalidRequest, match="ACCOUNT_MERGE_CUTOVER"):
        Settings.from_env({"ACCOUNT_MERGE_CUTOVER": text})


def test_a_cutover_is_a_moment_in_any_zone():
    texts = ("2023-01-01T00:00:00Z", "2023-01-01T05:30:00+05:30")
    here, there = (Settings.from_env({"ACCOUNT_MERGE_CUTOVER": text}).cutover for text in texts)
    assert here == there
    assert Settings.from_env({}).cutover is None
