"""Steps that several tests on a running Airflow take."""

from __future__ import annotations

from airflow_client import wait_for
from platform_world import Learner

MERGE = "account_merge"
LESSONS = 10_000  # enough that a task runs for some seconds


def conf_of(source, target, **more):
    return {"source_accounts": [source.account], "target_account": target.account} | more


def big_pair(world):
    source = world.study(Learner(), lessons=LESSONS)
    return source, world.study(Learner(course=source.course), lessons=10)


def running(airflow, run, task, seconds=120):
    """Wait until the task runs in a process, and return its id."""

    def look():
        entry = airflow.tasks(MERGE, run).get(task)
        ended = airflow.run(MERGE, run)["state"] in ("success", "failed")
        assert not ended, f"{run} ended before {task} was caught running: {airflow.states(MERGE, run)}"
        return entry["pid"] if entry and entry["state"] == "running" and entry["pid"] else None

    return wait_for(look, seconds, f"running {task}", pause=0.1)


def one_failed_event(world, before, account, seconds=180):
    """Wait for the account's failed event; answers it, and fails when there are two."""
    topic = world.settings.failed_topic

    def mine():
        return [event for event in world.since(topic, before) if account in str(event)]

    wait_for(mine, seconds, f"failed event of {account}", pause=2)
    found = mine()
    assert len(found) == 1
    assert found[0]["jobName"]
    assert found[0]["failInfo"]
    return found[0]


def finish(world, airflow, run, source, target):
    """Clear what failed; the merge must end like an uninterrupted one."""
    idle = {f"merge_{table}" for table in airflow.xcom(MERGE, run, "admit")["idle"]}
    unfinished = [name for name, state in airflow.states(MERGE, run).items() if state != "success" and name not in idle]
    airflow.clear(MERGE, run, *unfinished)
    airflow.succeeded(MERGE, run, 300)
    views = world.views(target.account, source.course)
    assert len(views) == LESSONS
    assert (views["do_lesson_000000"], views[f"do_lesson_{LESSONS - 1:06}"]) == (4, 2)
