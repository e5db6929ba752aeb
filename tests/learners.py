"""Learners' rows for tests: put them as the platform does, read them back comparable."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from account_merge.jsonable import jsonable
from account_merge.values import plain

USER = dict.fromkeys(("user_activity_agg", "assessment_aggregator", "program_enrollment"), "user_id")
COURSE, BATCH = "do_1130001", "0131001"


def account() -> str:
    """A new account id."""
    return str(uuid.uuid4())


def moment(text: str) -> datetime:
    """An ISO 8601 time as the driver takes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=None)


def put(session: Any, keyspace: str, table: str, row: Mapping[str, Any], timestamp: int | None = None) -> None:
    """Writes one row as the platform does: a plain INSERT, with the server's clock unless a timestamp (µs) is given."""
    using = f" USING TIMESTAMP {timestamp}" if timestamp else ""
    names, marks = ", ".join(row), ", ".join("?" for _ in row)
    statement = session.prepare(f"INSERT INTO {keyspace}.{table} ({names}) VALUES ({marks}){using}")
    session.execute(statement, list(row.values()))


def lesson(user: str, content: str = "L1", **columns: Any) -> dict[str, Any]:
    """A row of user_content_consumption."""
    return {"userid": user, "courseid": COURSE, "batchid": BATCH, "contentid": content, **columns}


def enrolment(user: str, **columns: Any) -> dict[str, Any]:
    """A row of user_enrolments."""
    return {"userid": user, "courseid": COURSE, "batchid": BATCH, **columns}


def aggregate(user: str, **columns: Any) -> dict[str, Any]:
    """A row of user_activity_agg."""
    return {"activity_type": "Course", "activity_id": COURSE, "user_id": user, "context_id": f"cb:{BATCH}", **columns}


def rows(session: Any, keyspace: str, table: str, user: str) -> list[dict[str, Any]]:
    """An account's rows without the account, sorted; empty collections and nulls left out; lists as sets."""
    column = USER.get(table, "userid")
    found = session.execute(f"SELECT * FROM {keyspace}.{table} WHERE {column} = %s ALLOW FILTERING", [user])
    names = found.column_names
    return comparable((dict(zip(names, row, strict=True)) for row in found), column)


def comparable(found: Iterable[Mapping[str, Any]], *without: str) -> list[dict[str, Any]]:
    """Rows in JSON's types without nulls, lists as sets, in a stable order."""
    result = []
    for row in found:
        kept = {k: jsonable(plain(v)) for k, v in row.items() if k not in without}
        kept = {k: sorted(v, key=str) if isinstance(v, list) else v for k, v in kept.items()}
        result.append({k: v for k, v in kept.items() if v not in (None, {}, [])})
    return sorted(result, key=lambda r: json.dumps(r, sort_keys=True))


def event(source: str, target: str, mid: str | None = None) -> bytes:
    """A merge event in the minimal form."""
    body: dict[str, Any] = {
        "eid": "BE_JOB_REQUEST",
        "ets": 1648720639981,
        "edata": {"fromAccountId": source, "toAccountId": target},
    }
    return json.dumps(body | ({"mid": mid} if mid else {})).encode()
