"""Write times ahead of the clock, cells that expire and totals at the end of their type, on a real Cassandra."""

from __future__ import annotations

import time

import pytest

from account_merge.cli.main import run_merge
from account_merge.model import MergeRequest
from account_merge.sunbird.store import Store
from tests.learners import BATCH, COURSE, account, enrolment, lesson, put, rows

CC, ENR = "user_content_consumption", "user_enrolments"
DAY = 86_400_000_000  # µs
WHERE = f"courseid='{COURSE}' AND batchid='{BATCH}'"
SOON = 1.0  # s behind our own writes, whose clock is CLOCK_MARGIN behind


@pytest.fixture
def service(shared_service):
    return shared_service


def merge(service, source, target):
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    answer = run_merge(service, merge_id, publish=False)
    assert answer["state"] == "completed", answer["error"]
    return merge_id


def now():
    return int(time.time() * 1e6)


def notes_of(service, merge_id):
    return [n for t in service.reader.report(merge_id).to_dict()["tables"] for row in t["rows"] for n in row["notes"]]


def statuses(session, keyspace, user):
    return rows(session, keyspace, ENR, user)[0].get("contentstatus", {})


def put_element(session, keyspace, user, element, value, timestamp=None):
    using = f" USING TIMESTAMP {timestamp}" if timestamp else ""
    session.execute(
        f"UPDATE {keyspace}.{ENR}{using} SET contentstatus[%s] = %s WHERE userid=%s AND {WHERE}", [element, value, user]
    )


@pytest.mark.parametrize("value", [1, 0], ids=["that stays", "that is overwritten"])
@pytest.mark.parametrize("undo", [False, True])
def test_one_element_ahead_binds_no_other(undo, value, session, keyspace, service):
    """What the learner does next in every other lesson is there, after the merge and after its undo."""
    source, target = account(), account()
    put(session, keyspace, ENR, enrolment(target, status=1, contentstatus={"mine": 1}))
    put_element(session, keyspace, target, "ahead", value, now() + DAY)
    put(session, keyspace, ENR, enrolment(source, status=1, contentstatus={"new": 1, "ahead": 1}))
    merge_id = merge(service, source, target)
    assert statuses(session, keyspace, target) == {"mine": 1, "ahead": 1, "new": 1}
    assert any("contentstatus['ahead']" in note for note in notes_of(service, merge_id)) == (value == 0)
    if undo:
        service.undoing.run(merge_id, by="t", reason="t", publish=False)
        assert statuses(session, keyspace, target) == {"mine": 1, "ahead": value}
    for element in ("mine", "new"):
        put_element(session, keyspace, target, element, 2)
    time.sleep(SOON)
    assert statuses(session, keyspace, target) == {"mine": 2, "new": 2, "ahead": value if undo else 1}


@pytest.mark.parametrize("undo", [False, True])
def test_one_cell_ahead_binds_no_other_cell_and_no_other_row(undo, session, keyspace, service, monkeypatch):
    """Also where a row is folded in: the fold of one row takes no time of another."""
    source, target = account(), account()
    for content in ("L1", "L2"):
        put(session, keyspace, CC, lesson(source, content, progress=80, status=2, viewcount=3))
        put(session, keyspace, CC, lesson(target, content, progress=20, status=1, viewcount=2))
    put(session, keyspace, CC, lesson(target, "L1", progress=20), timestamp=now() + DAY)
    writing, done = Store.write, []

    def platform_goes_on(store, schema, user, *arguments, **named):
        writing(store, schema, user, *arguments, **named)
        if user == target and not done:
            done.append(1)
            put(session, keyspace, CC, lesson(target, "L2", viewcount=6, progress=20))

    monkeypatch.setattr(Store, "write", platform_goes_on)
    merge_id = merge(service, source, target)
    monkeypatch.undo()
    assert done
    ahead = [note for note in notes_of(service, merge_id) if "hours ahead of the clock" in note]
    assert {note.split(":")[0] for note in ahead} == {"progress"}
    if undo:
        service.undoing.run(merge_id, by="t", reason="t", publish=False)
    time.sleep(SOON)
    put(session, keyspace, CC, lesson(target, "L1", status=2, viewcount=40))
    put(session, keyspace, CC, lesson(target, "L2", progress=100, status=2, viewcount=40))
    found = {r["contentid"]: (r["progress"], r["status"], r["viewcount"]) for r in rows(session, keyspace, CC, target)}
    assert found == {"L1": (20 if undo else 80, 2, 40), "L2": (100, 2, 40)}


def test_a_row_that_the_undo_deletes_may_come_again(session, keyspace, service):
    """A cell ahead of the clock in a row that only the merge made: its deletion hides nothing that comes next."""
    source, target = account(), account()
    put(session, keyspace, ENR, enrolment(source, status=1, progress=3, contentstatus={"a": 1}))
    merge_id = merge(service, source, target)
    put_element(session, keyspace, target, "a", 1, now() + DAY)
    put(session, keyspace, ENR, enrolment(target, progress=3), timestamp=now() + DAY)
    service.undoing.run(merge_id, by="t", reason="t", publish=False)
    time.sleep(SOON)
    put(session, keyspace, ENR, enrolment(target, status=2, contentstatus={"b": 2}))
    (row,) = rows(session, keyspace, ENR, target)
    assert (row["status"], row["contentstatus"]["b"]) == (2, 2)


def test_no_write_wins_against_the_last_time(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, progress=80))
    put(session, keyspace, CC, lesson(target, progress=20), timestamp=2**63 - 1)
    preview = service.previews.preview(MergeRequest((source,), target)).to_dict()
    assert "no write can win" in str(preview["tables"])
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    began = time.monotonic()
    answer = run_merge(service, merge_id, publish=False)
    assert (answer["state"], answer["error"]["code"]) == ("needs_attention", "NO_WRITE_WINS")
    assert f"{CC}, merge {merge_id}: progress" in answer["error"]["message"]
    assert time.monotonic() - began < 30


