"""An operator stops, lets go and replays, in a running Airflow."""

from __future__ import annotations

import json
import uuid

import pytest
from airflow_client import wait_for
from platform_world import Learner
from steps import running

from account_merge.failed_search import FailedMergeFilter
from account_merge.rules import rules_hash

LESSONS = 10_000  # enough that the task runs for a second or two
MERGE, REPLAY, SWITCH = "account_merge", "account_merge_replay", "account_merge_switch"


def replay(airflow, conf):
    run = airflow.trigger(REPLAY, conf)
    airflow.succeeded(REPLAY, run)
    return airflow.xcom(REPLAY, run, "replay_events")


def failed_event_of(world, before, word):
    """Wait for the failed event that has this word; answers the merge id in it."""

    def look():
        return [e for e in world.since(world.settings.failed_topic, before) if word in json.dumps(e)]

    (found,) = wait_for(look, 60, f"failed event with {word}")
    return uuid.UUID(found["failInfo"]["mergeId"])


@pytest.mark.alone
def test_what_failed_is_replayed_to_completion(world, airflow, poll, in_state, core):
    """A bad event with its corrected form, and a merge that was begun with other rules, in one replay."""
    pairs = [(world.study(Learner()), Learner()) for _ in range(2)]
    good, right = (world.event(source.account, target.account) for source, target in pairs)
    bad = right | {"edata": right["edata"] | {"fromAccountId": " "}}
    failed_id = world.merge_id(good)
    before = world.end_of(world.settings.failed_topic)
    airflow.set_paused(MERGE, True)
    try:
        world.publish(bad, good)
        poll()
        in_state(failed_id, "started")
        assert core.journal.change(core.journal.need(failed_id), rules_hash="of another program")
    finally:
        airflow.set_paused(MERGE, False)
    in_state(failed_id, "needs_attention")
    assert airflow.ended(MERGE, f"merge__{failed_id}__1") == "failed"
    assert failed_event_of(world, before, pairs[0][1].account) == failed_id
    refused_id = failed_event_of(world, before, pairs[1][1].account)
    out = lambda: {core.journal.need(one).failed_event for one in (failed_id, refused_id)} == {"sent"}  # noqa: E731
    wait_for(out, 30, "failed events that are settled")
    assert core.journal.change(core.journal.need(failed_id), rules_hash=rules_hash())
    asked = {"merge_ids": [str(failed_id)], "corrected": {str(refused_id): right}}
    answer = replay(airflow, asked)
    assert (answer["dry_run"], [item["code"] for item in answer["items"]]) == (True, ["RESUMED", "CORRECTED"])
    assert core.journal.get(world.merge_id(right)) is None
    assert replay(airflow, asked | {"dry_run": False, "reason": "the producer is mended"})["replayed"] == 2
    poll()
    for event, (source, target) in zip((good, right), pairs, strict=True):
        in_state(world.merge_id(event), "completed")
        assert world.views(target.account, source.course) == world.views(source.account, source.course)
    airflow.succeeded(MERGE, f"merge__{failed_id}__2")
    again = core.replays.replay(FailedMergeFilter.of(merge_ids=[failed_id, refused_id]), "ops", dry_run=False)
    assert [item["code"] for item in again["items"]] == ["NOT_FAILED", "REPLAYED_BEFORE"]


@pytest.fixture
def switch(airflow, core):
    """Turn a tenant's switch by its DAG; off again whatever happens."""
    used = set()

    def turn(action, tenant, reason=""):
        used.add(tenant)
        run = airflow.trigger(SWITCH, {"action": action, "tenant": tenant, "reason": reason})
        airflow.succeeded(SWITCH, run)
        return airflow.xcom(SWITCH, run, "turn_switch")

    yield turn
    for tenant in used:
        core.switch.resume(tenant, "test")


def test_a_paused_merge_ends_green_and_goes_on_by_itself(world, airflow, poll, in_state, core, switch):
    source = world.study(Learner(), lessons=LESSONS)
    target = world.study(Learner(course=source.course), lessons=10)
    tenant = f"org-{uuid.uuid4()}"
    event = world.event(source.account, target.account)
    event["edata"]["rootOrgId"] = tenant
    before = world.end_of(world.settings.failed_topic)
    world.publish(event)
    poll()
    merge_id = world.merge_id(event)
    in_state(merge_id, "started", "running")
    run = f"merge__{merge_id}__1"
    wait_for(lambda: airflow.run(MERGE, run), 60, "the merge's run")
    running(airflow, run, "merge_user_content_consumption")
    core.switch.pause(
        tenant, "ops", "courses are being restored"
    )  # at once: a run of the switch takes a second or two to start
    head = in_state(merge_id, "paused")
    assert "courses are being restored" in head["note"]
    states = airflow.succeeded(MERGE, run)
    assert states["merge_user_content_consumption"] == "success"
    assert states["publish_sync_events"] == "skipped"
    assert "courses are being restored" in airflow.xcom(MERGE, run, "merge_user_content_consumption")["note"]
    assert len(world.views(target.account, source.course)) < LESSONS

    airflow.clear(MERGE, run)
    states = airflow.succeeded(MERGE, run)
    assert (states.pop("admit"), set(states.values())) == ("success", {"skipped"})
    assert core.journal.need(merge_id).state == "paused"
    assert [e for e in world.since(world.settings.failed_topic, before) if target.account in json.dumps(e)] == []

    assert switch("pause", tenant, "it takes longer")["changed"] is True
    assert switch("resume", tenant)["stopped"] == []
    poll()
    in_state(merge_id, "completed")
    airflow.succeeded(MERGE, f"merge__{merge_id}__2")
    views = world.views(target.account, source.course)
    assert (len(views), views["do_lesson_000000"], views[f"do_lesson_{LESSONS - 1:06}"]) == (LESSONS, 4, 2)
