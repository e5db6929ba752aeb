"""Pages and JSON API over HTTP: a real server process, Airflow's own sign-in, a real Cassandra."""

from __future__ import annotations

import json
import uuid

import httpx
import pytest

from account_merge.cli.main import run_merge
from account_merge.intake.bulk import Effort
from account_merge.model import MergeRequest
from tests.learners import account, event, lesson, put
from tests.people import person, user

BASE = "/account-merge"


def signed_in(server, name):
    given = {"username": name, "password": f"{name}-secret-1"}
    answer = httpx.post(f"{server.url}/auth/token", json=given, timeout=60)
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    return httpx.Client(base_url=f"{server.url}{BASE}", headers=headers, timeout=120)


@pytest.fixture(scope="module")
def robot(server):
    with signed_in(server, "robot") as found:
        yield found


@pytest.fixture(scope="module")
def viewer(server):
    with signed_in(server, "viewer") as found:
        yield found


def asked(robot, body, key):
    return robot.post("/api/v1/merges", json=body, headers={"idempotency-key": key})


def run(server, merge_id):
    """Do the work of the DAG's tasks: no Airflow is there to start them."""
    run_merge(server.service, uuid.UUID(merge_id), publish=False)
    assert server.service.journal.need(uuid.UUID(merge_id)).state == "completed"


