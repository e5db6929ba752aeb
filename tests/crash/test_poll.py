"""A poll SIGKILLed between any two of its steps: the next one goes on, and each event has been one merge, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.learners import lesson, put, rows

CC = "user_content_consumption"
WORKER = Path(__file__).with_name("poll_worker.py")
ROOT = Path(__file__).resolve().parents[2]


def seed(session, keyspace, label):
    for number in (1, 2, 3):
        put(session, keyspace, CC, lesson(f"source-{number}-{label}", viewcount=3))
    for number in (1, 2):
        put(session, keyspace, CC, lesson(f"target-{number}-{label}", viewcount=2))


def merge_of(service, merges, source):
    """The states of that account's merge, in order."""
    (merge,) = (m for m in merges if m.request.sources == (source,))
    return [change.after for change in service.journal.history(merge.merge_id)]


@pytest.fixture
def work(environment, tmp_path):
    """Runs the worker; `mutation` names a fault that is put into the code under test."""
    path = os.pathsep.join([str(ROOT / "include"), str(ROOT)])

    def run(command, *labels, mutation=""):
        done = subprocess.run(
            [sys.executable, str(WORKER), command, str(tmp_path / "runs"), *labels],
            env={**os.environ, **environment, "PYTHONPATH": path, "MUTATION": mutation},
            capture_output=True, text=True, timeout=500,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    return run


@pytest.mark.timeout(600)
def test_a_poll_may_die_before_every_step(session, environment, service, work):
    keyspace = environment["ACCOUNT_MERGE_COURSES_KEYSPACE"]
    seed(session, keyspace, "whole")
    work("fail", "whole")
    steps = work("count", "whole")[0]["steps"]
    # Five events, one of them a copy: written together with how far was claimed, and committed; one waits for another, which
    # two rows tell together; two runs; a refused event's and a failed run's failed event.
    assert Counter(steps) == {
        "commit": 1, "COMMIT": 2, "UPDATE": 2 + 1 + 2 * 2, "start": 2, "publish": 2,
    }  # fmt: skip
    labels = [f"n{number:02}" for number in range(1, len(steps) + 1)]
    for label in labels:
        seed(session, keyspace, label)
    work("fail", *labels)
    killed = work("crash", *(f"{label}={number}" for number, label in enumerate(labels, 1)))
    assert [one["died"] for one in killed] == [signal.SIGKILL] * len(steps)

    assert service.inbox.has_work() == {"lag": 0, "due": 0}
    merges = service.journal.all()
    failed = Counter(str(message.value) for message in service.topics.read(service.settings.failed_topic))
    for label in ("whole", *labels):
        mine = sorted((m.request.target, m.state) for m in merges if m.request.target.endswith(f"-{label}"))
        assert mine == [*[(f"target-1-{label}", "completed")] * 2, (f"target-2-{label}", "completed"),
                        (f"target-f-{label}", "failed")], label  # fmt: skip
        for number, views in ((1, 8), (2, 5)):
            assert [r["viewcount"] for r in rows(session, keyspace, CC, f"target-{number}-{label}")] == [views], label
        first, waited = (merge_of(service, merges, f"source-{number}-{label}") for number in (1, 3))
        assert "waiting" not in first
        assert waited[-4:] == ["waiting", "started", "running", "completed"]
        for what in (f'bad-{label}"', f"target-f-{label}"):
            assert sum(count for text, count in failed.items() if what in text) == 1, (label, what)
    assert sum(failed.values()) == 2 * (1 + len(labels))
    assert Counter(merge.state for merge in merges)["refused"] == 1 + len(labels)


@pytest.mark.parametrize(("mutation", "kept"), [("", 3), ("offset_commit_before_journal", 0)])
def test_a_commit_before_the_journal_is_found(mutation, kept, service, work):
    (died,) = work("crash", "early=2", mutation=mutation)
    assert died["died"] == signal.SIGKILL
    assert [m.state for m in service.journal.all() if m.request.target].count("completed") == kept
