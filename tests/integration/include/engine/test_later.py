"""What people and the platform decide at the surviving account after a merge stands, and what is new at the source comes.

By whatever door the accounts come again: a settle, a repair, another event of the same pair.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from account_merge.cli.main import run_merge
from account_merge.engine import history as past
from account_merge.engine.skipped import SkippedScopes
from account_merge.journal import now
from account_merge.journal.ledger import Ledger
from account_merge.model import MergeRequest
from account_merge.service import Service
from tests.learners import COURSE, account, aggregate, enrolment, lesson, moment, put, rows

CC, ENR, AGG = "user_content_consumption", "user_enrolments", "user_activity_agg"
MEMBER, LIST, ATTEMPTS = "group_member", "user_group", "assessment_aggregator"
MARGIN = 0.2  # s
ONE, TWO, THREE = ({"identifier": f"cert-{n}", "name": "Merit", "token": f"T{n}"} for n in (1, 2, 3))


def run(service: Service, merge_id: uuid.UUID) -> uuid.UUID:
    """Does a merge; returns when what is written next cannot be an update that had begun before."""
    answer = run_merge(service, merge_id, publish=False)
    assert answer["state"] == "completed", answer
    over = time.time() + 2 * MARGIN
    while time.time() < over:
        time.sleep(0.01)
    return merge_id


def merge(service: Service, sources: tuple[str, ...], target: str, **options: Any) -> uuid.UUID:
    return run(service, service.opening.open_merge(MergeRequest(sources, target, **options)))


def settle(service: Service, first: uuid.UUID) -> uuid.UUID:
    return run(service, service.settling._open(service.journal.need(first)))


def repair(service: Service, first: uuid.UUID) -> uuid.UUID:
    return run(service, uuid.UUID(service.repairing.repair(first, "operator", "once more")["merge_id"]))


def repeat(service: Service, first: uuid.UUID) -> uuid.UUID:
    request = service.journal.need(first).request
    return merge(service, request.sources, request.target, on_conflict=request.on_conflict, origin="event")


doors = pytest.mark.parametrize("again", [settle, repair, repeat])


@pytest.fixture
def service(shared_service):
    """Settles are due in an hour; an update of the platform that began before ours ends within a moment."""
    settings = shared_service.settings.replace(
        settle_after_seconds=(3600.0, 7200.0), platform_write_window_seconds=0.0, clock_margin_seconds=MARGIN
    )
    with Service(settings) as found:
        yield found


@doors
def test_what_people_and_the_platform_decided_since_stands(again: Callable, session, keyspace, service):
    a, b, group, other = account(), account(), f"g-{account()}", f"h-{account()}"
    put(session, keyspace, ENR, enrolment(a, active=True, status=2, progress=1, issued_certificates=[ONE]))
    put(session, keyspace, ENR, enrolment(a, active=True, status=1) | {"courseid": "left"})
    put(session, keyspace, ENR, enrolment(a, active=True, status=1) | {"courseid": "removed"})
    put(session, keyspace, CC, lesson(a, status=2, progress=100, viewcount=3))
    put(session, keyspace, CC, lesson(a, "gone", status=2, progress=100, viewcount=7))
    put(session, keyspace, AGG, aggregate(a, aggregates={"completedCount": 2.0, "score:q": 9.0, "max_score:q": 10.0}))
    for name, role in ((group, "member"), (other, "admin")):
        put(session, keyspace, MEMBER, {"groupid": name, "userid": a, "role": role, "status": "active"})
    put(session, keyspace, LIST, {"userid": a, "groupid": {group, other}})
    first = merge(service, (a,), b)

    def cql(text: str, *values: Any) -> None:
        session.execute(text.replace("KS", keyspace), values)

    cql(f"UPDATE KS.{ENR} SET active = false WHERE userid = %s AND courseid = 'left' AND batchid = '0131001'", b)
    cql(f"UPDATE KS.{ENR} SET issued_certificates = %s WHERE userid = %s AND courseid = %s AND batchid = '0131001'",
        [TWO], b, COURSE)  # fmt: skip
    cql(f"DELETE FROM KS.{ENR} WHERE userid = %s AND courseid = 'removed' AND batchid = '0131001'", b)
    cql(
        f"DELETE FROM KS.{CC} WHERE userid = %s AND courseid = %s AND batchid = '0131001' AND contentid = 'gone'",
        b,
        COURSE,
    )
    cql(f"UPDATE KS.{CC} SET progress = 60 WHERE userid = %s AND courseid = %s AND batchid = '0131001' AND contentid = 'L1'",
        b, COURSE)  # fmt: skip
    cql(f"UPDATE KS.{AGG} SET aggregates['completedCount'] = 1.0 WHERE activity_type = 'Course' AND activity_id = %s "
        "AND context_id = 'cb:0131001' AND user_id = %s", COURSE, b)  # fmt: skip
    cql(f"UPDATE KS.{MEMBER} SET status = 'inactive', removedby = 'boss' WHERE groupid = %s AND userid = %s", group, b)
    cql(f"UPDATE KS.{MEMBER} SET role = 'member' WHERE groupid = %s AND userid = %s", other, b)
    cql(f"UPDATE KS.{LIST} SET groupid = groupid - %s WHERE userid = %s", {group}, b)
    decided = {table: rows(session, keyspace, table, b) for table in (ENR, CC, AGG, MEMBER, LIST)}
    second = again(service, first)
    assert {table: rows(session, keyspace, table, b) for table in decided} == decided
    whys = [
        row["why"].get("", "") for table in service.reader.report(second).to_dict()["tables"] for row in table["rows"]
    ]
    assert sum("removed at the target" in why for why in whys) == 2

    # What the learner does at the old account comes, beside what was decided.
    put(session, keyspace, CC, lesson(a, status=2, progress=100, viewcount=5))
    put(session, keyspace, CC, lesson(a, "late", status=2, progress=100, viewcount=2))
    put(session, keyspace, ENR, enrolment(a, active=True, status=2, progress=1, issued_certificates=[ONE, THREE]))
    third = again(service, first)
    views = {row["contentid"]: (row["progress"], row["viewcount"]) for row in rows(session, keyspace, CC, b)}
    assert views == {"L1": (60, 5), "late": (100, 2)}
    issued = {row["courseid"]: [c["identifier"] for c in row.get("issued_certificates", ())]
              for row in rows(session, keyspace, ENR, b)}  # fmt: skip
    assert issued == {COURSE: ["cert-2", "cert-3"], "left": []}
    # Each of them is undone exactly.
    for merge_id in (third, second):
        service.undoing.run(merge_id, publish=False)
    assert {table: rows(session, keyspace, table, b) for table in decided} == decided


@pytest.mark.parametrize("again", [settle, repair])
def test_after_a_skip_what_comes_late_follows_the_places_of_the_first_merge(
    again: Callable, session, keyspace, service
):
    a, b = account(), account()
    for user, course in ((a, "moved"), (a, "both"), (b, "both")):
        put(session, keyspace, ENR, enrolment(user, active=True, status=1, progress=1) | {"courseid": course})
        put(session, keyspace, CC, lesson(user, viewcount=3) | {"courseid": course})
    first = merge(service, (a,), b, on_conflict="skip")
    for course in ("moved", "both"):
        put(session, keyspace, CC, lesson(a, "L2", viewcount=5) | {"courseid": course})
        put(session, keyspace, ENR, enrolment(a, active=True, status=2, progress=2) | {"courseid": course})
    for user, course in ((a, "new"), (a, "new at both"), (b, "new at both")):
        put(session, keyspace, ENR, enrolment(user, active=True, status=1) | {"courseid": course})
        put(session, keyspace, CC, lesson(user, viewcount=1 if user == b else 4) | {"courseid": course})
    again(service, first)
    views = {(row["courseid"], row["contentid"]): row["viewcount"] for row in rows(session, keyspace, CC, b)}
    assert views == {
        ("moved", "L1"): 3,
        ("moved", "L2"): 5,
        ("both", "L1"): 3,
        ("new", "L1"): 4,
        ("new at both", "L1"): 1,
    }
    progress = {row["courseid"]: row.get("progress") for row in rows(session, keyspace, ENR, b)}
    assert progress == {"moved": 2, "both": 1, "new": None, "new at both": None}


def test_several_sources_of_a_skip_stay_with_whose_rows_stood(session, keyspace, service):
    one, two, b = account(), account(), account()
    put(session, keyspace, ENR, enrolment(two, active=True, status=1))
    put(session, keyspace, CC, lesson(two, viewcount=2))
    first = merge(service, (one, two), b, on_conflict="skip")
    put(session, keyspace, ENR, enrolment(one, active=True, status=1))
    put(session, keyspace, CC, lesson(one, viewcount=9))
    put(session, keyspace, CC, lesson(two, viewcount=6))
    for again in (settle, repair, settle):
        again(service, first)
        assert [row["viewcount"] for row in rows(session, keyspace, CC, b)] == [6]


def test_a_redo_arms_the_settles_again(session, keyspace, service):
    a, b = account(), account()
    put(session, keyspace, CC, lesson(a, viewcount=3))
    put(session, keyspace, CC, lesson(b, viewcount=1))
    first = merge(service, (a,), b)
    put(session, keyspace, CC, lesson(a, viewcount=5))
    put(session, keyspace, CC, lesson(a, "L2", viewcount=7))
    settle(service, first)
    for _ in range(2):
        service.undoing.run(first, publish=False)
        service.undoing.run(first, "redo", publish=False)
        merge_row = service.journal.need(first)
        assert merge_row.settles == 0
        assert 3500 < (merge_row.settle_at - now()).total_seconds() <= 3600
        assert [row["viewcount"] for row in rows(session, keyspace, CC, b)] == [4]
        settle(service, first)
        assert sorted(row["viewcount"] for row in rows(session, keyspace, CC, b)) == [6, 7]


@pytest.mark.parametrize("door", ["hand", "event", "rescue"])
@pytest.mark.parametrize("undone", [True, False])
def test_what_the_retired_job_had_moved_never_counts_twice(door, undone, session, keyspace, service):
    a, b, c = account(), account(), account()
    put(session, keyspace, CC, lesson(a, viewcount=3))
    put(session, keyspace, CC, lesson(b, viewcount=4))  # the retired job had added the 3
    put(session, keyspace, ENR, enrolment(b, active=False, status=1))
    put(session, keyspace, ENR, enrolment(a, active=True, status=2))
    first = merge(service, (a,), b, seeded=True, dated=1_600_000_000_000)
    if undone:
        service.undoing.run(first, publish=False)
    put(session, keyspace, CC, lesson(a, viewcount=5))
    put(session, keyspace, CC, lesson(a, "L2", viewcount=2))
    seeded = {"seeded": True, "dated": 1_600_000_000_000} if door == "rescue" else {}
    second = merge(service, (a,), b, origin="event" if door == "event" else "ui", **seeded)
    views = {row["contentid"]: row["viewcount"] for row in rows(session, keyspace, CC, b)}
    assert views == {"L1": 6, "L2": 2}
    # A switch that the platform turned after the retired job's merge stays, and the rest of the row comes.
    assert [(row["active"], row["status"]) for row in rows(session, keyspace, ENR, b)] == [(False, 2)]
    onward = merge(service, (b,), c)
    assert sorted(row["viewcount"] for row in rows(session, keyspace, CC, c)) == [2, 6]
    service.undoing.run(onward, publish=False)
    service.undoing.run(second, publish=False)
    assert {row["contentid"]: row["viewcount"] for row in rows(session, keyspace, CC, b)} == {"L1": 4}


def test_when_the_images_have_expired_the_preview_says_that_it_combines_anew(session, keyspace, service):
    a, b = account(), account()
    put(session, keyspace, ENR, enrolment(a, active=True, status=1))
    first = merge(service, (a,), b)
    put(session, keyspace, ENR, enrolment(b, active=False, status=1))
    request = MergeRequest((a,), b)
    assert all("expired" not in table.note for table in service.previews.preview(request).tables)
    service.retention.expire(service.journal.need(first))
    notes = {table.table: table.note for table in service.previews.preview(request).tables}
    assert "have expired" in notes[ENR]
    assert "combined anew" in notes[ENR]


def test_what_moved_on_with_the_surviving_account_is_known_there(session, keyspace, service):
    a, b, c = account(), account(), account()
    put(session, keyspace, ENR, enrolment(a, active=True, status=1, enrolled_date=moment("2022-01-01")))
    first = merge(service, (a,), b)
    merge(service, (b,), c)
    session.execute(f"UPDATE {keyspace}.{ENR} SET active = false WHERE userid = %s AND courseid = %s AND batchid = '0131001'",
                    [c, COURSE])  # fmt: skip
    settle(service, first)
    assert [row["active"] for row in rows(session, keyspace, ENR, c)] == [False]


# --- these tests can see: each fault, put into the code, changes what a short story shows ------------------------------
def brings_the_whole_row_again(patch: pytest.MonkeyPatch) -> None:
    """A settle merges the source's row as if no merge had brought it."""
    patch.setattr(past, "_lives_in", lambda *arguments: False)