def page(robot, path):
    answer = robot.get(path, headers={"accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return answer.text


# --- times ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("edge", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("path", ["/api/v1/merges", "/api/v1/failed", "/", "/failed"])
def test_a_time_at_the_edge_of_the_calendar_is_told_as_what_it_is(robot, path, name, edge):
    answer = robot.get(path, params={name: edge}, headers={"accept": "application/json"})
    assert answer.status_code == 422, answer.text
    assert "BAD_FILTER" in answer.text


@pytest.mark.parametrize("edge", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
@pytest.mark.parametrize("path", ["/api/v1/merges", "/api/v1/failed", "/", "/failed"])
def test_a_time_that_can_be_finds_what_there_is(robot, path, edge):
    for name in ("since", "until"):
        assert robot.get(path, params={name: edge}).status_code == 200


# --- the source accounts themselves --------------------------------------------------------------------------------
def test_source_accounts_are_deactivated_when_that_is_asked_and_the_undo_gives_them_back(server, session, robot):
    source, target = (person(session, server.users, "u" + uuid.uuid4().hex[:10]) for _ in range(2))
    put(session, server.keyspace, "user_content_consumption", lesson(source))
    before, key = user(session, server.users, source), uuid.uuid4().hex
    body = {"source_accounts": [source], "target_account": target, "deactivate_sources": True}

    answer = asked(robot, body, key)
    assert answer.status_code == 202, answer.text
    merge_id = answer.json()["merge_id"]
    assert asked(robot, body, key).json()["merge_id"] == merge_id
    for other in (body | {"deactivate_sources": False}, {n: body[n] for n in body if n != "deactivate_sources"}):
        refused = asked(robot, other, key)
        assert (refused.status_code, refused.json()["code"]) == (422, "KEY_REUSED")
    assert "deactivated themselves" in page(robot, f"/merges/{merge_id}")

    run(server, merge_id)
    after = user(session, server.users, source)
    assert (after["status"], after["isdeleted"]) == (0, True)
    server.service.undoing.run(uuid.UUID(merge_id), publish=False)
    assert user(session, server.users, source) == before


def test_source_accounts_stay_as_they_are_when_nothing_is_asked(server, session, robot):
    source, target = (person(session, server.users, "u" + uuid.uuid4().hex[:10]) for _ in range(2))
    before = user(session, server.users, source)
    merge_id = asked(robot, {"source_accounts": [source], "target_account": target}, uuid.uuid4().hex).json()[
        "merge_id"
    ]
    run(server, merge_id)
    assert user(session, server.users, source) == before
    assert "deactivated themselves" not in page(robot, f"/merges/{merge_id}")


def test_a_preview_takes_no_such_choice_and_a_merge_only_yes_or_no(robot):
    body = {"source_accounts": [account()], "target_account": account()}
    assert robot.post("/api/v1/previews", json=body | {"deactivate_sources": True}).status_code == 422
    assert asked(robot, body | {"deactivate_sources": "perhaps"}, "k").status_code == 422
    document = json.dumps(robot.get("/api/v1/openapi.json").json()["components"]["schemas"]["MergeIn"])
    assert "the undo gives them back" in document


def test_a_new_merge_offers_it_unchosen(robot):
    found = page(robot, "/new")
    assert '<input type="checkbox" name="deactivate_sources">' in found
    assert 'id="confirm-deactivates" hidden' in found


# --- refused events --------------------------------------------------------------------------------------------------
HOSTILE = "</textarea><script>alert(1)</script>"


@pytest.fixture
def refused(server):
    """Claim wrong events; return their merges by kind."""

    def claim(*raws):
        service = server.service
        service.publisher.publish([(service.settings.merge_topic, None, raw) for raw in raws])
        service.inbox.claim()
        found = {merge.request.raw: merge for merge in service.journal.find("state", "refused")}
        return [found[raw] for raw in raws]

    return claim


def test_a_refused_event_is_shown_whole_to_who_may_replay_it(server, robot, viewer, refused):
    long = f"{{no json {uuid.uuid4()} {HOSTILE} {'x' * 5000}".encode()
    bytes_of_no_text = b'{"edata": "\xff' + uuid.uuid4().hex.encode()
    merge, other = refused(long, bytes_of_no_text)
    assert f'data-correct="{merge.merge_id}"' in page(robot, "/failed")
    assert "data-correct" not in page(viewer, "/failed")
    shown = page(robot, f"/failed/{merge.merge_id}/event")
    assert "x" * 5000 in shown
    assert HOSTILE not in shown
    assert "&lt;script&gt;" in shown
    assert "are not UTF-8 text" not in shown
    assert "are not UTF-8 text" in page(robot, f"/failed/{other.merge_id}/event")
    answer = viewer.get(f"/failed/{merge.merge_id}/event")
    assert (answer.status_code, answer.json()["code"]) == (403, "NOT_ALLOWED")
    assert "no json" not in answer.text


def test_only_a_refused_merge_has_an_event_to_correct(robot, viewer):
    key = uuid.uuid4().hex
    merge_id = asked(robot, {"source_accounts": [account()], "target_account": account()}, key).json()["merge_id"]
    answer = robot.get(f"/failed/{merge_id}/event")
    assert (answer.status_code, answer.json()["code"]) == (409, "NOT_REFUSED")
    assert {who.get(f"/failed/{uuid.uuid4()}/event").status_code for who in (robot, viewer)} == {404}


def test_a_correction_is_checked_before_anything_is_written(server, robot, refused):
    source, target = account(), account()
    wrong = json.loads(event(source, target, uuid.uuid4().hex))
    right = json.loads(json.dumps(wrong))
    del wrong["edata"]["fromAccountId"]
    (merge,) = refused(json.dumps(wrong).encode())

    def check(body):
        answer = robot.post("/api/v1/failed/replay", json={"corrected": {str(merge.merge_id): body}, "dry_run": True})
        assert answer.status_code == 200, answer.text
        (item,) = answer.json()["items"]
        return item

    still = check(wrong)
    assert still["code"] == merge.error_code
    assert merge.remedy in still["note"]
    assert check(right)["code"] == "CORRECTED"
    assert server.service.journal.need(merge.merge_id) == merge
    assert server.service.journal.find("accounts", source) == []


# --- bulk runs ------------------------------------------------------------------------------------------------------
def test_the_list_says_how_far_a_bulk_run_is(server, robot):
    def said():
        text = page(robot, "/parts/overview")
        return " ".join(text.partition("A bulk run is under way.")[2].partition("</div>")[0].split())

    assert said() == ""
    merge_ids = [server.service.opening.open_merge(MergeRequest((account(),), account())) for _ in range(3)]
    # Merges of other tests may be requested as well: all that can start are taken.
    taken = server.service.bulk.take("poll__list", 1000)
    assert set(merge_ids) <= set(taken)
    assert said().startswith(f"</strong>0 of {len(taken)} merges are done. ")
    effort = Effort(at_once=2, most_failed=1000)
    server.service.bulk.merge(taken[:-1], "poll__list", effort, lambda *_: None)
    assert f"{len(taken) - 1} of {len(taken)} merges are done, the others in about " in said()
    assert "/dags/account_merge_bulk/runs/poll__list" in said()
    shown = json.loads(robot.get(f"/api/v1/merges/{merge_ids[0]}").text)
    assert "account_merge_bulk" in json.dumps(shown)
    server.service.bulk.merge(taken, "poll__list", effort, lambda *_: None)
    assert said() == ""
