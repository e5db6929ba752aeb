"""Nothing hangs: what is under way without a sign of life gets another run, and what lives is left alone."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from account_merge.errors import InvalidRequest
from account_merge.journal import now
from account_merge.model import MergeRequest
from account_merge.states import LOST
from tests.journal_sql import sql
from tests.learners import account, lesson, put

CC = "user_content_consumption"


@pytest.fixture
def service(own_world):
    return own_world()


def aged(service, merge_id, seconds, logs=True):
    """The merge's row, and the entries of its logs, as if they had been written that long ago."""
    then = now() - timedelta(seconds=seconds)
    sql(service, "UPDATE merges SET updated_at = :at WHERE merge_id = :id", at=then, id=merge_id)
    if logs:
        sql(service, "UPDATE log SET created_at = :at WHERE merge_id = :id", at=then, id=merge_id)


def under_way(session, service, state):
    """A merge whose newest run is `by-hand`, one lesson of it written, in that state."""
    source, target = account(), account()
    put(session, service.settings.courses_keyspace, CC, lesson(source, viewcount=3))
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    service.admission.admit(merge_id, "by-hand")
    if state == "started":
        sql(service, "UPDATE merges SET state = 'started' WHERE merge_id = :id", id=merge_id)
        return merge_id
    service.merging.merge_table(merge_id, CC)
    if state != "running":
        service.merging.publish_sync(merge_id, publish=False)
        if state == "redoing":
            service.undoing.run(merge_id, publish=False)
        service.undoing.begin(merge_id, "redo" if state == "redoing" else "undo")
        service.undoing.attend(merge_id, "by-hand")
        service.undoing.table(merge_id, CC)
    assert service.journal.need(merge_id).state == state
    return merge_id


def runs(service, answer):
    return [(c["dag_id"], c["trigger_run_id"], c.get("reset_dag_run", False)) for c in service.inbox.next_runs(answer)]


RUN = {"started": "merge", "running": "merge", "undoing": "undo", "redoing": "redo"}


@pytest.mark.parametrize("state", RUN)
def test_a_lost_run_is_replaced_after_some_minutes_and_ended(session, service, state):
    merge_id = under_way(session, service, state)
    patience = service.settings.stalled_after_seconds
    aged(service, merge_id, patience - 60)
    assert runs(service, lambda run: LOST) == []
    aged(service, merge_id, patience + 60)
    assert service.inbox.has_work()["due"] == 1
    attempt = service.journal.need(merge_id).attempt + 1
    dag, new = (
        "account_merge" if RUN[state] == "merge" else "account_merge_undo",
        f"{RUN[state]}__{merge_id}__{attempt}",
    )
    assert runs(service, lambda run: LOST) == [(dag, new, False), (dag, "by-hand", True)]
    merge = service.journal.need(merge_id)
    assert (merge.state, merge.run_ids[-1]) == (state, new)
    assert "by-hand" in (merge.note or "")
    with pytest.raises(InvalidRequest, match="RUN_REPLACED"):
        service.admission.admit(merge_id, "by-hand") if RUN[state] == "merge" else service.undoing.attend(
            merge_id, "by-hand"
        )
    assert runs(service, lambda run: LOST) == []  # the new one has its time


@pytest.mark.parametrize("state", ["running", "undoing", "redoing"])
def test_what_appends_to_its_log_is_alive_whatever_airflow_says(session, service, state):
    merge_id = under_way(session, service, state)
    aged(service, merge_id, 86400, logs=False)
    for says in (LOST, None, "success"):
        assert runs(service, lambda run, says=says: says) == []


@pytest.mark.parametrize("state", RUN)
@pytest.mark.parametrize("says", ["running", "queued"])
def test_a_task_that_works_for_hours_without_an_entry_is_left_alone(session, service, state, says):
    merge_id = under_way(session, service, state)
    aged(service, merge_id, 6 * 3600)
    assert runs(service, lambda run: says) == []


def test_an_undo_whose_run_failed_or_is_gone_is_tried_again_ever_more_rarely(session, service):
    merge_id = under_way(session, service, "undoing")
    patience = service.settings.stalled_after_seconds
    for tries in range(3):
        aged(service, merge_id, patience * (tries + 1) - 60)
        assert runs(service, lambda run: "failed") == []
        aged(service, merge_id, patience * (tries + 1) + 60)
        assert [run for _, run, _ in runs(service, lambda run: "failed")] == [f"undo__{merge_id}__{tries + 2}"]
    aged(service, merge_id, patience + 60)
    assert [run for _, run, _ in runs(service, lambda run: None)] == [f"undo__{merge_id}__5"]


def test_a_command_at_work_is_no_run_that_is_gone(session, service):
    source, target = account(), account()
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    service.admission.admit(merge_id, f"cli__{merge_id}")
    aged(service, merge_id, service.settings.stalled_after_seconds - 60)
    assert runs(service, lambda run: None) == []
    aged(service, merge_id, service.settings.stalled_after_seconds + 60)
    assert runs(service, lambda run: None) == [("account_merge", f"merge__{merge_id}__2", False)]


def test_a_settle_that_its_worker_left_gets_a_run(session, service):
    source, target = account(), account()
    parent = service.opening.open_merge(MergeRequest((source,), target))
    child = uuid.uuid4()
    service.journal.open(child, MergeRequest((source,), target, origin="settle"), parent=parent)
    service.journal.move(service.journal.need(parent), "abandoned")
    sql(service, "UPDATE merges SET state = 'running' WHERE merge_id = :id", id=child)
    aged(service, child, 600)
    assert runs(service, lambda run: None) == [("account_merge", f"merge__{child}__1", False)]
