"""An operator stops, lets go and replays, in a running Airflow."""

from __future__ import annotations

import json
import uuid

import pytest
from airflow_client import wait_for
from platform_world import Learner
from steps import LESSONS, big_pair, running

MERGE, REPLAY, SWITCH = "account_merge", "account_merge_replay", "account_merge_switch"


def replay(airflow, **conf):
    run = airflow.trigger(REPLAY, conf)
    airflow.succeeded(REPLAY, run)
    return airflow.xcom(REPLAY, run, "replay_events")


def failed_event_of(world, before, word):
    """Wait for the failed event that has this word; answers the merge id in it."""

    def look():
        return [e for e in world.since(world.settings.failed_topic, before) if word in json.dumps(e)]

    (found,) = wait_for(look, 60, f"failed event with {word}")
    return uuid.UUID(found["failInfo"]["mergeId"])


def test_a_bad_event_is_corrected_and_replayed_to_completion(world, airflow, poll, in_state, core):
    source, target = world.study(Learner()), Learner()
    event = world.event(source.account, target.account)
    bad = event | {"edata": event["edata"] | {"fromAccountId": " "}}
    before = world.end_of(world.settings.failed_topic)
    world.publish(bad)
    poll()
    merge_id = failed_event_of(world, before, target.account)
    wait_for(lambda: core.journal.need(merge_id).failed_event == "sent", 30, "a failed event that is settled")

    right = event | {"object": bad["object"]}
    answer = replay(airflow, corrected={str(merge_id): right})
    assert (answer["dry_run"], answer["replayed"], answer["items"][0]["code"]) == (True, 1, "CORRECTED")
    assert core.journal.get(world.merge_id(right)) is None
    answer = replay(airflow, corrected={str(merge_id): right}, dry_run=False, reason="the producer's bug")
    assert answer["replayed"] == 1
    poll()
    in_state(world.merge_id(right), "completed")
    assert world.views(target.account, source.course) == world.views(source.account, source.course)
    (item,) = replay(airflow, merge_ids=[str(merge_id)], dry_run=False)["items"]
    assert (item["code"], item["after"]) == ("REPLAYED_BEFORE", "refused")
    assert core.journal.need(merge_id).replayed_as == world.merge_id(right)


def test_a_failed_run_is_replayed_to_completion(world, airflow, poll, in_state, core):
    source, target = world.study(Learner()), Learner()
    event = world.event(source.account, target.account)
    airflow.set_paused(MERGE, True)
    try:
        world.publish(event)
        poll()
        merge_id = world.merge_id(event)
        in_state(merge_id, "started")
        run = wait_for(lambda: airflow.run(MERGE, f"merge__{merge_id}__1"), 60, "the merge's run")["dag_run_id"]
        before = world.end_of(world.settings.failed_topic)
        airflow.mark_run_failed(MERGE, run)
        in_state(merge_id, "failed")
        failed_event_of(world, before, str(merge_id))
        wait_for(lambda: core.journal.need(merge_id).failed_event == "sent", 30, "a failed event that is settled")
    finally:
        airflow.set_paused(MERGE, False)
    answer = replay(airflow, account=source.account, dry_run=False, reason="the cause is repaired")
    assert [(i["merge_id"], i["code"]) for i in answer["items"]] == [(str(merge_id), "RESUMED")]
    poll()
    in_state(merge_id, "completed")
    airflow.succeeded(MERGE, f"merge__{merge_id}__2")
    assert world.views(target.account, source.course) == world.views(source.account, source.course)
    assert replay(airflow, merge_ids=[str(merge_id)], dry_run=False)["items"][0]["code"] == "NOT_FAILED"


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
        core.resume(tenant, "test")


def test_a_paused_merge_ends_green_and_goes_on_by_itself(world, airflow, poll, in_state, core, switch):
    source, target = big_pair(world)
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
    core.pause(
        tenant, "ops", "courses are being restored"
    )  # at once: a run of the switch takes a second or two to start
    head = in_state(merge_id, "paused")
    assert "courses are being restored" in head["note"]
    states = airflow.succeeded(MERGE, run)
    assert states["merge_user_content_consumption"] == "success"
    assert states["publish_sync_events"] == "skipped"
    assert "courses are being restored" in airflow.xcom(MERGE, run, "merge_user_content_consumption")["note"]
    assert len(world.views(target.account, source.course)) < LESSONS

    answer = switch("pause", tenant, "it takes longer")
    assert answer["changed"] is True
    assert any("it takes longer" in note for note in answer["stopped"])
    airflow.clear(MERGE, run)
    states = airflow.succeeded(MERGE, run)
    assert (states.pop("admit"), set(states.values())) == ("success", {"skipped"})
    assert core.journal.need(merge_id).state == "paused"
    assert [e for e in world.since(world.settings.failed_topic, before) if target.account in json.dumps(e)] == []

    assert switch("resume", tenant)["stopped"] == []
    poll()
    in_state(merge_id, "completed")
    airflow.succeeded(MERGE, f"merge__{merge_id}__2")
    views = world.views(target.account, source.course)
    assert (len(views), views["do_lesson_000000"], views[f"do_lesson_{LESSONS - 1:06}"]) == (LESSONS, 4, 2)
