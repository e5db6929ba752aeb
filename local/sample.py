"""The sample learner: one person with two accounts, whose history the demo merges.

Every row is a plausible one of the platform's own services. The rows carry old write times, as rows in production do,
so that the merge does not take them for activity of this moment.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cassandra.cluster import Session

SOURCE = "b964d83a-c40f-4b3c-85e7-68b764efd14b"
TARGET = "191e6b5a-8581-46bd-b779-b3b534984649"

# Both accounts are enrolled in the first course; the second one only the old account knows, the third only the new one.
SAFETY = ("do_31309287232935526411138", "0130929928739635202")
READING = ("do_31307361357558579213961", "0130736223094128640")
MATHS = ("do_31320785190245171211507", "0132079203851796481")
SAFETY_LESSONS = [f"do_3130928723293552641{n}" for n in (201, 202, 203, 204)]
READING_LESSONS = [f"do_3130736135755857921{n}" for n in (301, 302)]
MATHS_LESSONS = [f"do_3132078519024517121{n}" for n in (401, 402, 403)]
SAFETY_TEST = SAFETY_LESSONS[3]
# A unit of the first course: two lessons and the test. The platform counts it like a course of the same batch.
SAFETY_UNIT = ("do_31309287232935526411150", SAFETY[1])
TEACHERS, READERS = "6c0b41e4-5d0e-4f52-9a2f-6f1b2f6a9d11", "b71c9f0a-7d43-4a55-8c59-0a7f4a3d2e02"
SCHOOLS = ("600ab53cc7de076e6f993724", "PGM_school_improvement", "School improvement")
LIBRARY = ("5f34ec17585244939f89f90d", "PGM_library", "A library in each school")
ADDED_BY = "5a587cc1-e018-4859-a0a8-e842650b9d64"


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _text(moment: datetime) -> str:
    """Return the platform's older form of the same time."""
    return moment.strftime("%Y-%m-%d %H:%M:%S:000+0000")


def _lesson(user: str, course: tuple[str, str], lesson: str, status: int, views: int, when: str) -> dict[str, Any]:
    moment, done = _at(when), status == 2
    return {
        "userid": user, "courseid": course[0], "batchid": course[1], "contentid": lesson, "status": status,
        "progress": 100 if done else 40, "viewcount": views, "completedcount": 1 if done else 0,
        "completionpercentage": 100.0 if done else 40.0, "progressdetails": json.dumps({"mimeType": "video/mp4"}),
        "datetime": moment, "last_access_time": moment, "lastaccesstime": _text(moment),
        "last_updated_time": moment, "lastupdatedtime": _text(moment),
        "last_completed_time": moment if done else None, "lastcompletedtime": _text(moment) if done else None,
    }  # fmt: skip


def _enrolment(user: str, course: tuple[str, str], contents: dict[str, int], enrolled: str, seen: str,
               certificate: str = "", total: int = 0) -> dict[str, Any]:  # fmt: skip
    done = sum(status == 2 for status in contents.values())
    complete = done == total
    issued = [{"identifier": certificate, "name": "Course completion certificate", "token": certificate[-6:].upper(),
               "lastIssuedOn": f"{seen}.000+0000"}]  # fmt: skip
    return {
        "userid": user, "courseid": course[0], "batchid": course[1], "active": True, "addedby": ADDED_BY,
        "contentstatus": contents, "progress": done, "status": 2 if complete else 1,
        "completionpercentage": done * 100 // total, "enrolled_date": _at(enrolled), "datetime": _at(seen),
        "enrolleddate": _text(_at(enrolled)), "lastcontentaccesstime": _at(seen),
        "lastreadcontentid": list(contents)[-1], "lastreadcontentstatus": list(contents.values())[-1],
        "completedon": _at(seen) if complete else None, "issued_certificates": issued if certificate else None,
    }  # fmt: skip


