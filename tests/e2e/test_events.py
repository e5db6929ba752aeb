"""From an event on the topic to rows, sync events and report, through Kafka and Airflow."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid

import pytest
from airflow_client import wait_for
from platform_world import Learner

MERGE, POLL = "account_merge", "account_merge_poll"
ALL_TASKS = {"admit", "merge_user_activity_agg", "merge_user_enrolments", "merge_assessment_aggregator",
             "merge_user_entity_enrolments", "merge_user_group", "merge_group_member", "merge_program_enrollment",
             "merge_user_content_consumption", "publish_sync_events"}  # fmt: skip


def documented(event):
    """The same event as the platform's documentation shows it: another mid, no hash in object.id."""
    return event | {
        "mid": f"LP.{event['ets']}.{uuid.uuid4()}", "actor": {"id": "Merge User Courses and Cert", "type": "System"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}, "channel": "0123221758376673287017",
                    "env": "staging"},
        "object": {"type": "MergeUserCoursesAndCert", "id": "68b764efd14bb3b534984649"},
    }  # fmt: skip


def minimal(event):
    """The same event as old fixtures have it."""
    accounts = {name: event["edata"][name] for name in ("fromAccountId", "toAccountId")}
    return {"eid": event["eid"], "ets": event["ets"], "mid": event["mid"], "edata": accounts}


def test_an_event_of_any_form_becomes_a_merge(world, airflow, poll, in_state, core):
    synced = world.end_of(world.settings.sync_topic)
    pairs = [(world.study(Learner()), Learner()) for _ in range(3)]
    forms = zip((documented, minimal, dict), pairs, strict=True)
    events = [form(world.event(source.account, target.account)) for form, (source, target) in forms]
    world.publish(*events)
    poll()
    for event, (source, target) in zip(events, pairs, strict=True):
        became_a_merge(world, airflow, in_state, core, event, source, target, synced)


def became_a_merge(world, airflow, in_state, core, event, source, target, synced):
    """The event's run, rows, sync event and report are all there."""
    merge_id = world.merge_id(event)
    head = in_state(merge_id, "completed")
    assert (head["source_accounts"], head["target_account"]) == ([source.account], target.account)
    assert world.views(target.account, source.course) == world.views(source.account, source.course)
    assert len(world.history(target.account, source.course)["user_enrolments"]) == 1
    states = airflow.succeeded(MERGE, f"merge__{merge_id}__1")
    with_rows = {f"merge_{table}" for table in ("user_enrolments", "user_content_consumption", "user_activity_agg")}
    assert states == {
        task: "success" if task in with_rows | {"admit", "publish_sync_events"} else "skipped" for task in ALL_TASKS
    }
    mine = [e for e in world.since(world.settings.sync_topic, synced) if e["edata"]["userId"] == target.account]
    assert [(e["edata"]["action"], e["edata"]["courseId"], e["edata"]["batchId"]) for e in mine] == [
        ("batch-enrolment-sync", source.course, source.batch)
    ]
    assert {table["table"] for table in core.reader.report(merge_id).to_dict()["tables"]} >= {
        "user_content_consumption"
    }
    run = airflow.run(MERGE, f"merge__{merge_id}__1")
    assert str(merge_id) in run["note"]
    assert set(run["conf"]) == {"merge_id", "source_accounts", "target_account"}


def test_five_copies_are_one_merge(world, poll, in_state, airflow):
    source, target = world.study(Learner()), Learner()
    world.study(Learner(target.account, source.course), views=5)
    event = world.event(source.account, target.account)
    synced = world.end_of(world.settings.sync_topic)
    world.publish(*[event] * 5)
    poll()
    merge_id = world.merge_id(event)
    in_state(merge_id, "completed")
    airflow.succeeded(MERGE, f"merge__{merge_id}__1")
    assert set(world.views(target.account, source.course).values()) == {7}
    # A later copy finds the merge open, and a poll of only repeated events is green.
    world.publish(event)
    airflow.succeeded(POLL, poll(), 240)
    assert airflow.run(MERGE, f"merge__{merge_id}__2") is None
    assert set(world.views(target.account, source.course).values()) == {7}
    mine = [e for e in world.since(world.settings.sync_topic, synced) if e["edata"]["userId"] == target.account]
    assert len(mine) == len({e["mid"] for e in mine}) == 1


def test_one_mid_and_two_pairs_are_two_merges(world, poll, in_state):
    pairs = [(world.study(Learner()), Learner()) for _ in range(2)]
    mid = f"LP.1648720639981.{uuid.uuid4()}"
    events = [world.event(source.account, target.account, mid=mid) for source, target in pairs]
    world.publish(*events)
    poll()
    for event, (source, target) in zip(events, pairs, strict=True):
        in_state(world.merge_id(event), "completed")
        assert world.views(target.account, source.course) == world.views(source.account, source.course)


