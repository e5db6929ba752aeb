"""Between facts and the platform's rows: write them as the platform does, read an account's rows back as facts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

from tests.torture.model import Account, Facts

BATCH = "0131001"
DAY = datetime(2022, 3, 1, 10, 15, 30)
ROLES = ("member", "admin")
COURSES, GROUPS, PROGRAMS = "sunbird_courses", "sunbird_groups", "sunbird_programs"
Put = Callable[[str, dict[str, Any]], None]


def lesson(account: Account, course: str, name: str, views: int, status: int) -> tuple[str, dict[str, Any], Facts]:
    """One lesson: (table, row, facts)."""
    done = status == 2
    row = {
        "userid": account.id, "courseid": course, "batchid": BATCH, "contentid": name, "status": status,
        "progress": 100 if done else 40, "viewcount": views, "completedcount": int(done), "last_access_time": DAY,
    }  # fmt: skip
    facts = {("views", course, name): views, ("status", course, name): status,
             ("lesson progress", course, name): 100 if done else 40}  # fmt: skip
    return f"{COURSES}.user_content_consumption", row, facts | ({("completions", course, name): 1} if done else {})


def enrolment(account: Account, course: str, content: dict[str, int], certificates: list[str]) -> Any:
    """One enrolment: (table, row, facts)."""
    status = 2 if certificates else 1
    row = {
        "userid": account.id, "courseid": course, "batchid": BATCH, "active": True, "contentstatus": content or None,
        "progress": sum(v == 2 for v in content.values()), "status": status, "enrolled_date": DAY, "datetime": DAY,
        "issued_certificates": [{"identifier": c, "name": "completion", "token": c[-6:]} for c in certificates] or None,
    }  # fmt: skip
    facts: Facts = {("enrolled", course): status, ("progress", course): row["progress"]}  # type: ignore[dict-item]
    facts |= {("content", course, name): value for name, value in content.items()}
    return f"{COURSES}.user_enrolments", row, facts | {("certificate", course, c): 1 for c in certificates}


def attempt(account: Account, course: str, test: str, name: str, score: int) -> tuple[str, dict[str, Any], Facts]:
    """One test attempt; a later attempt of the same name has a later time and more points."""
    row = {
        "user_id": account.id, "course_id": course, "batch_id": BATCH, "content_id": test, "attempt_id": name,
        "total_score": float(score), "total_max_score": 100.0, "grand_total": f"{score}/100",
        "last_attempted_on": DAY + timedelta(minutes=score),
    }  # fmt: skip
    return f"{COURSES}.assessment_aggregator", row, {("attempt", course, test, name): score}


def aggregate(account: Account, course: str, finished: int, scores: dict[str, int], attempts: list[str]) -> Any:
    """The course's progress and best scores as the platform's aggregator leaves them."""
    numbers = {"completedCount": float(finished)} | {f"score:{test}": float(best) for test, best in scores.items()}
    numbers |= {f"max_score:{test}": 100.0 for test in scores}
    numbers |= {f"attempts_count:{test}": float(len(attempts)) for test in scores}
    test = next(iter(scores), "")
    row = {
        "activity_type": "Course", "activity_id": course, "user_id": account.id, "context_id": f"cb:{BATCH}",
        "aggregates": numbers, "agg_last_updated": dict.fromkeys(numbers, DAY),
        "agg_details": [json.dumps({"attempt_id": a, "content_id": test, "score": 1}) for a in attempts] or None,
    }  # fmt: skip
    facts: Facts = {("finished", course): finished} | {("score", course, t): best for t, best in scores.items()}
    facts |= {("attempts count", course, t): len(attempts) for t in scores}
    return f"{COURSES}.user_activity_agg", row, facts | {("tried", course, a): 1 for a in attempts}


def membership(account: Account, group: str, role: int) -> list[tuple[str, dict[str, Any], Facts]]:
    """A group: the membership; the account's list is written beside it."""
    row = {
        "groupid": group, "userid": account.id, "role": ROLES[role], "status": "active", "createdon": DAY,
        "createdby": "teacher", "visited": True,
    }  # fmt: skip
    return [(f"{GROUPS}.group_member", row, {("member", group): role + 1, ("group", group): 1})]


def program(account: Account, name: str) -> tuple[str, dict[str, Any], Facts]:
    """A program enrolment."""
    row = {
        "program_id": name, "user_id": account.id, "program_name": name, "pii_consent_required": True,
        "created_at": date(2022, 3, 1), "user_type": "teacher",
    }  # fmt: skip
    return f"{PROGRAMS}.program_enrollment", row, {("program", name): 1}


def read(ask: Callable[..., list[Any]], account: str) -> Facts:
    """All that an account's rows show, as facts; what stands twice in a list counts twice."""
    facts: Counter[Any] = Counter()
    for r in ask(f"SELECT * FROM {COURSES}.user_content_consumption WHERE userid = ?", account):
        key = (r.courseid, r.contentid)
        facts["views", *key], facts["status", *key] = r.viewcount or 0, r.status or 0
        facts["completions", *key], facts["lesson progress", *key] = r.completedcount or 0, r.progress or 0
    courses = set()
    for r in ask(f"SELECT * FROM {COURSES}.user_enrolments WHERE userid = ?", account):
        courses.add(r.courseid)
        facts["enrolled", r.courseid], facts["progress", r.courseid] = r.status or 0, r.progress or 0
        facts.update({("content", r.courseid, name): value for name, value in (r.contentstatus or {}).items()})
        facts.update(("certificate", r.courseid, c["identifier"]) for c in r.issued_certificates or ())
    for r in ask(f"SELECT * FROM {COURSES}.user_activity_agg WHERE user_id = ?", account):
        _aggregate(facts, r)
    everything = f"SELECT * FROM {COURSES}.assessment_aggregator WHERE user_id = ? ALLOW FILTERING"
    for r in ask(everything, account):
        facts["attempt", r.course_id, r.content_id, r.attempt_id] = r.total_score or 0
    for r in ask(f"SELECT * FROM {GROUPS}.group_member WHERE userid = ?", account):
        if r.status == "active":
            facts["member", r.groupid] = ROLES.index(r.role) + 1
    for r in ask(f"SELECT * FROM {GROUPS}.user_group WHERE userid = ?", account):
        facts.update(("group", group) for group in r.groupid or ())
    for r in ask(f"SELECT * FROM {PROGRAMS}.program_enrollment WHERE user_id = ?", account):
        facts["program", r.program_id] = 1
    return {fact: value for fact, value in facts.items() if value}


def _aggregate(facts: Counter[Any], r: Any) -> None:
    kinds = {"score": "score", "attempts_count": "attempts count"}
    for name, value in (r.aggregates or {}).items():
        word, _, test = name.partition(":")
        if name == "completedCount":
            facts["finished", r.activity_id] = value
        elif word in kinds:
            facts[kinds[word], r.activity_id, test] = value
    facts.update(("tried", r.activity_id, json.loads(text)["attempt_id"]) for text in r.agg_details or ())
