"""Giving up: whatever state a log was left in, and whether or not its last entry can be written, each unit counts once."""

from __future__ import annotations

import itertools

import pytest

from account_merge.cli.main import run_merge
from account_merge.errors import NeedsAttention
from account_merge.model import MergeRequest
from account_merge.sunbird.store import Store
from tests.conftest import sampled
from tests.learners import account, lesson, put, rows

CC = "user_content_consumption"
LESSONS, SHARED = 250, 130  # three entries; what the target has too reaches into the second
TOP = 9223372036854775807  # µs: Cassandra's greatest write time, which nobody can outrank


@pytest.fixture
def service(shared_service):
    return shared_service


@pytest.fixture
def pair(session, keyspace):
    """A source with lessons seen twice and finished, a target that has seen some of them once."""
    source, target = account(), account()
    for number in range(LESSONS):
        put(session, keyspace, CC, lesson(source, f"M{number:03d}", viewcount=2, status=2))
        if number < SHARED:
            put(session, keyspace, CC, lesson(target, f"M{number:03d}", viewcount=1, status=1))
    return source, target


class Stops(BaseException):
    """The process ends here; no handler of the core may see it."""


def left_at(service, session, keyspace, patch, merge_id, target, point, work="merge_table"):
    """Does the table until it is killed while its second entry is: logged, half written, written, being folded."""
    original, calls = Store.write, []

    def dying(self, schema, account_id, changes, attempt=0, *more):
        changes = list(changes)
        calls.append(1)
        if len(calls) == 2:
            done = {"logged": 0, "half": 50, "written": 100, "folded": 100}[point]
            original(self, schema, account_id, changes[:done], attempt)
            if point != "folded":
                raise Stops
            # The platform had read the row before we wrote, and writes back what it made of it.
            put(session, keyspace, CC, lesson(target, "M120", viewcount=1))
            return
        if len(calls) == 3:
            raise Stops  # the fold is logged
        original(self, schema, account_id, changes, attempt)

    with patch.context() as limited:
        limited.setattr(Store, "write", dying)
        with pytest.raises(Stops):
            (service.merging.merge_table if work == "merge_table" else service.undoing.table)(merge_id, CC)


def seen(session, keyspace, target):
    return {r["contentid"]: (r["viewcount"], r.get("status")) for r in rows(session, keyspace, CC, target)}


def refused(self, schema, account_id, changes, attempt=0, *more):
    if any(c.writes or c.create_at or c.delete_at for c in changes):
        raise NeedsAttention("CASSANDRA_REFUSED", "Cassandra did not acknowledge a write", "Look at the table.")


@pytest.mark.parametrize("can", [True, False], ids=["can be written", "is refused"])
@pytest.mark.parametrize("point", ["logged", "half", "written", "folded"])
def test_each_unit_counts_once_wherever_a_merge_was_given_up(session, keyspace, service, pair, monkeypatch, point, can):
    source, target = pair
    own = seen(session, keyspace, target)
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    service.admission.admit(merge_id)
    left_at(service, session, keyspace, monkeypatch, merge_id, target, point)
    with monkeypatch.context() as patch:
        if not can:
            patch.setattr(Store, "write", refused)
        assert service.undoing.abandon(merge_id, "not wanted")["state"] == "abandoned"
    assert service.journal.holder(source) is service.journal.holder(target) is None
    again = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    assert run_merge(service, again, publish=False)["state"] == "completed"
    wanted = {f"M{n:03d}": (3 if n < SHARED else 2, 2) for n in range(LESSONS)}
    assert seen(session, keyspace, target) == wanted
    for one in (again, merge_id):
        assert service.undoing.run(one, publish=False)["state"] == "undone"
    assert seen(session, keyspace, target) == own
    assert not [d for d in service.audit.differences(merge_id) if d.fault]


@pytest.mark.parametrize("point", ["logged", "half"])
def test_a_report_names_the_rows_that_were_not_written(session, keyspace, service, pair, monkeypatch, point):
    source, target = pair
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    service.admission.admit(merge_id)
    left_at(service, session, keyspace, monkeypatch, merge_id, target, point)
    monkeypatch.setattr(Store, "write", refused)
    service.undoing.abandon(merge_id, "not wanted")
    (report,) = [t for t in service.reader.report(merge_id).tables if t.table == CC]
    left = [row for row in report.rows if row["what"] == "left"]
    assert len(left) == report.counts["left"] == (100 if point == "logged" else 50)
    assert all(row["missing"] for row in left)
    assert f"{len(left)} rows of {CC}" in (service.journal.need(merge_id).note or "")


