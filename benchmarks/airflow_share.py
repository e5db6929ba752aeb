"""What Airflow adds to a merge: from an event to its merge, a burst of events, and what the stack takes while nothing happens.

usage: python -m benchmarks.airflow_share [--events 9] [--burst 50] [--flood 5000] [--idle 60] [--to FOLDER]

Starts a whole stack on free ports and ends it. Every merge is of two accounts with 20 rows of content consumption each.

- one event after another: seconds from its publishing to the completed merge, and its parts: until it is in the journal, until
  its run is triggered, and each task from the end of the one before it to its own end;
- runs of `account_merge` beside runs of `connections_only` (`benchmarks/dags`), the same tasks that only open and close their
  connections, in turn: seconds from the first task's queueing to the last task's end, one at a time and as a burst;
- a burst of events: seconds until all merges are completed;
- a flood of events, one in a hundred of them none that anybody can read: merges a second from the first message to the last
  completed merge, which is through the poll and bulk runs, and that each unreadable one is refused once;
- idle: cores, by process, and rows that Airflow's database gets in an hour.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.query import tuple_factory
from sqlalchemy import func, select

from account_merge.journal import now
from account_merge.journal.schema import merges
from account_merge.service import Service
from account_merge.settings import Settings
from account_merge.states import State
from benchmarks.learners import Keyspace
from benchmarks.merge_speed import keep
from local.config import DEFAULT_PORTS, PROJECT, Config
from local.stack import Stack
from tests.e2e.airflow_client import AirflowClient, wait_for
from tests.e2e.platform_world import World

ROWS = 20
MERGE, FLOOR, POLL = "account_merge", "connections_only", "account_merge_poll"


@contextmanager
def whole_stack() -> Iterator[Stack]:
    """All servers and Airflow, with the DAG that only connects beside the others."""
    with tempfile.TemporaryDirectory(prefix="account-merge-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)  # PostgreSQL, which runs as another user than root, must be able to enter
        dags = home / "dags"
        shutil.copytree(PROJECT / "dags", dags)
        for extra in (PROJECT / "benchmarks" / "dags").glob("*.py"):
            shutil.copy(extra, dags)
        ports = dict.fromkeys(DEFAULT_PORTS, 0)
        stack = Stack(Config(home / "stack", Config.from_env().cache, ports, durable=True, dags=dags))
        try:
            stack.up()
            yield stack
        finally:
            stack.clean()


class Share:
    """Measures on a running stack.

    :param database: Airflow's.
    """

    def __init__(self, stack: Stack, service: Service, session: Any, database: psycopg.Connection[Any]) -> None:
        where = stack.describe()
        self._stack, self._service, self._database = stack, service, database
        self._client = AirflowClient(where["AIRFLOW_URL"], where["AIRFLOW_USERNAME"], where["AIRFLOW_PASSWORD"])
        self._tables = Keyspace(session, service.settings.courses_keyspace)
        self._world = World(service.settings, session)
        for dag in (MERGE, FLOOR, POLL):
            wait_for(lambda dag=dag: dag in self._dags(), 120, f"DAG {dag}")

    def _dags(self) -> list[str]:
        return [found["dag_id"] for found in self._client.get("dags", limit=100)["dags"]]

    def publish(self, number: int) -> list[uuid.UUID]:
        """Publish events; return the ids of their merges."""
        pairs = [self._tables.pair(ROWS) for _ in range(number)]
        events = [self._world.event(pair.source, pair.target) for pair in pairs]
        self._world.publish(*events)
        return list(map(self._world.merge_id, events))

    def completed(self, ids: Sequence[uuid.UUID], seconds: float = 600) -> float:
        """Wait until all these merges are completed; return how long that took."""
        begun = time.monotonic()
        journal = self._service.journal

        def look() -> bool:
            found = journal.get_all(ids)
            return len(found) == len(ids) and all(merge.state == "completed" for merge in found.values())

        wait_for(look, seconds, f"{len(ids)} completed merges", 0.1)
        return time.monotonic() - begun

    def event(self) -> dict[str, float]:
        """Publish one event; return the seconds of its parts, in order, and of all."""
        self._idle_poll()
        (merge_id,) = self.publish(1)
        begun = now()
        self.completed([merge_id])
        merge = self._service.journal.need(merge_id)
        states = {row.after: row.at for row in self._service.journal.history(merge_id)}
        parts = {"claimed": merge.created_at, "run chosen": states["started"]}
        tasks = self._instances(MERGE, merge.run_ids[-1])
        parts |= {task: end for task, end in sorted(tasks.items(), key=lambda item: item[1]) if end is not None}
        parts["completed"] = states["completed"]
        found, last = {}, begun
        for name, moment in sorted(parts.items(), key=lambda item: item[1]):
            found[name] = (moment - last).total_seconds()
            last = moment
        found["all"] = (states["completed"] - begun).total_seconds()
        return found

    def burst(self, number: int) -> float:
        """Publish so many events at once; return the seconds until all merges are completed."""
        self._quiet()
        return self.completed(self.publish(number))

    def flood(self, number: int) -> float:
        """Publish so many events, every hundredth of them unreadable; return the merges that are completed a second."""
        self._quiet()
        good = number - number // 100
        pairs = [self._tables.pair(ROWS) for _ in range(good)]
        events = [self._world.event(pair.source, pair.target) for pair in pairs]
        mixed: list[dict[str, Any] | bytes] = []
        for n, event in enumerate(events, 1):
            mixed += [event, b"{no event %d" % n] if n % 99 == 0 else [event]
        completed, refused = self._number(State.COMPLETED), self._number(State.REFUSED)
        self._world.publish(*mixed)
        begun = time.monotonic()
        # Counted by the server, and seldom: to read thousands of merges again and again would slow them down.
        wait_for(lambda: self._number(State.COMPLETED) - completed >= good, 3600, f"{good} completed merges", 1)
        seconds = time.monotonic() - begun
        self.completed(list(map(self._world.merge_id, events)), 1)
        found = self._number(State.REFUSED) - refused
        assert found == len(mixed) - good, (found, len(mixed) - good)
        return good / seconds

    def _number(self, state: State) -> int:
        return int(self._service.journal.value(select(func.count()).where(merges.c.state == state)))

    def _idle_poll(self) -> None:
        """Wait until a poll looks for work: it comes a moment after the run before it."""
        look = "SELECT 1 FROM task_instance WHERE dag_id = %s AND state = 'deferred'"
        wait_for(lambda: self._database.execute(look, [POLL]).fetchone(), 120, "poll that waits for work", 0.2)
        time.sleep(3)

    def _quiet(self) -> None:
        """Wait until no task runs but the poll's look."""
        busy = "SELECT 1 FROM task_instance WHERE state IN ('scheduled', 'queued', 'running', 'restarting')"
        wait_for(lambda: not self._database.execute(busy).fetchone(), 300, "end of all tasks", 0.5)
        self._idle_poll()

    def _instances(self, dag: str, run_id: str) -> dict[str, datetime]:
        rows = self._database.execute(
            "SELECT task_id, end_date AT TIME ZONE 'UTC' FROM task_instance WHERE dag_id = %s AND run_id = %s"
            " AND state = 'success'", [dag, run_id],
        )  # fmt: skip
        return dict(rows.fetchall())

    def runs(self, dag: str, number: int) -> float:
        """Trigger runs at once; return the seconds from the first task's queueing to the last task's end."""
        ids = [f"bench__{uuid.uuid4()}" for _ in range(number)]
        for run_id in ids:
            pair = self._tables.pair(ROWS)
            accounts = {"source_accounts": [pair.source], "target_account": pair.target} if dag == MERGE else {}
            self._client.trigger(dag, accounts, run_id)
        for run_id in ids:
            assert self._client.ended(dag, run_id, 900) == "success", run_id
        ends = self._database.execute(
            "SELECT extract(epoch FROM max(end_date) - min(queued_dttm)) FROM task_instance"
            " WHERE dag_id = %s AND run_id = ANY(%s)", [dag, ids],
        ).fetchone()  # fmt: skip
        assert ends
        return float(ends[0])

    def idle(self, seconds: float) -> tuple[dict[str, float], dict[str, int]]:
        """Return the cores that each process takes, and how many rows Airflow's tables get an hour, while nothing happens."""
        self._quiet()
        before, rows = self._spent(), self._inserted()
        time.sleep(seconds)
        after, more = self._spent(), self._inserted()
        cores = {name: (after[name] - before[name]) / seconds for name in after}
        hour = {table: round((more[table] - rows.get(table, 0)) * 3600 / seconds) for table in more}
        return cores, {table: number for table, number in hour.items() if number}

    def _spent(self) -> dict[str, float]:
        found: Counter[str] = Counter()
        for name, entry in self._stack.state.load().items():
            top = psutil.Process(entry["pid"])
            for one in (top, *top.children(recursive=True)):
                times = one.cpu_times()
                found[name] += times.user + times.system + times.children_user + times.children_system
        return dict(found)

    def _inserted(self) -> dict[str, int]:
        self._database.execute("SELECT pg_stat_clear_snapshot()")
        return dict(self._database.execute("SELECT relname, n_tup_ins FROM pg_stat_user_tables").fetchall())