def _aggregate(user: str, course: tuple[str, str], done: int, when: str, tries: list[dict[str, Any]]) -> dict[str, Any]:
    values: dict[str, float] = {"completedCount": done}
    for attempt in tries:
        lesson = attempt["content_id"]
        values[f"score:{lesson}"] = max(values.get(f"score:{lesson}", 0), attempt["total_score"])
        values[f"max_score:{lesson}"] = attempt["total_max_score"]
        values[f"attempts_count:{lesson}"] = values.get(f"attempts_count:{lesson}", 0) + 1
    details = [json.dumps({
        "attempt_id": a["attempt_id"], "last_attempted_on": a["last_attempted_on"].strftime("%b %d, %Y, %I:%M:%S %p"),
        "score": a["total_score"], "content_id": a["content_id"], "max_score": a["total_max_score"],
        "type": "attempt_metrics",
    }) for a in tries]  # fmt: skip
    return {
        "activity_type": "Course", "activity_id": course[0], "user_id": user, "context_id": f"cb:{course[1]}",
        "agg": {"completedCount": done}, "aggregates": values, "agg_details": details or None,
        "agg_last_updated": dict.fromkeys(values, _at(when)),
    }  # fmt: skip


def _attempt(user: str, attempt: str, score: float, when: str) -> dict[str, Any]:
    return {
        "course_id": SAFETY[0], "batch_id": SAFETY[1], "user_id": user, "content_id": SAFETY_TEST,
        "attempt_id": attempt, "total_score": score, "total_max_score": 10.0, "grand_total": f"{score:g}/10",
        "last_attempted_on": _at(when), "created_on": _at(when), "updated_on": _at(when),
    }  # fmt: skip


def _member(user: str, group: str, role: str, since: str, seen: str) -> dict[str, Any]:
    return {
        "groupid": group, "userid": user, "role": role, "status": "active", "visited": True, "createdby": ADDED_BY,
        "createdon": _at(since), "updatedby": user, "updatedon": _at(seen),
    }  # fmt: skip


def _program(user: str, program: tuple[str, str, str], consent: bool, user_type: str, day: str) -> dict[str, Any]:
    return {
        "program_id": program[0], "program_externalid": program[1], "program_name": program[2], "user_id": user,
        "pii_consent_required": consent, "user_type": user_type, "user_locations": {"state": "29"},
        "created_at": date.fromisoformat(day), "updated_at": date.fromisoformat(day),
    }  # fmt: skip


def _memberships() -> dict[str, list[dict[str, Any]]]:
    """Return the groups and programs: one of each kind both accounts have, another only the old one."""
    return {
        "sunbird_groups.user_group": [
            {"userid": SOURCE, "groupid": {TEACHERS, READERS}},
            {"userid": TARGET, "groupid": {TEACHERS}},
        ],
        "sunbird_groups.group_member": [
            _member(SOURCE, TEACHERS, "admin", "2021-08-02T05:30:00", "2022-01-21T18:10:00"),
            _member(TARGET, TEACHERS, "member", "2022-02-26T07:00:00", "2022-03-02T12:50:00"),
            _member(SOURCE, READERS, "member", "2021-11-02T05:30:00", "2021-11-05T16:30:00"),
        ],
        "sunbird_programs.program_enrollment": [
            _program(SOURCE, SCHOOLS, consent=True, user_type="teacher", day="2021-09-15"),
            _program(TARGET, SCHOOLS, consent=True, user_type="teacher", day="2022-03-01"),
            _program(SOURCE, LIBRARY, consent=True, user_type="teacher", day="2021-12-01"),
        ],
    }  # fmt: skip


