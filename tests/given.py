"""The given black-box cases (tests/cases/merge.json): put their rows, compare what the target has afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.learners import comparable, moment, put

CASES = json.loads((Path(__file__).parent / "cases" / "merge.json").read_text())


def load(session: Any, keyspace: str, case: dict[str, Any]) -> None:
    """Writes the case's rows."""
    for table, rows in case["before"].items():
        for row in rows:
            put(session, keyspace, table, {c: _typed(CASES["schema"][table][c], v) for c, v in row.items()})


def _typed(cql_type: str, value: Any) -> Any:
    if cql_type == "timestamp":
        return moment(value)
    if cql_type == "map<text,timestamp>":
        return {k: moment(v) for k, v in value.items()}
    return value


def differences(session: Any, keyspace: str, case: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(table, found, wanted) of each table whose target rows are not right; free columns are not compared."""
    found = []
    for table, columns in CASES["schema"].items():
        free = [f["column"] for f in (*case["free_columns"], *CASES["always_free"]) if f["table"] == table]
        user = next(c for c in columns if c in ("userid", "user_id"))
        cql = f"SELECT * FROM {keyspace}.{table} WHERE {user} = %s ALLOW FILTERING"
        has = comparable((row._asdict() for row in session.execute(cql, [case["target"]])), *free)
        wanted = comparable(case["right_after_target"].get(table, []), *free)
        if has != wanted:
            found.append((table, has, wanted))
    return found