def middle(of: Sequence[float]) -> dict[str, float]:
    """The median, with the least and the greatest."""
    found = {"median": statistics.median(of), "least": min(of), "most": max(of)}
    return {name: round(value, 2) for name, value in found.items()}


def measured(share: Share, events: int, burst: int, flood: int, idle: float) -> dict[str, Any]:
    """Everything."""
    found = [share.event() for _ in range(events)]
    parts = {name: middle([one[name] for one in found if name in one]) for name in found[0]}
    runs = {}
    for number, times in ((1, events), (burst, 1)):
        pairs = [(share.runs(MERGE, number), share.runs(FLOOR, number)) for _ in range(times)]
        merges, floors = zip(*pairs, strict=True)
        ratio = round(statistics.median(one / other for one, other in pairs), 2)
        runs[str(number)] = {"account_merge": middle(merges), "connections_only": middle(floors), "ratio": ratio}
    together, rate = round(share.burst(burst), 1), round(share.flood(flood), 1)
    cores, rows = share.idle(idle)
    return {
        "event to completed, s": parts, "runs at once, s": runs, f"burst of {burst} events, s": together,
        f"flood of {flood} events, merges a second": rate,
        "idle, cores": {name: round(one, 3) for name, one in cores.items()}, "idle, rows an hour": rows,
    }  # fmt: skip


