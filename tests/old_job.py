"""The retired job, as its code was: what it did to the target's rows, defects and all. It never deleted a source's row.

Lessons: view and completion counts added up, everything else the greater; a lesson that the target lacked was copied.
Aggregates: of each course that the source was enrolled in, all columns of the source's row put over the target's, the
map of numbers replaced by the source's completedCount alone; units were never looked at.
Enrolments: those of a batch that the target was in were skipped whole; the others were copied.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from account_merge.values import plain
from tests.learners import put

_SUMS, _KEYS = ("viewcount", "completedcount"), ("courseid", "batchid", "contentid")
_GREATER = ("progress", "status", "last_access_time", "last_completed_time", "last_updated_time", "lastaccesstime",
            "lastcompletedtime", "lastupdatedtime")  # fmt: skip


def old_job(session: Any, keyspace: str, source: str, target: str, timestamp: int) -> None:
    """Merges as the retired job did. :param timestamp: µs; when it did so."""

    def write(table: str, row: dict[str, Any]) -> None:
        put(session, keyspace, table, {c: v for c, v in row.items() if v is not None}, timestamp)

    def read(table: str, user: str) -> list[dict[str, Any]]:
        column = "user_id" if table == "user_activity_agg" else "userid"
        found = session.execute(f"SELECT * FROM {keyspace}.{table} WHERE {column} = %s ALLOW FILTERING", [user])
        return [{c: plain(v) for c, v in row._asdict().items()} for row in found]

    lessons, theirs = read("user_content_consumption", source), read("user_content_consumption", target)
    for row in lessons:
        write("user_content_consumption", _lesson(row, theirs) | {"userid": target})

    enrolled = read("user_enrolments", source)
    courses = {row["courseid"] for row in enrolled}
    for row in read("user_activity_agg", source):
        if row["activity_id"] in courses:
            count = {"completedCount": (row["aggregates"] or {}).get("completedCount", 0.0)}
            write("user_activity_agg", row | {"user_id": target, "aggregates": count})

    batches = {row["batchid"] for row in read("user_enrolments", target)}
    for row in enrolled:
        if row["batchid"] not in batches:
            write("user_enrolments", row | {"userid": target})


def _lesson(row: dict[str, Any], theirs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    held = next((t for t in theirs if all(t[k].lower() == row[k].lower() for k in _KEYS)), None)
    if held is None:
        return row
    sums = {c: (held[c] or 0) + (row[c] or 0) for c in _SUMS}
    greater = {c: max((v for v in (held[c], row[c]) if v is not None), default=None) for c in _GREATER}
    return held | sums | greater