def test_the_last_time_hinders_nothing_where_nothing_is_written(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, progress=20, status=2))
    put(session, keyspace, CC, lesson(target, progress=80), timestamp=2**63 - 1)
    merge(service, source, target)
    assert [(r["progress"], r["status"]) for r in rows(session, keyspace, CC, target)] == [(80, 2)]


@pytest.mark.parametrize("timestamp", [1_646_475_330_123, now() + 3000 * DAY], ids=["1970", "years ahead"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_write_time_that_cannot_be_is_named(side, timestamp, session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, status=2))
    put(session, keyspace, CC, lesson(target, status=1))
    put(session, keyspace, CC, lesson({"source": source, "target": target}[side], progress=20), timestamp=timestamp)
    words = "the target" if side == "target" else f"source account {source}"
    assert [n for n in notes_of(service, merge(service, source, target)) if n.startswith(words)] == [
        f"{words}: write times that cannot be (before 2005, or years ahead): progress"
    ]


# --- cells that expire ------------------------------------------------------------------------------------------------
def put_for(session, keyspace, user, seconds, **columns):
    row = lesson(user, **columns)
    session.execute(
        f"INSERT INTO {keyspace}.{CC} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))}) USING TTL {seconds}",
        list(row.values()),
    )


def left(session, keyspace, user, column):
    return session.execute(
        f"SELECT {column}, TTL({column}) FROM {keyspace}.{CC} WHERE userid=%s AND {WHERE} AND contentid='L1'", [user]
    ).one()


@pytest.mark.parametrize("theirs", [80, 50, 20], ids=["more", "the same", "less"])
def test_what_expires_at_the_target_and_stays_at_the_source_stays(theirs, session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, progress=theirs))
    put(session, keyspace, CC, lesson(target, status=1))
    put_for(session, keyspace, target, 5000, progress=50)
    merge_id = merge(service, source, target)
    assert tuple(left(session, keyspace, target, "progress")) == (max(theirs, 50), None)
    service.undoing.run(merge_id, by="t", reason="t", publish=False)
    value, seconds = left(session, keyspace, target, "progress")
    assert value == 50
    assert 4000 < seconds <= 5000


@pytest.mark.parametrize(("mine", "theirs"), [(3000, 9000), (9000, 3000)])
@pytest.mark.parametrize("value", [50, 80])
def test_of_two_ends_the_later_stands(value, mine, theirs, session, keyspace, service):
    source, target = account(), account()
    put_for(session, keyspace, source, theirs, progress=value)
    put_for(session, keyspace, target, mine, progress=50)
    merge_id = merge(service, source, target)
    found, seconds = left(session, keyspace, target, "progress")
    assert found == value
    assert 8000 < seconds <= 9000
    service.undoing.run(merge_id, by="t", reason="t", publish=False)
    found, seconds = left(session, keyspace, target, "progress")
    assert found == 50
    assert mine - 1000 < seconds <= mine


def test_a_row_that_moves_takes_its_end_along(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, status=1))
    put_for(session, keyspace, source, 5000, progress=50)
    merge_id = merge(service, source, target)
    value, seconds = left(session, keyspace, target, "progress")
    assert value == 50
    assert 4000 < seconds <= 5000
    assert left(session, keyspace, target, "status")[1] is None
    service.undoing.run(merge_id, by="t", reason="t", publish=False)
    assert rows(session, keyspace, CC, target) == []


def test_what_stays_at_the_target_is_not_given_an_end(session, keyspace, service):
    source, target = account(), account()
    put_for(session, keyspace, source, 5000, progress=80)
    put(session, keyspace, CC, lesson(target, progress=50))
    merge(service, source, target)
    assert tuple(left(session, keyspace, target, "progress")) == (80, None)


def test_what_has_expired_meanwhile_is_no_difference(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, status=2))
    put(session, keyspace, CC, lesson(target, status=1))
    put_for(session, keyspace, source, 4, progress=50)
    merge_id = merge(service, source, target)
    deadline = time.monotonic() + 30
    while left(session, keyspace, target, "progress")[0] is not None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [d.words for d in service.audit.differences(merge_id) if d.fault] == []
    service.undoing.run(merge_id, by="t", reason="t", publish=False)
    (row,) = rows(session, keyspace, CC, target)
    assert (row["status"], row.get("progress")) == (1, None)


# --- the end of a type ------------------------------------------------------------------------------------------------
def test_a_total_beyond_its_type_stands_at_its_end_and_counts_no_view_twice(session, keyspace, service):
    most = 2**31 - 1
    source, target, other = account(), account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=most - 5, status=2))
    put(session, keyspace, CC, lesson(source, "L2", viewcount=1))
    put(session, keyspace, CC, lesson(target, viewcount=100, status=1))
    merge_id = merge(service, source, target)

    def views(user):
        return {r["contentid"]: r["viewcount"] for r in rows(session, keyspace, CC, user)}

    assert views(target) == {"L1": most, "L2": 1}
    assert any("viewcount" in note and "beyond" in note for note in notes_of(service, merge_id))
    assert rows(session, keyspace, CC, target)[0]["status"] == 2
    put(session, keyspace, CC, lesson(source, viewcount=most))
    again = merge(service, source, target)  # five more views at the source
    assert views(target) == {"L1": most, "L2": 1}
    for one in (again, merge_id):
        service.undoing.run(one, by="t", reason="t", publish=False)
    assert views(target) == {"L1": 100}
    merge(service, source, other)
    assert views(other) == {"L1": most, "L2": 1}
