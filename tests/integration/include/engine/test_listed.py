"""`on_conflict: skip` with several sources: what the target lacks comes from the source that was listed first."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from account_merge.cli.main import run_merge
from account_merge.journal.log import Draft
from account_merge.model import MergeRequest
from account_merge.states import EntryKind
from local import cql
from tests.learners import BATCH, COURSE, account, aggregate, enrolment, lesson, put, rows

ENR, CC, AGG, ASM = "user_enrolments", "user_content_consumption", "user_activity_agg", "assessment_aggregator"
MEMBER, GROUPS, PROGRAM, EVENT = "group_member", "user_group", "program_enrollment", "user_entity_enrolments"
TABLES = (ENR, CC, AGG, ASM, MEMBER, GROUPS, PROGRAM, EVENT)
DAY = datetime(2022, 3, 1, 10, 15, 30)
ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def world(own_world, session):
    service = own_world()
    keyspace = service.settings.courses_keyspace
    for statement in cql.split((ROOT / "tests/schema-events.cql").read_text(), keyspace):
        session.execute(statement, timeout=60)
    from account_merge.service import Service

    with Service(service.settings.replace(scan_tables=(MEMBER, PROGRAM, AGG))) as scanning:
        yield scanning, keyspace


def study(session, keyspace, user, mark, course=COURSE, active=True):
    """All that a user can have of one course, group, program and event; `mark` tells whose it is."""
    here = {"courseid": course}
    put(session, keyspace, ENR, enrolment(user, status=1, progress=mark, addedby=str(mark), active=active) | here)
    put(session, keyspace, CC, lesson(user, f"L{mark}", viewcount=mark, status=2, progress=100) | here)
    put(session, keyspace, CC, lesson(user, "L", viewcount=mark, status=1) | here)
    put(session, keyspace, AGG, aggregate(user, aggregates={"completedCount": float(mark)}) | {"activity_id": course})
    put(session, keyspace, ASM, {"course_id": course, "batch_id": BATCH, "user_id": user, "content_id": "q",
                                 "attempt_id": f"a{mark}", "total_score": float(mark), "last_attempted_on": DAY})  # fmt: skip
    put(session, keyspace, MEMBER, {"groupid": course, "userid": user, "role": "member",
                                    "status": "active" if active else "inactive", "createdby": str(mark)})  # fmt: skip
    put(session, keyspace, GROUPS, {"userid": user, "groupid": {course} if active else {"none"}})
    put(session, keyspace, PROGRAM, {"program_id": course, "user_id": user, "program_name": str(mark)})
    put(session, keyspace, EVENT, {"userid": user, "contentid": course, "contextid": course, "batchid": "b",
                                   "progress": mark})  # fmt: skip


def everything(session, keyspace, user):
    return {table: rows(session, keyspace, table, user) for table in TABLES}


def merge(service, sources, target):
    request = MergeRequest(tuple(sources), target, on_conflict="skip")
    planned = [
        (t["table"], row["key"]) for t in service.previews.preview(request).to_dict()["tables"] for row in t["rows"]
    ]
    merge_id = service.opening.open_merge(request)
    answer = run_merge(service, merge_id, publish=False)
    assert answer["state"] == "completed", answer
    done = [(t["table"], row["key"]) for t in service.reader.report(merge_id).to_dict()["tables"] for row in t["rows"]]
    assert done == planned
    return merge_id


@pytest.mark.parametrize("turned", [False, True])
def test_each_table_shows_the_first_listed_sources_rows_and_nothing_of_the_other(session, world, turned):
    service, keyspace = world
    one, two, target = account(), account(), account()
    study(session, keyspace, one, 3)
    study(session, keyspace, two, 5)
    first, second = (two, one) if turned else (one, two)
    alone, other = everything(session, keyspace, first), everything(session, keyspace, second)
    merge_id = merge(service, (first, second), target)
    assert everything(session, keyspace, target) == alone
    assert everything(session, keyspace, second) == other
    left = {(source, stands, place[0]) for source, stands, place in service.skipped.not_merged(
        service.journal.need(merge_id))}  # fmt: skip
    assert left == {(second, first, kind) for kind in ("course", "group", "program", "event")}
    service.undoing.run(merge_id, publish=False)
    assert not any(everything(session, keyspace, target).values())


def test_what_only_the_second_has_moves_and_what_the_target_has_stays(session, world):
    service, keyspace = world
    one, two, target = account(), account(), account()
    study(session, keyspace, one, 3)
    study(session, keyspace, two, 5, course="do_second")
    put(session, keyspace, ENR, enrolment(target, progress=7))
    merge_id = merge(service, (one, two), target)
    found = {row["courseid"]: row["progress"] for row in rows(session, keyspace, ENR, target)}
    assert found == {COURSE: 7, "do_second": 5}
    assert {row["courseid"] for row in rows(session, keyspace, CC, target)} == {"do_second"}
    left = list(service.skipped.not_merged(service.journal.need(merge_id)))
    assert left == [(one, target, ("course", COURSE, BATCH))]


def test_a_group_that_the_first_listed_has_left_is_not_joined_by_way_of_the_second(session, world):
    service, keyspace = world
    one, two, target = account(), account(), account()
    study(session, keyspace, one, 3, active=False)
    study(session, keyspace, two, 5)
    merge(service, (one, two), target)
    (member,) = rows(session, keyspace, MEMBER, target)
    assert member["status"] == "inactive"
    assert not any(COURSE in row.get("groupid", ()) for row in rows(session, keyspace, GROUPS, target))


def test_an_admission_that_died_between_the_two_entries_goes_on_with_the_places_of_the_first(session, world):
    service, keyspace = world
    one, two, target = account(), account(), account()
    study(session, keyspace, one, 3)
    study(session, keyspace, two, 5)
    merge_id = service.opening.open_merge(MergeRequest((two, one), target, on_conflict="skip"))
    places, merge = service.skipped, service.journal.need(merge_id)
    places._log(merge).append(Draft(0, EntryKind.SKIP, counts={"places": 0}))
    put(session, keyspace, ENR, enrolment(target, progress=9))  # after the first entry: it does not count any more
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert [row["createdby"] for row in rows(session, keyspace, MEMBER, target)] == ["5"]
    assert {(source, stands) for source, stands, _ in places.not_merged(merge)} == {(one, two)}