def _user(user: str, name: str, status: int) -> dict[str, Any]:
    """Return an account as the user service leaves it; the old one is switched off before the merge event goes out."""
    return {
        "id": user, "userid": user, "firstname": "Asha", "username": name, "status": status, "isdeleted": status == 0,
    }  # fmt: skip


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return all sample rows by table."""
    first, second, third, test = SAFETY_LESSONS
    old_tries = [_attempt(SOURCE, "a1f0c6de5b1d4d0f9a55", 6, "2022-01-14T09:20:11"),
                 _attempt(SOURCE, "b7c3904ab52e45bb8e01", 9, "2022-01-21T18:02:40")]  # fmt: skip
    new_tries = [_attempt(TARGET, "c90d3e1fd7754c6f8312", 7, "2022-03-02T12:45:09")]
    return {
        "sunbird_courses.user_content_consumption": [
            _lesson(SOURCE, SAFETY, first, 2, 3, "2022-01-10T08:15:00"),
            _lesson(SOURCE, SAFETY, second, 2, 1, "2022-01-12T08:40:00"),
            _lesson(SOURCE, SAFETY, third, 1, 2, "2022-01-13T19:05:00"),
            _lesson(SOURCE, SAFETY, test, 2, 2, "2022-01-21T18:02:40"),
            _lesson(TARGET, SAFETY, first, 2, 1, "2022-02-27T10:00:00"),
            _lesson(TARGET, SAFETY, third, 2, 1, "2022-03-01T10:30:00"),
            _lesson(TARGET, SAFETY, test, 1, 1, "2022-03-02T12:45:09"),
            *(_lesson(SOURCE, READING, lesson, 2, 1, "2021-11-05T16:20:00") for lesson in READING_LESSONS),
            _lesson(TARGET, MATHS, MATHS_LESSONS[0], 2, 1, "2022-03-20T07:30:00"),
        ],
        "sunbird_courses.user_enrolments": [
            _enrolment(SOURCE, SAFETY, {first: 2, second: 2, third: 1, test: 2}, "2022-01-09T06:00:00",
                       "2022-01-21T18:02:40", total=4),
            _enrolment(TARGET, SAFETY, {first: 2, third: 2, test: 1}, "2022-02-26T06:00:00",
                       "2022-03-02T12:45:09", total=4),
            _enrolment(SOURCE, READING, dict.fromkeys(READING_LESSONS, 2), "2021-11-01T06:00:00", "2021-11-05T16:20:00",
                       certificate="1-3f0c5a1e-51de-4f4c-8e0a-5e4f6a1b9c02", total=2),
            _enrolment(TARGET, MATHS, {MATHS_LESSONS[0]: 2}, "2022-03-18T06:00:00", "2022-03-20T07:30:00", total=3),
        ],
        "sunbird_courses.user_activity_agg": [
            _aggregate(SOURCE, SAFETY, 3, "2022-01-21T18:02:40", old_tries),
            _aggregate(TARGET, SAFETY, 2, "2022-03-02T12:45:09", new_tries),
            _aggregate(SOURCE, SAFETY_UNIT, 3, "2022-01-21T18:02:40", []),
            _aggregate(TARGET, SAFETY_UNIT, 1, "2022-02-27T10:00:00", []),
            _aggregate(SOURCE, READING, 2, "2021-11-05T16:20:00", []),
            _aggregate(TARGET, MATHS, 1, "2022-03-20T07:30:00", []),
        ],
        "sunbird_courses.assessment_aggregator": [*old_tries, *new_tries],
        "sunbird.user": [_user(SOURCE, "asha_old", 0), _user(TARGET, "asha", 1)],
        **_memberships(),
    }  # fmt: skip


def load(session: Session) -> bool:
    """Write the sample rows unless the accounts have a history already; say whether they were written."""
    query = "SELECT userid FROM sunbird_courses.user_enrolments WHERE userid = %s LIMIT 1"
    if session.execute(query, (SOURCE,)).one():
        return False
    written = int((time.time() - 86400) * 1_000_000)
    for table, found in rows().items():
        for row in found:
            given = {column: value for column, value in row.items() if value is not None}
            marks = ", ".join(["?"] * len(given))
            insert = f"INSERT INTO {table} ({', '.join(given)}) VALUES ({marks}) USING TIMESTAMP {written}"  # noqa: S608
            session.execute(session.prepare(insert), list(given.values()))
    return True
