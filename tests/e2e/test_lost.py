"""A task that Airflow's executor has lost stays queued for ever: its merge gets another run, and the old one ends."""

from __future__ import annotations

from datetime import timedelta

import psycopg2
import pytest
from airflow_client import wait_for
from platform_world import Learner

from account_merge.journal import now
from tests.journal_sql import sql

MERGE, UNDO = "account_merge", "account_merge_undo"


@pytest.fixture
def slots(airflow):
    """Sets the slots of the merges' pool: without one, tasks are scheduled and none is given to the executor."""
    before = airflow.get("pools/account_merge")
    named = {name: before[name] for name in ("slots", "description", "include_deferred")}

    def to(number=before["slots"]):
        airflow.patch("pools/account_merge", {"pool": "account_merge", **named, "slots": number})

    yield to
    to()


def lose(stack, dag, run, task):
    """What is left when a worker of LocalExecutor is killed before it begins: queued, by the scheduler that is alive."""
    where = f"host=127.0.0.1 port={stack.ports()['postgres']} user=postgres dbname=postgres"
    with psycopg2.connect(where) as database, database.cursor() as cursor:
        cursor.execute("SELECT max(id) FROM job WHERE job_type = 'SchedulerJob' AND state = 'running'")
        (scheduler,) = cursor.fetchone()
        cursor.execute(
            "UPDATE task_instance SET state = 'queued', queued_dttm = now(), queued_by_job_id = %s, external_executor_id = NULL "
            "WHERE dag_id = %s AND run_id = %s AND task_id = %s",
            [scheduler, dag, run, task],
        )
        assert cursor.rowcount == 1


def aged(session, core, merge_id):
    """The merge's row as if nothing had happened for longer than a merge may be silent."""
    then = now() - timedelta(seconds=core.settings.stalled_after_seconds + 60)
    sql(core, "UPDATE merges SET updated_at = :at WHERE merge_id = :id", at=then, id=merge_id)


@pytest.mark.alone
def test_a_merge_and_an_undo_whose_task_was_lost_go_on(
    airflow_stack, airflow, core, world, session, poll, in_state, slots
):
    source, target = world.study(Learner()), Learner()
    event = world.event(source.account, target.account)
    slots(0)
    world.publish(event)
    poll()
    merge_id = world.merge_id(event)
    in_state(merge_id, "started")
    run = core.journal.need(merge_id).run_ids[-1]
    for dag, task, ends in ((MERGE, "admit", "completed"), (UNDO, "begin", "undone")):
        wait_for(
            lambda dag=dag, run=run, task=task: (
                airflow.run(dag, run) is not None and airflow.states(dag, run).get(task) == "scheduled"
            ),
            120,
            f"{task} scheduled",
        )
        if dag == UNDO:
            core.undoing.begin(merge_id, "undo")
            core.undoing.attend(merge_id, run)
        lose(airflow_stack, dag, run, task)
        slots()
        aged(session, core, merge_id)
        poll()
        in_state(merge_id, ends, seconds=300)
        new = core.journal.need(merge_id).run_ids[-1]
        assert new != run
        airflow.succeeded(dag, new)
        assert airflow.ended(dag, run) == "failed"
        assert "RUN_REPLACED" in airflow.log_tail(dag, run)
        if dag == MERGE:
            assert world.views(target.account, source.course) == world.views(source.account, source.course)
            slots(0)
            run = airflow.trigger(UNDO, {"merge_id": str(merge_id), "action": "undo", "dry_run": False})