def bad_events(world):
    """Ten kinds of bad event, each of its own bytes so that none is a copy of an earlier test run's.

    Answers also texts of which each of their failed events holds one.
    """
    a, b, binary = str(uuid.uuid4()), str(uuid.uuid4()), uuid.uuid4().bytes + b"\xff\xfe\x00"
    good = world.event(a, b)
    edata = good["edata"]
    other = hashlib.sha256(b"another pair").hexdigest()
    raw = lambda event: json.dumps(event).encode()  # noqa: E731
    kinds = {
        "not JSON": f"{{not json {a}".encode(),
        "no object": raw([a, b]),
        "no edata": raw({name: value for name, value in good.items() if name != "edata"}),
        "blank source": raw(good | {"edata": edata | {"fromAccountId": "  "}}),
        "no target": raw(good | {"edata": {n: v for n, v in edata.items() if n != "toAccountId"}}),
        "id that is no text": raw(good | {"edata": edata | {"fromAccountId": 17}}),
        "id too long": raw(good | {"edata": edata | {"toAccountId": "x" * 200}}),
        "into itself": raw(world.event(a, a)),
        "hash of another pair": raw(good | {"object": {"id": other, "type": "MergeUserCoursesAndCert"}}),
        "binary": binary,
    }
    return kinds, (a, b, good["mid"], base64.b64encode(binary).decode())


def test_bad_events_are_reported_and_stop_no_good_one(world, airflow, poll, in_state):
    topic = world.settings.failed_topic
    before = world.end_of(topic)
    bad, marks = bad_events(world)
    assert len(bad) == 10

    def told():
        """Merges of tests before this one may be reported now, too."""
        return [entry for entry in world.since(topic, before) if any(mark in json.dumps(entry) for mark in marks)]

    source, target = world.study(Learner()), Learner()
    event = world.event(source.account, target.account)
    unknown_action = world.event(source.account, target.account)
    unknown_action["edata"]["action"] = "something-else"
    world.publish(*bad.values(), event, unknown_action)
    run = poll()
    in_state(world.merge_id(event), "completed")
    wait_for(lambda: len(told()) >= 10, 180, "ten failed events", pause=2)
    airflow.succeeded(POLL, run, 240)
    failed = told()
    assert len(failed) == 10
    assert all(entry["jobName"] and entry["failInfo"] for entry in failed)
    # A poll of only bad events is green as well, and the failed events do not go out again.
    world.publish(f"{{only bad {marks[0]}".encode())
    airflow.succeeded(POLL, poll(), 240)
    wait_for(lambda: len(told()) >= 11, 120, "the eleventh failed event", pause=2)
    airflow.succeeded(POLL, poll(), 240)
    assert len(told()) == 11


def test_a_chain_at_once_arrives_at_its_end(world, poll, in_state, core):
    first, second, third = world.study(Learner()), Learner(), Learner()
    for learner in (second, third):
        world.study(Learner(learner.account, first.course))
    events = [world.event(first.account, second.account), world.event(second.account, third.account)]
    world.publish(*events)
    poll()

    def both_completed():
        poll_due = [core.journal.get(world.merge_id(event)) for event in events]
        if any(merge and merge.state == "waiting" for merge in poll_due):
            poll()
        return all(merge and merge.state == "completed" for merge in poll_due)

    wait_for(both_completed, 300, "both merges of the chain completed", pause=5)
    assert set(world.views(third.account, first.course).values()) == {6}


@pytest.mark.alone
def test_a_quiet_window_is_green_and_skips(airflow, poll):
    def quiet():
        run = poll()
        airflow.succeeded(POLL, run, 240)
        states = airflow.states(POLL, run)
        return states if states["wait_for_work"] == "skipped" else None

    states = wait_for(quiet, 500, "a poll without work")
    assert states == {"wait_for_work": "skipped", "claim_events": "skipped", "claimed": "skipped",
                      "start_merges": "skipped", "report_failures": "skipped"}  # fmt: skip


def test_what_an_event_says_is_never_read_as_a_template(world, poll, in_state):
    """Airflow renders most of what operators are given; `{{ var.value.secret }}` must stay an account's odd name."""
    source = world.study(Learner(account=f"{{{{ 7 * 7 }}}}{{% raw %}}{uuid.uuid4().hex}"))
    target = Learner()
    event = world.event(source.account, target.account)
    world.publish(event)
    poll()
    in_state(world.merge_id(event), "completed")
    assert world.views(target.account, source.course) == world.views(source.account, source.course)
