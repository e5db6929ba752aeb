"""The warnings before a merge, on the page and by the API; and requests that are refused at once."""

from __future__ import annotations

import re
import uuid

import pytest

from account_merge.model import MergeRequest
from tests.integration.plugins.test_web import run, signed_in
from tests.learners import account, enrolment, lesson, put
from tests.people import person

CC, ENR = "user_content_consumption", "user_enrolments"


@pytest.fixture(scope="module")
def robot(server):
    with signed_in(server, "robot") as found:
        yield found


@pytest.fixture
def pair(server, session):
    """Two users of the platform; the source has a lesson more."""
    source, target = (person(session, server.users, "u" + uuid.uuid4().hex[:10]) for _ in range(2))
    for user, views in ((source, 6), (target, 10)):
        put(session, server.keyspace, ENR, enrolment(user, active=True, progress=1))
        put(session, server.keyspace, CC, lesson(user, "L1", viewcount=views, status=2))
    put(session, server.keyspace, CC, lesson(source, "L2", viewcount=1, status=2))
    return source, target


def previewed(robot, source, target, **more):
    """Return the API's answer and the page's part."""
    sources = [source] if isinstance(source, str) else source
    body = {"source_accounts": sources, "target_account": target, **more}
    answer, part = robot.post("/api/v1/previews", json=body), robot.post("/new/preview", json=body)
    assert (answer.status_code, part.status_code) == (200, 200), answer.text + part.text
    return answer.json(), part.text


def codes(answer, serious=None):
    return [w["code"] for w in answer["warnings"] if serious in (None, w["serious"])]


def claims(part):
    return re.findall(r'data-claim="(.*?)"', part)


# --- what is lost -----------------------------------------------------------------------------------------------------
def test_nothing_is_lost_is_said_when_it_is_so_and_else_what_where_and_why(robot, pair):
    answer, part = previewed(robot, *pair)
    assert not answer["balance"]["behind"]
    assert not any(line["short"] for line in answer["balance"]["lines"])
    assert answer["balance"]["nothing_lost"] == (claims(part) == ["nothing-lost"])
    for more, why in (
        ({"on_conflict": "skip"}, "the target's rows of this course stay as they are (skip)"),
        ({"tables": [ENR]}, "this table is left out"),
        ({"choices": {"tables": {CC: "target"}, "rows": []}}, "the target's row stands by choice"),
    ):
        answer, part = previewed(robot, *pair, **more)
        balance = answer["balance"]
        assert (balance["nothing_lost"], claims(part)) == (False, ["lost"])
        lines = {line["what"]: line for line in balance["lines"]}
        assert lines["views"]["sources"] == {pair[0]: 7}
        assert (lines["views"]["target"], lines["views"]["should"], lines["views"]["result"]) == (10, 17, 10)
        assert lines["views"]["why"] == {why: 7}
        assert why in part.replace("&#39;", "'")
        assert CC in {one["table"] for one in balance["behind"]}


# --- who it is ----------------------------------------------------------------------------------------------------------
def test_an_id_that_nobody_has_is_said_before_a_merge_is_possible(robot, pair):
    source, target = pair
    answer, part = previewed(robot, source, target)
    assert codes(answer) == []
    assert "data-serious" not in part
    wrong = account()
    answer, part = previewed(robot, [source, wrong], target)
    assert [(w["code"], w["account"], w["serious"]) for w in answer["warnings"]] == [
        ("NO_ROWS", wrong, True), ("NO_USER", wrong, True),
    ]  # fmt: skip
    assert re.findall(r'data-serious="(.*?)"', part) == ["NO_ROWS", "NO_USER"]
    assert wrong in part
    answer, _ = previewed(robot, source, wrong)
    assert codes(answer, serious=True) == ["NO_USER"]


def test_a_user_without_rows_and_rows_without_a_user_are_told_apart(robot, server, session, pair):
    empty, ghost = person(session, server.users, "u" + uuid.uuid4().hex[:10]), account()
    put(session, server.keyspace, CC, lesson(ghost, viewcount=1))
    put(session, server.keyspace, ENR, enrolment(ghost))
    assert codes(previewed(robot, empty, pair[1])[0]) == ["NO_ROWS"]
    assert codes(previewed(robot, ghost, pair[1])[0]) == ["NO_USER"]


