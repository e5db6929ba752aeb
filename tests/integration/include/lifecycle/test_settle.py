"""Settles: what reaches a source account after its merge is moved by the clock, once, and taken back with the merge."""

from __future__ import annotations

import time
import uuid

import pytest

from account_merge.cli.main import run_merge
from account_merge.journal import now
from account_merge.journal.merges import next_settle
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.settings import Settings
from tests.learners import account, enrolment, lesson, put, rows

CC, ENR = "user_content_consumption", "user_enrolments"


@pytest.fixture(scope="module")
def service(own_environment):
    """Settles are due a second after the merge, and a day after; nobody else's are."""
    with Service(Settings.from_env(own_environment).replace(settle_after_seconds=(1.0, 86400.0))) as found:
        found.journal.create()
        yield found


def merge(service, source, target):
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    return merge_id


def settled(service, merge_id, seconds=30):
    """Settle until this merge's first one was opened, and return it."""
    child, deadline = uuid.uuid5(merge_id, "settle-1"), time.monotonic() + seconds
    while service.journal.get(child) is None:
        service.settling.run()
        assert time.monotonic() < deadline, "no settle was due"
    return service.journal.need(child)


def views(session, keyspace, user):
    return [r["viewcount"] for r in rows(session, keyspace, CC, user)]


def test_what_came_late_is_moved_once_and_taken_back_with_the_merge(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    put(session, keyspace, CC, lesson(target, viewcount=1))
    put(session, keyspace, ENR, enrolment(source, status=1))
    before = views(session, keyspace, target)
    merge_id = merge(service, source, target)
    put(session, keyspace, CC, lesson(source, viewcount=5))
    put(session, keyspace, CC, lesson(source, "L2", viewcount=7))
    child = settled(service, merge_id)
    assert (child.state, child.parent, child.request.origin, child.sync_sent) == ("completed", merge_id, "settle", 0)
    assert sorted(views(session, keyspace, target)) == [6, 7]
    parent = service.journal.need(merge_id)
    assert parent.settles == 1
    assert 86000 < (parent.settle_at - now()).total_seconds() < 86400
    assert merge_id not in {m.merge_id for m in service.settling.due()}
    assert service.journal.need(child.merge_id).settle_at is None

    shown = {row["key"]["contentid"]: row["after"] for table in service.previews.preview_undo(merge_id).to_dict()["tables"]
             for row in table["rows"] if table["table"].endswith(CC)}  # fmt: skip
    assert shown["L2"] is None
    assert service.undoing.run(merge_id, publish=False)["state"] == "undone"
    assert views(session, keyspace, target) == before
    assert service.journal.need(child.merge_id).state == "undone"
    assert list(service.audit.differences(merge_id)) == []
    service.undoing.run(merge_id, "redo", publish=False)
    assert views(session, keyspace, target) == [4]
    # What the settle had brought comes again by a repair, once.
    repair = uuid.UUID(service.repairing.repair(merge_id, "operator", "")["merge_id"])
    assert run_merge(service, repair, publish=False)["state"] == "completed"
    assert sorted(views(session, keyspace, target)) == [6, 7]


def test_a_settle_goes_to_where_the_history_lives_that_day_and_asks_for_touched_courses_only(
    session, keyspace, service
):
    a, b, c = account(), account(), account()
    for course in ("quiet", "late"):
        put(session, keyspace, ENR, enrolment(a, status=1) | {"courseid": course})
    merge_id = merge(service, a, b)
    merge(service, b, c)
    put(session, keyspace, ENR, enrolment(a, status=2) | {"courseid": "late"})
    child = settled(service, merge_id)
    assert (child.state, child.survivor, child.sync_sent) == ("completed", c, 1)
    assert {r["courseid"]: r["status"] for r in rows(session, keyspace, ENR, c)} == {"quiet": 1, "late": 2}


@pytest.mark.parametrize("chosen", [False, True])
def test_a_merge_that_was_undone_is_not_settled(chosen, session, keyspace, service):
    """Also not when the poll has chosen the settle already, which waited for the undo to end."""
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    merge_id = merge(service, source, target)
    waits = uuid.uuid5(merge_id, "settle-1")
    service.journal.open(waits, MergeRequest((source,), target, origin="settle"), parent=merge_id)
    service.undoing.run(merge_id, publish=False)
    if chosen:
        assert str(waits) in {merge["merge_id"] for merge in service.inbox.next_runs(lambda run: "running")}
    answer = service.admission.admit(waits)
    assert (answer["proceed"], answer["state"]) == (False, "abandoned")
    assert str(merge_id) in service.journal.need(waits).note
    assert merge_id not in {m.merge_id for m in service.settling.due()}
    assert views(session, keyspace, target) == []


def test_nothing_is_opened_for_a_merge_that_was_undone_since_it_was_found_due(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    parent = service.journal.need(merge(service, source, target))
    service.undoing.run(parent.merge_id, publish=False)
    assert service.settling._open(parent) is None
    assert service.journal.find("parent", parent.merge_id) == []


def test_settles_can_be_switched_off_and_come_at_their_times(session, keyspace, shared_service):
    moment = now()
    first = next_settle((600.0, 86400.0), 0, moment)
    assert (first["settles"], (first["settle_at"] - moment).total_seconds()) == (0, 600)
    second = next_settle((600.0, 86400.0), 1, first["settle_at"])
    assert (second["settle_at"] - moment).total_seconds() == 86400
    assert next_settle((600.0, 86400.0), 2, second["settle_at"]) == {"settles": 2, "settle_at": None}
    with Service(shared_service.settings.replace(settle_after_seconds=())) as service:
        merge_id = merge(service, account(), account())
        assert service.journal.need(merge_id).settle_at is None
