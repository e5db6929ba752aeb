"""Ends of several logs by one statement: each is there or is not, as if it had been appended by itself."""

from __future__ import annotations

import time

import pytest

from account_merge.cli.main import run_merge
from account_merge.journal.encoding import Codec
from account_merge.journal.fence import Fence
from account_merge.journal.log import Draft, Log
from account_merge.journal.log_ends import Endings, close_all, ends, spans
from account_merge.lifecycle.together import Together
from account_merge.model import MergeRequest
from account_merge.rules import rule_for
from account_merge.states import EntryKind, State
from tests.learners import account, enrolment, lesson, put, rows

CC, ENR = "user_content_consumption", "user_enrolments"
END = Draft(0, EntryKind.END)


@pytest.fixture
def service(shared_service):
    return shared_service


@pytest.fixture
def running(service):
    """A merge that holds its accounts, without rows."""
    merge_id = service.opening.open_merge(MergeRequest((account(),), account(), tables=(CC, ENR)))
    return service.admission.begin(merge_id).merge


def log(service, merge, table):
    return Log(service.journal, merge.merge_id, table, Codec(service.tables.of(rule_for(table))))


def owed(service, merge, draft=END):
    endings = Endings(service.journal)
    for table in (CC, ENR):
        endings.owe(log(service, merge, table), draft)
    return endings


def found(service, merge):
    return {name: end.kind for name, end in ends(service.journal, merge.merge_id).items()}


def test_all_are_there_with_their_digests(service, running):
    endings = owed(service, running)
    assert endings.owed == {CC, ENR}
    there = endings.append(Fence.around(running, stoppable=True))
    assert there == ends(service.journal, running.merge_id)
    assert found(service, running) == {CC: EntryKind.END, ENR: EntryKind.END}
    assert not endings.owed
    assert not list(log(service, running, CC).faults())


def test_each_is_dated_by_the_end_of_its_own_table(service, running):
    endings = Endings(service.journal)
    endings.owe(log(service, running, CC), END)
    time.sleep(0.05)
    first = log(service, running, ENR)
    assert first.append(Draft(0, EntryKind.CHANGES))
    endings.owe(first, Draft(1, EntryKind.END))
    assert len(endings.append(Fence.around(running, stoppable=True))) == 2
    times = spans(service.journal, running.merge_id)
    assert times[CC][1] < times[ENR][0] <= times[ENR][1]


def test_the_log_that_another_worker_ended_is_missing_and_no_other(service, running):
    endings = owed(service, running)
    assert log(service, running, CC).append(Draft(0, EntryKind.END, note="theirs"))
    assert endings.append(Fence.around(running, stoppable=True)).keys() == {ENR}
    assert log(service, running, CC).summary()[1] == "theirs"


def test_a_closed_log_gets_no_end(service, running):
    log(service, running, CC).close()
    assert owed(service, running, Draft(1, EntryKind.END)).append(None) == {}
    assert found(service, running) == {CC: EntryKind.CLOSED}


def test_none_is_there_when_the_merge_may_not_be_written(service, running):
    endings = owed(service, running)
    fence = Fence.around(running, stoppable=True)
    service.journal.move(running, State.PAUSED, resume=None)
    assert endings.append(fence) == {}
    assert found(service, running) == {}


def test_closing_all_stops_each_writer(service, running):
    first, second = log(service, running, CC), log(service, running, ENR)
    assert first.append(Draft(0, EntryKind.CHANGES, ("c", "b", "L1"), 5))
    close_all(service.journal, [log(service, running, CC), log(service, running, ENR)])
    close_all(service.journal, [log(service, running, CC), log(service, running, ENR)])  # and again
    assert not first.append(Draft(1, EntryKind.CHANGES))
    assert not second.append(Draft(0, EntryKind.CHANGES))
    assert found(service, running) == {CC: EntryKind.CLOSED, ENR: EntryKind.CLOSED}
    assert [row.seq for row in log(service, running, CC)._rows(0)] == [0, 1]
    assert not list(log(service, running, CC).faults())


def test_closing_all_wins_over_a_writer_that_appends_meanwhile(service, running, monkeypatch):
    append, writer = Endings.append, log(service, running, CC)

    def slower(self, fence):
        monkeypatch.setattr(Endings, "append", append)
        assert writer.append(Draft(0, EntryKind.CHANGES))
        return append(self, fence)

    monkeypatch.setattr(Endings, "append", slower)
    close_all(service.journal, [log(service, running, CC), log(service, running, ENR)])
    assert found(service, running) == {CC: EntryKind.CLOSED, ENR: EntryKind.CLOSED}
    assert not writer.append(Draft(1, EntryKind.CHANGES))


@pytest.mark.parametrize("undone", [False, True], ids=["merge", "undo"])
def test_who_comes_second_finds_the_end_and_goes_on(service, session, monkeypatch, undone):
    """Another worker did the same merge, and ended a log between this one's work and its ends."""
    keyspace = service.settings.courses_keyspace
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    put(session, keyspace, ENR, enrolment(source, status=1))
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC, ENR)))
    if undone:
        assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    ended = Together.ended

    def later(self, fence):
        monkeypatch.setattr(Together, "ended", ended)
        work = service.undoing.table if undone else service.merging.merge_table
        assert work(merge_id, ENR)["proceed"]
        return ended(self, fence)

    monkeypatch.setattr(Together, "ended", later)
    if undone:
        service.undoing.run(merge_id, publish=False)
        assert not rows(session, keyspace, CC, target)
        assert not rows(session, keyspace, ENR, target)
    else:
        assert run_merge(service, merge_id, publish=False)["state"] == "completed"
        assert [row["viewcount"] for row in rows(session, keyspace, CC, target)] == [3]
        assert len(rows(session, keyspace, ENR, target)) == 1
    name = "undo-1/" if undone else ""
    assert {found(service, service.journal.need(merge_id))[f"{name}{table}"] for table in (CC, ENR)} == {EntryKind.END}