# --- the pair's past and present -----------------------------------------------------------------------------------------
def test_a_pair_that_was_merged_is_told_by_the_merge_that_did_it(robot, server, pair):
    merge_id = server.service.opening.open_merge(MergeRequest((pair[0],), pair[1]))
    run(server, str(merge_id))
    repair = server.service.repairing.repair(merge_id, "ann", "more came")
    run(server, repair["merge_id"])
    answer, part = previewed(robot, *pair)
    (told,) = answer["warnings"]
    merge = server.service.journal.need(merge_id)
    assert (told["code"], told["serious"], told["merge_id"]) == ("MERGED_ALREADY", False, str(merge_id))
    assert f"{merge.closed_at:%Y-%m-%d %H:%M}" in told["words"]
    assert f"/merges/{merge_id}" in part
    assert server.service.journal.change(merge, expiry="done")
    assert codes(previewed(robot, *pair)[0]) == ["COMBINES_ANEW"]


def test_an_account_that_another_merge_holds_is_told_with_that_merges_state(robot, server, session, pair):
    service = server.service
    other = service.opening.open_merge(MergeRequest((account(),), pair[1]))
    service.admission.admit(other)
    service.failures.fail(other, "", "no luck")
    (told,) = previewed(robot, *pair)[0]["warnings"]
    assert (told["code"], told["account"], told["merge_id"]) == ("ACCOUNT_HELD", pair[1], str(other))
    assert "which is failed" in told["words"]
    assert "would wait" in told["words"]
    service.undoing.abandon(other, "over")
    assert codes(previewed(robot, *pair)[0]) == []


def test_a_target_that_was_merged_away_is_told_with_where_the_rows_go(robot, server, session, pair):
    source, target = pair
    survivor = person(session, server.users, "u" + uuid.uuid4().hex[:10])
    merge_id = server.service.opening.open_merge(MergeRequest((target,), survivor))
    run(server, str(merge_id))
    (told,) = previewed(robot, source, target)[0]["warnings"]
    assert (told["code"], told["account"], told["merge_id"]) == ("MERGED_AWAY", target, str(merge_id))
    assert survivor in told["words"]


# --- refused at once ---------------------------------------------------------------------------------------------------
def refused(answer, code):
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert answer.json()["remedy"]


def test_no_table_is_not_every_table(robot, pair):
    body = {"source_accounts": [pair[0]], "target_account": pair[1], "tables": []}
    refused(robot.post("/api/v1/previews", json=body), "NO_TABLES")
    refused(robot.post("/new/preview", json=body), "NO_TABLES")
    for path in ("/api/v1/merges", "/api/v1/proposals"):
        refused(robot.post(path, json=body, headers={"idempotency-key": uuid.uuid4().hex}), "NO_TABLES")
    everything = [t["table"] for t in previewed(robot, *pair)[0]["tables"]]
    assert [t["table"] for t in previewed(robot, *pair, tables=None)[0]["tables"]] == everything


@pytest.mark.parametrize("action", ["undo", "redo"])
def test_an_undo_says_whether_it_is_only_looked_at(robot, server, pair, action):
    merge_id = server.service.opening.open_merge(MergeRequest((pair[0],), pair[1]))
    run(server, str(merge_id))
    if action == "redo":
        server.service.undoing.run(merge_id, publish=False)
    state = server.service.journal.need(merge_id).state
    for body in ({}, {"reason": "two persons"}, {"dry_run": None}):
        refused(robot.post(f"/api/v1/merges/{merge_id}/{action}", json=body), "DRY_RUN_MISSING")
    assert robot.post(f"/api/v1/merges/{merge_id}/{action}", json={"dry_run": True}).status_code == 200
    assert server.service.journal.need(merge_id).state == state


def test_merging_is_not_stopped_without_a_reason(robot, server):
    for body in ({"action": "pause"}, {"action": "pause", "reason": " "}):
        refused(robot.post("/api/v1/switches", json=body), "NO_REASON")
    assert server.service.switch.active() == {}
