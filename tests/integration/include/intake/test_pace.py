"""After a failed poll the next look waits, ever longer; what Kafka's absence does not hold up is found all the same."""

from __future__ import annotations

from datetime import timedelta

import pytest

from account_merge.errors import TransientError
from account_merge.intake import pace
from account_merge.intake.pace import LONGEST, Pace
from account_merge.model import MergeRequest
from tests.learners import account


@pytest.fixture
def clock(monkeypatch):
    """Moves the time that pauses are counted by: `clock(5)` lets five seconds pass."""
    moment = [pace.now()]
    monkeypatch.setattr(pace, "now", lambda: moment[0])

    def on(seconds):
        moment[0] += timedelta(seconds=seconds)

    return on


def test_pauses_grow_with_each_failure_and_are_forgotten(own_world, clock):
    service = own_world()
    mine, other = service.inbox.pace, Pace(service.journal)
    assert mine.pause() == 0
    pauses = []
    for _ in range(5):
        mine.failed()
        pauses.append(other.pause())  # every process sees it
        clock(pauses[-1])
        assert mine.pause() == 0
    assert pauses == [10, 20, 40, 60, 60]
    assert max(pauses) == LONGEST.total_seconds()
    clock(3600)
    mine.failed()
    assert other.pause() == 10


def test_without_kafka_a_due_merge_is_found_and_nothing_else(own_world, monkeypatch):
    service = own_world()

    def away():
        raise TransientError("KAFKA_AWAY", "no broker", "wait")

    monkeypatch.setattr(service.inbox._offsets, "lag", away)
    with pytest.raises(TransientError):
        service.inbox.has_work()
    service.opening.open_merge(MergeRequest((account(),), account()))
    assert service.inbox.has_work(runs=False) == {"lag": 0, "due": 1}


def test_which_merges_have_a_run_counts_as_work_only_where_runs_are_asked_for(own_world):
    from tests.journal_sql import sql

    service = own_world()
    merge_id = service.opening.open_merge(MergeRequest((account(),), account()))
    service.inbox.next_runs(lambda run: "running")
    assert service.inbox.has_work() == {"lag": 0, "due": 0}  # it has only begun
    sql(service, "UPDATE merges SET updated_at = updated_at - INTERVAL '1 minute' WHERE merge_id = :id", id=merge_id)
    assert service.inbox.has_work(runs=False) == {"lag": 0, "due": 0}
    assert service.inbox.has_work() == {"lag": 0, "due": 1}
