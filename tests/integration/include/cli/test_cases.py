"""The given black-box cases, by the command line, on a real Cassandra."""

from __future__ import annotations

import io
import json
import sys

import pytest

from tests.given import CASES, differences, load


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["name"])
def test_case_by_command_line(case, session, shared_environment, shared_service, monkeypatch):
    from account_merge.cli.main import main

    keyspace = shared_environment["ACCOUNT_MERGE_COURSES_KEYSPACE"]
    load(session, keyspace, case)
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
    assert differences(session, keyspace, case) == []
