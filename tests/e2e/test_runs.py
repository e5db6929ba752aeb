"""Runs that people start, clear, kill and mark: the tables end the same, and each failed run has its failed event."""

from __future__ import annotations

import os
import signal
import uuid

import pytest
from airflow_client import Refused, wait_for
from platform_world import Learner
from steps import LESSONS, big_pair, conf_of, finish, one_failed_event, running

from account_merge.merge_ids import request_id
from tests.conftest import sampled

MERGE = "account_merge"
TASKS = ["admit", "merge_user_activity_agg", "merge_user_enrolments", "merge_assessment_aggregator",
         "merge_user_entity_enrolments", "merge_user_group", "merge_group_member", "merge_program_enrollment",
         "merge_user_content_consumption", "publish_sync_events"]  # fmt: skip

SKIPPED = "merge_user_group"  # these learners have no groups


def test_a_run_by_hand_merges_and_can_be_cleared_task_by_task(world, airflow, core):
    source = world.study(Learner())
    target = world.study(Learner(course=source.course), views=5)
    run = airflow.trigger(MERGE, conf_of(source, target, reason="same person"))
    airflow.succeeded(MERGE, run)
    merge_id = uuid.UUID(airflow.xcom(MERGE, run, "admit")["merge_id"])
    assert merge_id == request_id(run, [source.account], target.account)
    assert core.reader.report(merge_id).head()["reason"] == "same person"
    after = world.history(target.account, source.course)
    assert set(world.views(target.account, source.course).values()) == {7}
    tried = {name: entry["try_number"] for name, entry in airflow.tasks(MERGE, run).items()}
    assert airflow.states(MERGE, run)[SKIPPED] == "skipped"
    for task in {SKIPPED, *sampled(TASKS, 3)}:  # a skipped table's task that is cleared runs as well
        airflow.clear(MERGE, run, task)
        airflow.succeeded(MERGE, run)
        entry = airflow.tasks(MERGE, run)[task]
        assert (entry["state"], entry["try_number"] > tried[task]) == ("success", True), task
        assert world.history(target.account, source.course) == after, task
    airflow.clear(MERGE, run)
    airflow.succeeded(MERGE, run)
    assert world.history(target.account, source.course) == after


def test_a_preview_counts_and_writes_nothing(world, airflow):
    source = world.study(Learner())
    target = world.study(Learner(course=source.course), views=5)
    before = world.history(target.account, source.course)
    run = airflow.trigger(MERGE, conf_of(source, target, dry_run=True))
    airflow.succeeded(MERGE, run)
    assert airflow.xcom(MERGE, run, "merge_user_content_consumption")["changed"] == 3
    assert world.history(target.account, source.course) == before
    # No lease was taken: the merge itself goes through at once.
    airflow.succeeded(MERGE, airflow.trigger(MERGE, conf_of(source, target)))
    assert set(world.views(target.account, source.course).values()) == {7}


@pytest.mark.parametrize("conf", [
    {}, {"source_accounts": ["a"]}, {"source_accounts": "a", "target_account": "b"},
    {"source_accounts": [], "target_account": "b"}, {"source_accounts": [1], "target_account": "b"},
    {"source_accounts": ["a"], "target_account": "b", "tables": ["users"]},
    {"source_accounts": ["a"], "target_account": "b", "on_conflict": "overwrite"},
    {"source_accounts": ["a"], "target_account": "b", "dry_run": "yes"},
])  # fmt: skip
def test_bad_params_start_no_run(airflow, conf):
    with pytest.raises(Refused) as refused:
        airflow.trigger(MERGE, conf)
    assert refused.value.status == 400


def test_one_run_id_is_one_run(world, airflow):
    source, target = world.study(Learner()), Learner()
    run = airflow.trigger(MERGE, conf_of(source, target), run_id=f"by-hand-{uuid.uuid4()}")
    with pytest.raises(Refused) as refused:
        airflow.trigger(MERGE, conf_of(source, target), run_id=run)
    assert refused.value.status == 409
    airflow.succeeded(MERGE, run)


def test_conf_that_names_other_accounts_than_the_journal_is_refused(world, airflow):
    source, target, stranger = world.study(Learner()), Learner(), world.study(Learner())
    run = airflow.trigger(MERGE, conf_of(source, target))
    airflow.succeeded(MERGE, run)
    merge_id = airflow.xcom(MERGE, run, "admit")["merge_id"]
    again = airflow.trigger(MERGE, conf_of(stranger, target, merge_id=merge_id))
    assert airflow.ended(MERGE, again) == "failed"
    assert airflow.tasks(MERGE, again)["admit"]["try_number"] == 1  # wrong input is not retried
    assert world.views(target.account, stranger.course) == {}


def test_an_account_into_itself_fails_at_once_and_is_reported(world, airflow):
    source = world.study(Learner())
    before = world.end_of(world.settings.failed_topic)
    run = airflow.trigger(MERGE, conf_of(source, source))
    assert airflow.ended(MERGE, run) == "failed"
    assert airflow.tasks(MERGE, run)["admit"]["try_number"] == 1
    one_failed_event(world, before, source.account)


def test_a_killed_task_is_reported_and_clearing_it_completes_the_merge(world, airflow):
    source, target = big_pair(world)
    before = world.end_of(world.settings.failed_topic)
    run = airflow.trigger(MERGE, conf_of(source, target))
    task, killed = "merge_user_content_consumption", set()

    def kill_again():
        entry = airflow.tasks(MERGE, run).get(task) or {}
        if entry.get("state") == "running" and entry.get("pid") and entry["pid"] not in killed:
            killed.add(entry["pid"])
            os.kill(entry["pid"], signal.SIGKILL)
        state = airflow.run(MERGE, run)["state"]
        assert state != "success", "the task was not killed at each of its tries"
        return state == "failed"

    wait_for(kill_again, 400, "run that failed by SIGKILL", pause=0.1)
    assert len(killed) == 4
    one_failed_event(world, before, target.account)
    finish(world, airflow, run, source, target)


def test_a_task_that_is_killed_once_is_retried(world, airflow):
    source, target = big_pair(world)
    run = airflow.trigger(MERGE, conf_of(source, target))
    os.kill(running(airflow, run, "merge_user_content_consumption"), signal.SIGKILL)
    airflow.succeeded(MERGE, run, 300)
    assert len(world.views(target.account, source.course)) == LESSONS


@pytest.mark.parametrize("what", ["task", "run"])
def test_marking_failed_in_the_ui_is_reported(world, airflow, what):
    source, target = big_pair(world)
    before = world.end_of(world.settings.failed_topic)
    run = airflow.trigger(MERGE, conf_of(source, target))
    running(airflow, run, "merge_user_content_consumption")
    if what == "task":
        airflow.mark_task_failed(MERGE, run, "merge_user_content_consumption")
    else:
        airflow.mark_run_failed(MERGE, run)
    assert airflow.ended(MERGE, run) == "failed"
    one_failed_event(world, before, target.account)
    finish(world, airflow, run, source, target)
