"""How long a merge takes against the plain reading and writing of the same rows, in one run: a ratio, not a time.

usage: env $(make -s env) PYTHONPATH=include:. python benchmarks/merge_rows.py [ROWS ...]    (default 1000 10000)

Makes a keyspace and a journal of its own on the servers that the environment names, and drops them. The floor
reads both accounts and writes as many rows to a third with prepared statements, 64 in flight; the merge also logs,
verifies and leases.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from typing import Any

from cassandra.concurrent import execute_concurrent_with_args

from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.settings import Settings
from tests.keyspaces import drop_journal, journal_beside

TABLE = "user_content_consumption"
DDL = (
    "userid text, courseid text, batchid text, contentid text, completedcount int, progress int, status int, "
    "viewcount int, PRIMARY KEY ((userid), courseid, batchid, contentid)"
)
INSERT = "(userid, courseid, batchid, contentid, status, progress, viewcount) VALUES (?, ?, ?, ?, ?, ?, ?)"


def fill(session: Any, statement: Any, user: str, rows: int) -> None:
    """Put `rows` lessons of one account."""
    values = ((user, f"c{n // 50:06d}", "b", f"l{n:07d}", 2, 100, 3) for n in range(rows))
    execute_concurrent_with_args(session, statement, values, concurrency=64, results_generator=False)


def floor(session: Any, keyspace: str, statement: Any, rows: int) -> float:
    """Seconds of reading two accounts and writing as many rows to a third."""
    begun = time.perf_counter()
    for user in ("source", "target"):
        for _ in session.execute(f"SELECT * FROM {keyspace}.{TABLE} WHERE userid = %s", [user]):
            pass
    fill(session, statement, "floor", rows)
    return time.perf_counter() - begun


def measure(rows: int) -> None:
    """One size: prints rows, floor, merge and their ratio."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    given = Settings.from_env(os.environ)
    settings = given.replace(courses_keyspace=name, journal_url=journal_beside(given.journal_url, name))
    with Service(settings) as service:
        service.journal.create()
        session = service.journal.session
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        session.execute(f"CREATE KEYSPACE {name} WITH replication = {replication}")
        session.execute(f"CREATE TABLE {name}.{TABLE} ({DDL})")
        try:
            statement = session.prepare(f"INSERT INTO {name}.{TABLE} {INSERT}")
            for user in ("source", "target"):
                fill(session, statement, user, rows)
            plain = floor(session, name, statement, rows)
            begun = time.perf_counter()
            merge_id = service.opening.open_merge(MergeRequest(("source",), "target", tables=(TABLE,)))
            service.admission.admit(merge_id)
            service.merging.merge_table(merge_id, TABLE)
            merged = time.perf_counter() - begun
            print(f"{rows:>9} rows   floor {plain:7.2f} s   merge {merged:7.2f} s   ratio {merged / plain:5.2f}")
        finally:
            session.execute(f"DROP KEYSPACE IF EXISTS {name}", timeout=60)
            drop_journal(settings.journal_url)


if __name__ == "__main__":
    for size in [int(a) for a in sys.argv[1:]] or [1000, 10000]:
        measure(size)