def looks_at_all_places_anew(patch: pytest.MonkeyPatch) -> None:
    """A settle of a skip merge takes what its parent brought for the target's own."""
    patch.setattr(SkippedScopes, "_family", lambda self, merge: [])


def forgets_the_retired_job(patch: pytest.MonkeyPatch) -> None:
    """An undone merge's log says nothing of what the retired job had moved."""
    told = Ledger._told

    def telling(self: Ledger, log: Any) -> Any:
        return iter(()) if log.merge_id in self._merges.withdrawn else told(self, log)

    patch.setattr(Ledger, "_told", telling)


def a_course_that_was_left(session: Any, keyspace: str, service: Service) -> Any:
    a, b = account(), account()
    put(session, keyspace, ENR, enrolment(a, active=True, status=1))
    first = merge(service, (a,), b)
    put(session, keyspace, ENR, enrolment(b, active=False, status=1))
    settle(service, first)
    return rows(session, keyspace, ENR, b)[0]["active"]


def a_late_lesson_after_a_skip(session: Any, keyspace: str, service: Service) -> Any:
    a, b = account(), account()
    put(session, keyspace, ENR, enrolment(a, active=True, status=1))
    first = merge(service, (a,), b, on_conflict="skip")
    put(session, keyspace, CC, lesson(a, viewcount=5))
    settle(service, first)
    return [row["viewcount"] for row in rows(session, keyspace, CC, b)]


def a_seeded_merge_undone(session: Any, keyspace: str, service: Service) -> Any:
    a, b = account(), account()
    put(session, keyspace, CC, lesson(a, viewcount=3))
    put(session, keyspace, CC, lesson(b, viewcount=4))
    service.undoing.run(merge(service, (a,), b, seeded=True), publish=False)
    merge(service, (a,), b)
    return rows(session, keyspace, CC, b)[0]["viewcount"]


@pytest.mark.parametrize(
    ("fault", "story", "right"),
    [
        (brings_the_whole_row_again, a_course_that_was_left, False),
        (looks_at_all_places_anew, a_late_lesson_after_a_skip, [5]),
        (forgets_the_retired_job, a_seeded_merge_undone, 4),
    ],
)
def test_a_fault_is_found(fault, story, right, session, keyspace, service, monkeypatch):
    assert story(session, keyspace, service) == right
    fault(monkeypatch)
    assert story(session, keyspace, service) != right