def page(kept: dict[str, Any]) -> str:
    """The results for people."""
    lines = []
    for name, found in kept.items():
        if isinstance(found, dict):
            told = "".join(f"| {key} | {_words(value)} |\n" for key, value in found.items())
            total = f"| all | {sum(found.values()):.2f} |\n" if name == "idle, cores" else ""
            lines.append(f"## {name[0].upper()}{name[1:]}\n\n| what | measured |\n| --- | --- |\n{told}{total}")
        elif name not in ("revision", "at"):
            lines.append(f"## {name[0].upper()}{name[1:]}\n\n{found}\n")
    return (
        f"# Airflow's share\n\nWritten by `make bench` at {kept['at']}, revision {kept['revision']}. What is measured: "
        "`benchmarks/airflow_share.py`.\nA figure is the median (least..most).\n\n" + "\n".join(lines)
    )


def _words(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    if "median" in value:
        return f"{value['median']} ({value['least']}..{value['most']})"
    return ", ".join(f"{name} {_words(one)}" for name, one in value.items())


def main(argv: list[str]) -> int:
    """Print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.airflow_share", description=__doc__)
    parser.add_argument("--events", type=int, default=9)
    parser.add_argument("--burst", type=int, default=50)
    parser.add_argument("--flood", type=int, default=5000)
    parser.add_argument("--idle", type=float, default=60, help="seconds")
    parser.add_argument(
        "--to", default="", help="folder that gets the results: airflow-share.json and airflow-share.md"
    )
    chosen = parser.parse_args(argv)
    profile = ExecutionProfile(request_timeout=120, row_factory=tuple_factory)
    with whole_stack() as stack:
        port = stack.ports()
        airflow = f"postgresql://postgres@127.0.0.1:{port['postgres']}/postgres"
        with (
            Cluster(
                ["127.0.0.1"], port=port["cassandra"], execution_profiles={EXEC_PROFILE_DEFAULT: profile}
            ) as cluster,
            psycopg.connect(airflow, autocommit=True) as database,
            Service(Settings.from_env(stack.describe())) as service,
        ):
            share = Share(stack, service, cluster.connect(), database)
            share.completed(share.publish(3))  # what the stack does once is not a merge's
            found = measured(share, chosen.events, chosen.burst, chosen.flood, chosen.idle)
    print(page({"revision": "of this folder", "at": "now", **found}))
    if chosen.to:
        keep(chosen.to, "airflow-share", found, page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
