"""Undo, redo, abandon and repair by the DAG, as an operator triggers them."""

from __future__ import annotations

import uuid

from airflow_client import wait_for
from platform_world import Learner
from steps import big_pair, conf_of, running

from account_merge.merge_ids import request_id

MERGE, UNDO = "account_merge", "account_merge_undo"


def act(airflow, merge_id, action="undo", **more):
    run = airflow.trigger(UNDO, {"merge_id": str(merge_id), "action": action, "dry_run": False, **more})
    return run, airflow.ended(UNDO, run, 300)


def test_a_merge_is_previewed_undone_and_redone(world, airflow, core):
    source = world.study(Learner())
    target = world.study(Learner(course=source.course), views=5)
    before = world.history(target.account, source.course)
    run = airflow.trigger(MERGE, conf_of(source, target))
    airflow.succeeded(MERGE, run)
    merge_id = uuid.UUID(airflow.xcom(MERGE, run, "admit")["merge_id"])
    after = world.history(target.account, source.course)
    assert after != before

    preview = airflow.trigger(UNDO, {"merge_id": str(merge_id)})
    airflow.succeeded(UNDO, preview, 300)
    assert airflow.xcom(UNDO, preview, "undo_user_content_consumption")["changed"] == 3
    assert world.history(target.account, source.course) == after

    synced = world.end_of(world.settings.sync_topic)
    undo, state = act(airflow, merge_id, reason="two persons")
    assert state == "success", airflow.log_tail(UNDO, undo)
    assert world.history(target.account, source.course) == before
    assert (core.reader.report(merge_id).head()["state"], core.reader.report(merge_id).head()["note"]) == (
        "undone", "undo by admin: two persons",
    )  # fmt: skip
    mine = [e for e in world.since(world.settings.sync_topic, synced) if e["edata"]["userId"] == target.account]
    assert [e["edata"]["courseId"] for e in mine] == [source.course]

    airflow.clear(UNDO, undo)  # a finished undo may be cleared: nothing is written twice
    airflow.succeeded(UNDO, undo, 300)
    assert world.history(target.account, source.course) == before

    redo, state = act(airflow, merge_id, "redo")
    assert state == "success", airflow.log_tail(UNDO, redo)
    assert world.history(target.account, source.course) == after


def test_a_failed_merge_is_abandoned_and_a_completed_one_repaired(world, airflow, core, poll, in_state):
    source, target = big_pair(world)
    run = airflow.trigger(MERGE, conf_of(source, target))
    running(airflow, run, "merge_user_content_consumption")
    airflow.mark_run_failed(MERGE, run)
    airflow.ended(MERGE, run)
    merge_id = request_id(run, [source.account], target.account)
    in_state(merge_id, "failed")
    refused, state = act(airflow, merge_id, "repair")
    assert state == "failed"
    assert airflow.tasks(UNDO, refused)["begin"]["try_number"] == 1  # what makes no sense is not tried again
    given_up, state = act(airflow, merge_id, "abandon", reason="not wanted any more")
    assert state == "success", airflow.log_tail(UNDO, given_up)
    assert airflow.states(UNDO, given_up)["end"] == "skipped"
    assert core.journal.holder(target.account) is None

    source, target = world.study(Learner()), Learner()
    run = airflow.trigger(MERGE, conf_of(source, target))
    airflow.succeeded(MERGE, run)
    world.study(source, views=9)
    repaired, state = act(airflow, airflow.xcom(MERGE, run, "admit")["merge_id"], "repair")
    assert state == "success", airflow.log_tail(UNDO, repaired)
    opened = uuid.UUID(airflow.xcom(UNDO, repaired, "begin")["merge_id"])
    poll()
    in_state(opened, "completed")
    wait_for(lambda: set(world.views(target.account, source.course).values()) == {9}, 30, "the new views")