def test_a_cell_that_nobody_can_outrank_keeps_no_account(session, keyspace, service):
    source, target = account(), account()
    for name in ("M1", "M2"):
        put(session, keyspace, CC, lesson(source, name, viewcount=2, status=2))
    put(session, keyspace, CC, lesson(target, "M1", viewcount=1, status=1), TOP)
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    state = run_merge(service, merge_id, publish=False)["state"] if _can(service, merge_id) else "running"
    if state != "completed":
        assert service.undoing.abandon(merge_id, "cannot be finished")["state"] == "abandoned"
    assert service.journal.holder(target) is None
    third = account()
    free = service.opening.open_merge(MergeRequest((source,), third, tables=(CC,)))
    assert run_merge(service, free, publish=False)["state"] in ("completed", "refused")
    views = sum(r["viewcount"] for user in (target, third) for r in rows(session, keyspace, CC, user))
    assert views in (3, 5), "M1 of the source is where it could be written, once"


def _can(service, merge_id):
    try:
        service.admission.admit(merge_id)
        service.merging.merge_table(merge_id, CC)
    except Exception:  # noqa: BLE001 - whatever it ends in, it must be possible to give it up
        return False
    return True


def test_a_merge_that_runs_is_stopped_and_given_up(session, keyspace, service, pair):
    """Whoever is at work on it stops before the next entry: nothing is written after it was given up."""
    source, target = pair
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    service.admission.admit(merge_id)
    told = []

    def given_up(done):
        if not told:
            told.append(service.undoing.abandon(merge_id, "wrong person")["state"])

    with pytest.raises(NeedsAttention, match="NOT_RUNNING"):
        service.merging.merge_table(merge_id, CC, given_up)
    assert told == ["abandoned"]
    assert sum(views == 3 for views, _ in seen(session, keyspace, target).values()) == service.settings.entry_rows
    again = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    assert run_merge(service, again, publish=False)["state"] == "completed"
    assert {views for views, _ in seen(session, keyspace, target).values()} == {2, 3}


def test_what_was_not_written_stays_uncounted_once_the_images_are_gone(session, keyspace, service, pair, monkeypatch):
    source, target = pair
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    service.admission.admit(merge_id)
    left_at(service, session, keyspace, monkeypatch, merge_id, target, "half")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", refused)
        service.undoing.abandon(merge_id, "not wanted")
    service.retention.expire(service.journal.need(merge_id))
    again = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    assert run_merge(service, again, publish=False)["state"] == "completed"
    assert seen(session, keyspace, target) == {f"M{n:03d}": (3 if n < SHARED else 2, 2) for n in range(LESSONS)}


@pytest.mark.parametrize(
    ("action", "point", "can"),
    sampled(itertools.product(["undo", "redo"], ["logged", "half", "written"], [True, False]), 6),
)
def test_an_undo_or_redo_that_was_given_up_counts_what_is_there(
    session, keyspace, service, pair, monkeypatch, action, point, can
):
    source, target = pair
    own = seen(session, keyspace, target)
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    if action == "redo":
        service.undoing.run(merge_id, publish=False)
    service.undoing.begin(merge_id, action)
    left_at(service, session, keyspace, monkeypatch, merge_id, target, point, "undo")
    with monkeypatch.context() as patch:
        if not can:
            patch.setattr(Store, "write", refused)
        assert service.undoing.abandon(merge_id, "it never ends")["state"] == "undone"
    assert service.journal.holder(source) is service.journal.holder(target) is None
    (remains,) = [m for m in service.journal.of_account(source) if m.parent == merge_id]
    assert (remains.state, str(remains.merge_id) in service.journal.need(merge_id).note) == ("abandoned", True)
    again = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    assert run_merge(service, again, publish=False)["state"] == "completed"
    assert seen(session, keyspace, target) == {f"M{n:03d}": (3 if n < SHARED else 2, 2) for n in range(LESSONS)}
    for one in (again, remains.merge_id):
        assert service.undoing.run(one, publish=False)["state"] == "undone"
    assert seen(session, keyspace, target) == own
    assert service.undoing.run(merge_id, "redo", publish=False)["state"] == "completed"
    assert seen(session, keyspace, target) == {f"M{n:03d}": (3 if n < SHARED else 2, 2) for n in range(LESSONS)}


def test_an_undo_of_a_merge_that_was_never_whole_is_given_up(session, keyspace, service, pair, monkeypatch):
    """What the merge had logged and not written is not in the rows that its undo did not reach either."""
    source, target = pair
    own = seen(session, keyspace, target)
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    service.admission.admit(merge_id)
    left_at(service, session, keyspace, monkeypatch, merge_id, target, "half")
    service.failures.fail(merge_id, "manual__1", "the process was killed")
    service.undoing.begin(merge_id, "undo")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", refused)
        with pytest.raises(NeedsAttention):
            service.undoing.table(merge_id, CC)
        assert service.undoing.abandon(merge_id, "it never ends")["state"] == "undone"
    again = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    assert run_merge(service, again, publish=False)["state"] == "completed"
    assert seen(session, keyspace, target) == {f"M{n:03d}": (3 if n < SHARED else 2, 2) for n in range(LESSONS)}
    service.undoing.run(again, publish=False)
    (remains,) = [m for m in service.journal.of_account(source) if m.parent == merge_id]
    service.undoing.run(remains.merge_id, publish=False)
    assert seen(session, keyspace, target) == own
