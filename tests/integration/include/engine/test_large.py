"""An account of 100,000 rows in flat memory: the process grows no more for them than a fixed allowance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cassandra.concurrent import execute_concurrent_with_args

from tests.learners import account

ROOT = Path(__file__).resolve().parents[4]
ROWS = 100_000
ALLOWANCE_MB = 80  # spike.md: pages and one entry; a stream held in memory would take several hundred
CODE = """
import json, os, resource, sys
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.settings import Settings
small, large, target = sys.argv[1:]
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
with Service(Settings.from_env(os.environ)) as service:
    grown = []
    for source in (small, large):
        merge_id = service.opening.open_merge(MergeRequest((source,), target + source, tables=("user_content_consumption",)))
        service.admission.admit(merge_id)
        answer = service.merging.merge_table(merge_id, "user_content_consumption")
        grown.append(peak())
print(json.dumps({"counts": answer, "peaks": grown}))
"""


@pytest.mark.long
@pytest.mark.timeout(900)
def test_hundred_thousand_rows_in_flat_memory(session, shared_environment, shared_service):
    keyspace = shared_environment["ACCOUNT_MERGE_COURSES_KEYSPACE"]
    small, large, target = account(), account(), account()
    insert = session.prepare(
        f"INSERT INTO {keyspace}.user_content_consumption (userid, courseid, batchid, contentid, status, viewcount) "
        "VALUES (?, ?, 'b', ?, 2, 3)"
    )
    for user, count in ((small, 1000), (large, ROWS)):
        rows = ((user, f"c{n // 50:05d}", f"l{n:06d}") for n in range(count))
        execute_concurrent_with_args(session, insert, rows, concurrency=64, results_generator=False)
    done = subprocess.run(
        [sys.executable, "-c", CODE, small, large, target],
        env={**os.environ, **shared_environment, "PYTHONPATH": str(ROOT / "include")},
        capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout)
    assert answer["counts"]["created"] == ROWS
    found = session.execute(
        f"SELECT count(*) FROM {keyspace}.user_content_consumption WHERE userid = %s", [target + large], timeout=60
    )
    assert found.one()[0] == ROWS
    assert answer["peaks"][1] - answer["peaks"][0] < ALLOWANCE_MB
