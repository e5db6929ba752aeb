"""A poll killed between any two of its steps: Airflow's next poll goes on, each event is one merge and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow_client import wait_for
from platform_world import Learner

from tests.journal_sql import sql

MERGE, POLL = "account_merge", "account_merge_poll"
ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "tests" / "crash" / "poll_worker.py"
BAD = 1500  # more than one batch of a claim, and than one sweep of failed events


@pytest.fixture
def paused_poll(airflow):
    """No task of the poll runs, and none will until `airflow.set_paused(POLL, False)`."""
    airflow.set_paused(POLL, True)
    try:
        looks = iter(range(10**6))
        quiet = []

        def still():
            quiet.append(not poll_tasks(airflow, "running", "queued"))
            return next(looks) and all(quiet[-2:])

        wait_for(still, 120, "moment without a task of the poll", pause=1)
        yield
    finally:
        airflow.set_paused(POLL, False)


def poll_tasks(airflow, *states):
    """(run, task instance) of the poll's runs under way whose task is in one of these states."""
    runs = airflow.get(f"dags/{POLL}/dagRuns", state="running", limit=10)["dag_runs"]
    return [(run["dag_run_id"], entry) for run in runs
            for entry in airflow.tasks(POLL, run["dag_run_id"]).values() if entry["state"] in states]  # fmt: skip


def dies(airflow_stack, task, *steps):
    """One task of the poll in a process of its own, which SIGKILLs itself before the last of these steps in a row."""
    path = os.pathsep.join([str(ROOT / "include"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, str(WORKER), "die", task, *steps],
        env={**os.environ, **airflow_stack.describe(), "PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]


def age(core, session, merges):
    """These merges moved last an hour ago: what waits before it takes over need not be waited for."""
    then = datetime.now(UTC) - timedelta(hours=1)
    for merge in merges:
        sql(
            core, "UPDATE merges SET updated_at = :at, failed_at = :at WHERE merge_id = :id", at=then, id=merge.merge_id
        )


def bad(marker, number=0):
    return f'{{"no edata": "{marker}-{number}"'.encode()


def failed_counts(world, since, marker):
    """Failed events by the number that their original carries."""
    found = (str(event) for event in world.since(world.settings.failed_topic, since))
    return Counter(text.split(f"{marker}-")[1].split("\\")[0].split('"')[0] for text in found if marker in text)


@pytest.mark.alone
def test_every_gap_between_two_steps_is_made_good_by_the_next_poll(
    world, airflow, airflow_stack, core, session, paused_poll, poll, in_state
):
    before, marker = world.end_of(world.settings.failed_topic), uuid.uuid4().hex
    pairs = {name: (world.study(Learner()), Learner()) for name in ("c1", "c2", "d1", "d2", "e", "f")}
    events = {name: world.event(source.account, target.account) for name, (source, target) in pairs.items()}
    ids = {name: world.merge_id(event) for name, event in events.items()}

    def claim(*messages):
        world.publish(*messages)
        core.inbox.claim()

    # Both chosen, only one started.
    claim(events["c1"], events["c2"])
    chosen = {merge["merge_id"]: merge for merge in core.inbox.next_runs(lambda run: "running")}
    first = chosen[str(ids["c1"])]
    airflow.trigger(MERGE, first["conf"], first["trigger_run_id"])
    # One moved to started, the other not yet.
    claim(events["d1"], events["d2"])
    dies(airflow_stack, "start_merges", "UPDATE", "UPDATE")
    assert sorted(core.journal.need(ids[name]).state for name in ("d1", "d2")) == ["requested", "started"]
    # A failed event about to be sent; another one sent, but not noted.
    claim(bad(marker, 1))
    dies(airflow_stack, "report_failures", "UPDATE", "publish")
    claim(bad(marker, 2))
    dies(airflow_stack, "report_failures", "publish", "UPDATE")
    assert failed_counts(world, before, marker) == {"2": 1}
    # Claimed and committed, nothing else; and in the journal, but not committed.
    claim(events["e"])
    world.publish(events["f"], bad(marker, 3))
    dies(airflow_stack, "claim_events", "commit")
    assert core.inbox.has_work()["lag"] == 2
    sending = [merge for merge in core.journal.find("failed_event", "sending") if marker.encode() in merge.request.raw]
    assert len(sending) == 2
    age(core, session, [*sending, *(core.journal.need(ids[name]) for name in ("c2", "d1", "d2"))])

    airflow.set_paused(POLL, False)
    poll()
    for name, (source, target) in pairs.items():
        head = in_state(ids[name], "completed")
        airflow.succeeded(MERGE, head["run_ids"][-1])
        assert world.views(target.account, source.course) == world.views(source.account, source.course), name
        assert [merge.merge_id for merge in core.journal.find("accounts", source.account)] == [ids[name]]
        runs = [run for run in head["run_ids"] if airflow.run(MERGE, run)]
        assert len(runs) == 1, (name, runs)
    wait_for(lambda: len(failed_counts(world, before, marker)) == 3, 120, "three failed events", pause=2)
    wait_for(lambda: core.inbox.has_work() == {"lag": 0, "due": 0}, 120, "nothing left to do", pause=2)
    assert failed_counts(world, before, marker) == {"1": 1, "2": 1, "3": 1}


@pytest.mark.alone
def test_claim_and_report_killed_in_the_middle_lose_and_double_nothing(world, airflow, core, session, poll, in_state):
    before, marker = world.end_of(world.settings.failed_topic), uuid.uuid4().hex
    source, target = world.study(Learner()), Learner()
    event = world.event(source.account, target.account)

    def owed():
        return sql(core, "SELECT count(*) FROM merges WHERE failed_event = 'due'")[0][0]

    def killed(task, when):
        """Kills the task's process at that moment and waits until Airflow knows."""

        def caught():
            return next(
                ((r, e["pid"]) for r, e in poll_tasks(airflow, "running") if e["task_id"] == task and e["pid"]), None
            )

        run, pid = wait_for(caught, 120, f"running {task}", pause=0.05)
        wait_for(when, 60, f"moment to kill {task}", pause=0.01)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        airflow.ended(POLL, run)
        return airflow.states(POLL, run)[task]

    world.publish(*(bad(marker, number) for number in range(BAD)), event)
    poll()
    assert killed("claim_events", lambda: owed() > 20) == "failed"  # between two batches, each of which is there whole
    assert core.inbox.has_work()["lag"] > 0
    poll()
    most = []

    def in_the_middle():
        most.append(owed())
        return most[-1] < max(most) - 20

    assert killed("report_failures", in_the_middle) == "failed"
    age(core, session, core.journal.find("failed_event", "sending"))
    poll()
    in_state(world.merge_id(event), "completed")
    assert world.views(target.account, source.course) == world.views(source.account, source.course)
    wait_for(lambda: core.inbox.has_work() == {"lag": 0, "due": 0}, 180, "nothing left to do", pause=2)
    assert failed_counts(world, before, marker) == Counter({str(number): 1 for number in range(BAD)})
