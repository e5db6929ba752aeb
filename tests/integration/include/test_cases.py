"""The given black-box cases, by the command line, on a real Cassandra."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.learners import comparable, moment, put

CASES = json.loads((Path(__file__).parents[2] / "cases" / "merge.json").read_text())


def typed(cql_type: str, value: Any) -> Any:
    if cql_type == "timestamp":
        return moment(value)
    if cql_type == "map<text,timestamp>":
        return {k: moment(v) for k, v in value.items()}
    return value


def target_rows(session: Any, keyspace: str, case: dict[str, Any], table: str) -> list[dict[str, Any]]:
    user = next(c for c in CASES["schema"][table] if c in ("userid", "user_id"))
    found = session.execute(f"SELECT * FROM {keyspace}.{table} WHERE {user} = %s ALLOW FILTERING", [case["target"]])
    return [row._asdict() for row in found]


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["name"])
def test_case_by_command_line(case, session, shared_environment, shared_service, monkeypatch):
    from account_merge.cli import main

    keyspace = shared_environment["ACCOUNT_MERGE_COURSES_KEYSPACE"]
    for table, rows in case["before"].items():
        for row in rows:
            put(session, keyspace, table, {c: typed(CASES["schema"][table][c], v) for c, v in row.items()})
    for name, value in shared_environment.items():
        monkeypatch.setenv(name, value)
    lines = "\n".join(case["events"]).encode() + b"\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    out = io.StringIO()

    main(["merge", "--events", "-"], out)

    answers = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(answers) == len(case["events"])
    for raw, answer in zip(case["events"], answers, strict=True):
        assert answer["state"] == ("completed" if "edata" in json.loads(raw) else "refused"), answer
        assert answer["error"] is None or (answer["error"]["code"] and answer["error"]["remedy"])
    free = {(f["table"], f["column"]) for f in (*case["free_columns"], *CASES["always_free"])}
    for table in CASES["schema"]:
        ignored = [column for at, column in free if at == table]
        wanted = comparable(case["right_after_target"].get(table, []), *ignored)
        assert comparable(target_rows(session, keyspace, case, table), *ignored) == wanted, table
