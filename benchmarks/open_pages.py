"""How long the pages of a large merge take against those of a small one, in one run: ratios, and milliseconds.

usage: env $(make -s env) PYTHONPATH=include:. python benchmarks/open_pages.py [ROWS ...]   (default 10000 1000000)

Makes a keyspace and a journal of its own on the servers that the environment names, and drops them. A merge's log
is written by the product's own classes, without learners' rows: what a page shows comes from the log. Then an API server
with Airflow's own sign-in answers: the middle of several calls, after one that is not counted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from account_merge.engine.table_work import counts_of
from account_merge.journal.encoding import Codec
from account_merge.journal.log import Draft, Log
from account_merge.model import Change, MergeRequest, Write
from account_merge.service import Service
from account_merge.settings import Settings
from account_merge.states import EntryKind
from local.config import free_port
from tests.integration.plugins.serving import ROBOT, SERVER, environment_in, wait_until_up
from tests.keyspaces import drop_journal, journal_beside

TABLE = "user_content_consumption"
DDL = (
    "userid text, courseid text, batchid text, contentid text, completedcount int, progress int, status int, "
    "viewcount int, PRIMARY KEY ((userid), courseid, batchid, contentid)"
)
ENTRY, TIMES = 100, 9


def changes(rows: int) -> Iterator[Change]:
    """In key order: of 20 rows 19 are created and one is changed; one row in 5,000 can be read two ways."""
    stamp = int(time.time() * 1e6)
    for n in range(rows):
        key = (f"c{n // 50:06d}", "b", f"l{n:07d}")
        source, seen = {"status": 2, "progress": 100, "viewcount": 3}, n % 20 == 0
        writes = {"viewcount": Write(5 if seen else 3, stamp)}
        writes |= {} if seen else {"status": Write(2, stamp), "progress": Write(100, stamp)}
        why = {column: "3 of the source" for column in writes}
        notes = ("viewcount: 3 or 5, the platform wrote meanwhile",) if n % 5000 == 4999 else ()
        before = {"status": 2, "progress": 100, "viewcount": 2} if seen else None
        yield Change(
            key, {"source": source}, before, writes, 0 if seen else stamp, why, {"source": {"viewcount": (0, 3)}}, notes
        )


def merged(service: Service, rows: int) -> uuid.UUID:
    """Return a completed merge with so many rows in its log."""
    merge_id = service.opening.open_merge(
        MergeRequest((f"source-{rows}",), f"target-{rows}", tables=(TABLE,), origin="ui")
    )
    service.admission.admit(merge_id)
    codec = Codec(service.tables.schemas[TABLE])
    log, group, seq = Log(service.journal, merge_id, TABLE, codec), [], 0
    for number, change in enumerate(changes(rows), 1):
        group.append(change)
        if len(group) == ENTRY or number == rows:
            packed = [codec.change(one) for one in group]
            assert log.append(Draft(seq, EntryKind.CHANGES, group[-1].key, 1, packed, counts_of("changes", group)))
            last, seq, group = group[-1].key, seq + 1, []
    assert log.append(Draft(seq, EntryKind.END, last, 1))
    service.merging.merge_table(merge_id, TABLE)
    service.merging.publish_sync(merge_id, publish=False)
    assert service.journal.need(merge_id).state == "completed"
    return merge_id


def timed(client: httpx.Client, path: str, **query: Any) -> tuple[float, httpx.Response]:
    """Milliseconds of the middle call, and its answer."""
    times = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        answer = client.get(path, params=query)
        times.append((time.perf_counter() - begun) * 1000)
        assert answer.status_code == 200, answer.text
    return statistics.median(times[1:]), answer


def measure(client: httpx.Client, merge_id: uuid.UUID) -> dict[str, float]:
    """Milliseconds of what a person does on a merge's page."""
    page, parts = f"/merges/{merge_id}", f"/merges/{merge_id}/parts/rows"
    found: dict[str, float] = {}
    found["open the page"], _ = timed(client, page)
    found["first rows"], answer = timed(client, parts, table=TABLE)
    found["next rows"], _ = timed(client, parts, table=TABLE, cursor=answer.headers["x-next"])
    found["filter: changed"], _ = timed(client, parts, table=TABLE, what="changed")
    found["filter: ambiguous"], answer = timed(client, parts, table=TABLE, what="ambiguous")
    found["search: near"], _ = timed(client, parts, table=TABLE, key="l0000123")
    found["search: nothing"], _ = timed(client, parts, table=TABLE, key="nowhere")
    found["API: report"], _ = timed(client, f"/api/v1{page}/report")
    found["list of merges"], _ = timed(client, "/")
    return found


def main(sizes: list[int]) -> None:
    """Print a line for each thing a person does: milliseconds by size, and the ratio of the last to the first."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    own = dict(os.environ) | {
        "ACCOUNT_MERGE_COURSES_KEYSPACE": name,
        "ACCOUNT_MERGE_GROUPS_KEYSPACE": name,
        "ACCOUNT_MERGE_JOURNAL_URL": journal_beside(os.environ["ACCOUNT_MERGE_JOURNAL_URL"], name),
        "ACCOUNT_MERGE_USERS_KEYSPACE": f"{name}_users",
    }
    with Service(Settings.from_env(own)) as service, tempfile.TemporaryDirectory() as folder:
        service.journal.create()
        session = service.journal.session
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        session.execute(f"CREATE KEYSPACE {name} WITH replication = {replication}")
        session.execute(f"CREATE TABLE {name}.{TABLE} ({DDL})")
        kept = {k: v for k, v in own.items() if k.startswith(("ACCOUNT_MERGE_", "KAFKA_", "CASSANDRA_"))}
        env, port, log = environment_in(kept, Path(folder)), free_port(), Path(folder) / "server.log"
        server = None
        try:
            merges = {}
            for rows in sizes:
                begun = time.perf_counter()
                merges[rows] = merged(service, rows)
                print(f"a merge of {rows:,} rows written in {time.perf_counter() - begun:.0f} s", flush=True)
            url = f"http://127.0.0.1:{port}"
            with log.open("wb") as out:
                server = subprocess.Popen([sys.executable, str(SERVER), str(port)], env=env, stdout=out, stderr=out)
            wait_until_up(url, server, log)
            given = dict(zip(("username", "password"), ROBOT, strict=True))
            token = httpx.post(f"{url}/auth/token", json=given, timeout=60).json()["access_token"]
            headers = {"Authorization": f"Bearer {token}", "accept": "text/html, */*"}
            with httpx.Client(base_url=f"{url}/account-merge", headers=headers, timeout=600) as client:
                found = {rows: measure(client, merge_id) for rows, merge_id in merges.items()}
            print(f"{'ms':20}" + "".join(f"{rows:>12,}" for rows in sizes) + "   ratio")
            for what in found[sizes[0]]:
                times = [found[rows][what] for rows in sizes]
                print(f"{what:20}" + "".join(f"{ms:12.0f}" for ms in times) + f"{times[-1] / times[0]:8.1f}")
        finally:
            if server is not None:
                server.terminate()
                server.wait(30)
            session.execute(f"DROP KEYSPACE IF EXISTS {name}", timeout=60)
            drop_journal(own["ACCOUNT_MERGE_JOURNAL_URL"])


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]] or [10_000, 1_000_000])
