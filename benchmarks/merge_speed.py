"""What a merge costs beside the plain reading and writing of the same rows, and beside the retired job's way.

usage: python -m benchmarks.merge_speed [--sizes 20,100,1000,10000] [--repetitions 5] [--most 2.0] [--to FOLDER]

Starts Kafka, Cassandra and PostgreSQL on free ports and ends them. Each repetition makes new accounts and does the three in
turn, so that a busy machine slows all of them; a ratio is the median of the repetitions' ratios, with the smallest and the
greatest. Merges log, verify and lease; their rows are counted before a time counts.

Floor: both accounts' rows of three tables read by pages, as many rows as the source has written in batches of one partition,
16 in flight. Old way: both read, matched in memory, one unprepared INSERT after another.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.query import SimpleStatement, tuple_factory

from account_merge.connection.batches import batched
from account_merge.model import MergeRequest
from account_merge.rules import rule_for
from account_merge.service import Service
from account_merge.settings import Settings
from benchmarks.learners import LESSONS, TABLES, USER, Keyspace, Pair
from local.config import DEFAULT_PORTS, Config
from local.stack import Stack
from tests.keyspaces import own_keyspaces

_CHUNK = 50_000  # rows that the floor holds
OLD_WAY_TO = 10_000  # rows: above it takes minutes and shows nothing new
#: Name of a measurement -> seconds of each repetition.
Times = dict[str, list[float]]


@contextmanager
def servers() -> Iterator[Stack]:
    """Servers of this run alone."""
    with tempfile.TemporaryDirectory(prefix="account-merge-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)  # PostgreSQL, which runs as another user than root, must be able to enter
        stack = Stack(Config(home, Config.from_env().cache, dict.fromkeys(DEFAULT_PORTS, 0), durable=True))
        try:
            stack.up(["kafka", "cassandra", "postgres"])
            yield stack
        finally:
            stack.clean()


class Opened(NamedTuple):
    """What a benchmark works with.

    :param session: gives rows as tuples.
    :param environment: leads another process to the same servers, keyspaces and journal.
    """

    service: Service
    session: Any
    environment: dict[str, str]
    stack: Stack

    def bench(self) -> Bench:
        """What measures merges, with what a process does once behind it."""
        made = Bench(self.service, self.session, self.environment["ACCOUNT_MERGE_COURSES_KEYSPACE"])
        made.warm_up()
        return made


@contextmanager
def opened() -> Iterator[Opened]:
    """The core on keyspaces of its own."""
    profile = ExecutionProfile(request_timeout=120, row_factory=tuple_factory)
    with servers() as stack, Cluster(
        ["127.0.0.1"], port=stack.ports()["cassandra"], execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # as the service has it: else the floor waits for Nagle
    ) as cluster:  # fmt: skip
        session = cluster.connect()
        with own_keyspaces(stack, session) as own, Service(Settings.from_env(own)) as service:
            service.journal.create()
            yield Opened(service, session, own, stack)


class Bench:
    """Measures merges of one size after another.

    :param session: gives rows as tuples.
    """

    def __init__(self, service: Service, session: Any, keyspace: str) -> None:
        self._service, self._session = service, session
        self._tables = Keyspace(session, keyspace)

    def pairs(self, size: int, number: int) -> list[Pair]:
        """So many new pairs of accounts."""
        return [self._tables.pair(size) for _ in range(number)]

    def warm_up(self) -> None:
        """What a process does once (statements prepared, code compiled) is not a merge's."""
        for _ in range(5):
            self.merge(self._tables.pair(20))

    def repetition(self, size: int) -> dict[str, float]:
        """Return the seconds of everything, once."""
        pair = self._tables.pair(size)
        found = {"floor": took(lambda: self.floor(pair)), "preview": took(lambda: self.preview(pair))}
        merged: list[Any] = []
        found["merge"] = took(lambda: merged.append(self.merge(pair)))
        self.check(pair, size + size // 2)
        found["undo"] = took(lambda: self._service.undoing.run(merged[0], publish=False))
        self.check(pair, size)
        if size <= OLD_WAY_TO:
            other = self._tables.pair(size)
            found["old way"] = took(lambda: self.old_way(other))
        return found

    def floor(self, pair: Pair) -> None:
        """Read both, write as many rows as the source has to a third account."""
        for table in TABLES:
            names, source = self._tables.read(table, pair.source, pair.courses())
            for held in batched(source, _CHUNK):  # read and written in turn: memory would slow it down
                self._tables.write(table, names, held, f"floor-{pair.source}")
            for _ in self._tables.read(table, pair.target, pair.courses())[1]:
                pass

    def preview(self, pair: Pair) -> None:
        """Tell what a merge would do."""
        self._service.previews.preview(MergeRequest((pair.source,), pair.target)).to_dict()

    def merge(self, pair: Pair) -> Any:
        """Merge, and return the merge's id."""
        merge_id = self._service.opening.open_merge(MergeRequest((pair.source,), pair.target))
        answer = self._service.merging.run(merge_id, "run", publish=False)
        assert answer["state"] == "completed", answer
        return merge_id

    def old_way(self, pair: Pair) -> None:
        """What the retired job's requests were: all read, one INSERT after another."""
        for table in TABLES:
            names, source = self._tables.read(table, pair.source, pair.courses())
            place = [names.index(name) for name in rule_for(table).key]
            held = {
                tuple(row[n] for n in place): row for row in self._tables.read(table, pair.target, pair.courses())[1]
            }
            insert = f"INSERT INTO {self._tables.name}.{table} ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))})"
            user = names.index(USER[table])
            for row in source:
                there = held.get(tuple(row[n] for n in place), row)
                values = [other if value is None else value for value, other in zip(row, there, strict=True)]
                values[user] = pair.target
                self._session.execute(SimpleStatement(insert), values)

    def check(self, pair: Pair, rows: int) -> None:
        """Fail when the target has another number of lessons."""
        count = f"SELECT count(*) FROM {self._tables.name}.{LESSONS} WHERE userid = %s"
        (found,) = self._session.execute(count, [pair.target], timeout=120)
        assert found == (rows,), (found, rows)


def took(do: Callable[[], object]) -> float:
    """How long something takes."""
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun


def against(times: Times, one: str, other: str) -> dict[str, float]:
    """The ratio of two measurements of the same repetitions."""
    found = [a / b for a, b in zip(times[one], times[other], strict=True)]
    return {"median": round(statistics.median(found), 2), "least": round(min(found), 2), "most": round(max(found), 2)}


def summary(size: int, times: Times) -> dict[str, Any]:
    """What is kept of a size."""
    ratios = {"merge / floor": against(times, "merge", "floor")}
    ratios |= {
        f"{name} / merge": against(times, name, "merge") for name in ("preview", "undo", "old way") if name in times
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    medians = {name: round(statistics.median(found), 4) for name, found in times.items()}
    return {"rows": size, "seconds": medians, "ratios": ratios, "peak MiB": peak}


def line(found: dict[str, Any]) -> str:
    """A line of the table."""
    ratios = "".join(f"  {name} {r['median']:5.2f} ({r['least']}..{r['most']})" for name, r in found["ratios"].items())
    seconds = found["seconds"]
    return f"{found['rows']:>9} rows  floor {seconds['floor']:8.3f} s  merge {seconds['merge']:8.3f} s{ratios}  {found['peak MiB']} MiB"


def page(kept: dict[str, Any]) -> str:
    """The results for people: a table and a chart."""
    results = kept["results"]
    names = list(dict.fromkeys(name for one in results for name in one["ratios"]))
    head = ["rows", "floor, s", "merge, s", *names, "peak, MiB"]
    lines = [head, ["---:"] * len(head)]
    for one in results:
        told = (
            f"{r['median']} ({r['least']}..{r['most']})" if (r := one["ratios"].get(name)) else "" for name in names
        )
        seconds = (f"{one['seconds'][name]:.3f}" for name in ("floor", "merge"))
        lines.append([f"{one['rows']:,}", *seconds, *told, str(one["peak MiB"])])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    rows = ", ".join(f'"{one["rows"]:,}"' for one in results)
    medians = ", ".join(str(one["ratios"]["merge / floor"]["median"]) for one in results)
    return f"""# Merge speed

Written by `make bench` at {kept["at"]}, revision {kept["revision"]}. What is measured: `benchmarks/merge_speed.py`. A ratio is
the median of the repetitions (least..most). The peak is that of the whole process, with the rows that the floor holds.

{table}

```mermaid
xychart-beta
    title "merge / floor by rows of each account"
    x-axis [{rows}]
    y-axis "times the floor"
    bar [{medians}]
```
"""


def keep(folder: str, name: str, found: dict[str, Any], page: Callable[[dict[str, Any]], str]) -> None:
    """Write what was found, with the code's revision, as JSON and as a page for people."""
    told = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    revision = told.stdout.strip() or "unknown"
    kept = {"revision": revision, "at": datetime.now(UTC).isoformat(timespec="seconds"), **found}
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    (place / f"{name}.md").write_text(page(kept))


def main(argv: list[str]) -> int:
    """Return 1 when a floor ratio from 1,000 rows on is above what was asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.merge_speed", description=__doc__)
    parser.add_argument("--sizes", default="20,100,1000,10000", help="rows of content consumption of each account")
    parser.add_argument("--repetitions", type=int, default=5, help="of each size; above 10,000 rows a third of it")
    parser.add_argument(
        "--most", type=float, default=None, help="fail when a floor ratio from 1,000 rows on is above it"
    )
    parser.add_argument(
        "--to", default="", help="folder that gets the results: merge-speed.json, and merge-speed.md with a chart"
    )
    chosen = parser.parse_args(argv)
    results = []
    with opened() as given:
        bench = given.bench()
        for size in map(int, chosen.sizes.split(",")):
            times: Times = {}
            for _ in range(chosen.repetitions if size <= 10_000 else max(1, chosen.repetitions // 3)):
                for name, seconds in bench.repetition(size).items():
                    times.setdefault(name, []).append(seconds)
            results.append(summary(size, times))
            print(line(results[-1]), flush=True)
    if chosen.to:
        keep(chosen.to, "merge-speed", {"results": results}, page)
    over = [
        r["rows"]
        for r in results
        if r["rows"] >= 1000 and r["ratios"]["merge / floor"]["median"] > (chosen.most or 1e9)
    ]
    if over:
        print(f"floor ratio above {chosen.most} at {over} rows", file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
