"""The queue has no cliffs: nobody starves behind others, whoever releases an account wakes who waits for it."""

from __future__ import annotations

import uuid

import pytest

from account_merge.journal.merges import Opened
from account_merge.journal.queue import Parked, Queue
from account_merge.model import MergeRequest
from account_merge.states import Origin, State
from tests.journal_sql import sql
from tests.learners import account

WAITING, FREE = 2500, 500


@pytest.fixture
def service(own_world):
    return own_world()


def open_all(service, requests):
    """Opens merges in this order; their ids."""
    opened = [Opened(uuid.uuid4(), request) for request in requests]
    service.journal.open_all(opened)
    sql(service, "UPDATE merges SET created_at = created_at + make_interval(secs => o.n * 0.001) "
                 "FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS o (id, n) WHERE merge_id = o.id",
        ids=[one.merge_id for one in opened])  # fmt: skip
    return [one.merge_id for one in opened]


def next_ids(service, run="running"):
    return [uuid.UUID(chosen["merge_id"]) for chosen in service.inbox.next_runs(lambda run_id: run)]


def ended(service, merge_id, state=State.ABANDONED):
    service.journal.move(service.journal.need(merge_id), state)


def test_whoever_is_free_starts_however_many_wait_before(service):
    failed_source, target = account(), account()
    (blocker,) = open_all(service, [MergeRequest((failed_source,), target)])
    assert next_ids(service) == [blocker]
    service.admission.admit(blocker)
    service.failures.fail(blocker, f"merge__{blocker}__1", "killed")
    waiting = open_all(service, [MergeRequest((account(),), target) for _ in range(WAITING)])
    free = open_all(service, [MergeRequest((account(),), account()) for _ in range(FREE)])
    started = []
    while len(started) < FREE:
        chosen = next_ids(service)
        assert 0 < len(chosen) <= service.settings.merges_under_way
        started += chosen
        for merge_id in chosen:
            ended(service, merge_id)
    assert started == free  # the oldest first
    assert next_ids(service) == []
    assert service.inbox.has_work()["due"] == 0  # nothing spins while they wait
    merge = service.journal.need(waiting[0])
    assert (merge.state, merge.waiting_for, merge.waiting_holder) == ("waiting", target, blocker)
    service.undoing.abandon(blocker, "given up")
    for merge_id in waiting[:3]:  # one after the other, oldest first
        assert service.inbox.has_work()["due"] == 1
        assert next_ids(service) == [merge_id]
        assert service.inbox.has_work()["due"] == 0
        service.admission.admit(merge_id)
        assert next_ids(service) == []
        service.undoing.abandon(merge_id, "given up")


def test_no_more_have_a_run_than_is_set(service, with_settings):
    merges = open_all(service, [MergeRequest((account(),), account()) for _ in range(5)])
    narrow = type(service)(service.settings.replace(merges_under_way=2))
    with narrow:
        assert next_ids(narrow) == merges[:2]
        assert narrow.inbox.has_work()["due"] == 0
        assert next_ids(narrow) == []
        ended(service, merges[0])
        assert narrow.inbox.has_work()["due"] == 1
        assert next_ids(narrow) == merges[2:3]


def test_of_those_that_share_an_account_only_the_oldest_starts(service):
    one, two, three = account(), account(), account()
    first, second, third = open_all(
        service, [MergeRequest((one,), two), MergeRequest((two,), three), MergeRequest((three,), account())]
    )
    assert next_ids(service) == [first, third]
    merge = service.journal.need(second)
    assert (merge.state, merge.waiting_for) in {("waiting", two), ("waiting", three)}
    assert next_ids(service) == []
    ended(service, first)
    assert next_ids(service) == []  # its other account is not free yet
    assert service.journal.need(second).waiting_for == three
    ended(service, third)
    assert next_ids(service) == [second]


def test_a_merge_that_begins_to_wait_while_the_account_is_released_is_found(service):
    target = account()
    (first,) = open_all(service, [MergeRequest((account(),), target)])
    assert next_ids(service) == [first]
    service.admission.admit(first)
    (second,) = open_all(service, [MergeRequest((account(),), target)])
    seen = service.journal.need(second)
    service.undoing.abandon(first, "given up")  # after it was seen as blocked, before it is written that it waits
    Queue(service.journal).park([Parked(seen, target, first)])
    assert service.journal.need(second).state == "waiting"
    assert next_ids(service) == [second]


def test_settles_fall_due_in_order_without_a_ceiling_and_late_ones_are_counted(service):
    parents = open_all(service, [MergeRequest((account(),), account()) for _ in range(450)])
    sql(service, "UPDATE merges SET state = 'completed', settle_at = now() - interval '40 days' + (created_at - "
                 "(SELECT min(created_at) FROM merges))")  # fmt: skip
    assert [m.merge_id for m in service.settling.due()] == parents
    assert service.queries.status()["overdue_settles"] == 450


def test_settles_of_one_merge_hide_those_of_no_other(service):
    merges = open_all(service, [MergeRequest((account(),), account()) for _ in range(3000)])
    sql(service, "UPDATE merges SET state = 'completed', settle_at = now() - interval '1 hour'")
    for merge in service.journal.get_all(merges[:2900]).values():
        assert service.journal.move(merge, State.UNDOING)
    assert {m.merge_id for m in service.settling.due()} == set(merges[2900:])


def test_every_change_of_a_state_is_a_row(service):
    (merge_id,) = open_all(service, [MergeRequest((account(),), account(), origin=Origin.API)])
    next_ids(service)
    service.admission.admit(merge_id, f"merge__{merge_id}__1")
    service.undoing.abandon(merge_id, "the wrong person")
    told = [(row.before, row.after) for row in service.journal.history(merge_id)]
    assert told == [(None, "requested"), ("requested", "started"), ("started", "running"), ("running", "paused"),
                    ("paused", "abandoned")]  # fmt: skip
    rows = service.journal.history(merge_id)
    assert all(later.at >= row.at for row, later in zip(rows, rows[1:], strict=False))
    assert rows[2].run_id == f"merge__{merge_id}__1"
    assert "the wrong person" in rows[-1].note
    what = [moment[1] for moment in service.queries.timeline(service.journal.need(merge_id))]
    assert [word for word in what if word in ("started", "running", "paused", "abandoned")] == [
        "started", "running", "paused", "abandoned",
    ]  # fmt: skip
