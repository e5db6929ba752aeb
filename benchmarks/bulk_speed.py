"""How many small merges a second: one after another, many at a time as a bulk run does them, and the retired job's way.

usage: python -m benchmarks.bulk_speed [--merges 200] [--at-once 8] [--processes 2] [--to FOLDER]

Starts its own servers. Each way gets accounts of its own with 20 rows of content consumption each (see `merge_speed`); the old
way's requests are sequential; the floor reads and writes their rows and does nothing else. A rate is merges per second; what
Airflow adds (a process for each batch) is not in it. Beside it stands the processor time that a merge takes of this side and
of each server: all of them share the machine's cores, so their sum bounds every rate.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from account_merge.model import MergeRequest
from account_merge.service import Service
from benchmarks.learners import Pair
from benchmarks.merge_speed import keep, opened

ROWS = 20
ROOT = Path(__file__).resolve().parents[1]
BATCH = """
import os, sys, uuid
from account_merge.intake.bulk import Effort
from account_merge.service import Service
from account_merge.settings import Settings
at_once, *ids = sys.argv[1:]
with Service(Settings.from_env(os.environ)) as service:
    service.journal.survivor("nobody"), service.tables
    print("ready", flush=True)
    sys.stdin.readline()
    answer = service.bulk.merge(map(uuid.UUID, ids), "bench", Effort(at_once=int(at_once)), lambda *_: None)
    assert answer["completed"] == len(ids), answer
"""


@dataclass(frozen=True)
class Found:
    """What was measured of one way.

    :param rate: merges per second.
    :param spent: ms of processor time a merge, by who spent it.
    """

    rate: float
    spent: dict[str, float]


class Measured:
    """Measures many merges: how long they take, and the processor time of this process, those that it started, and the servers.

    :param pids: name -> process of each server.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._servers = {name: psutil.Process(pid) for name, pid in pids.items()}

    def _spent(self) -> dict[str, float]:
        trees = {name: [one, *one.children(recursive=True)] for name, one in self._servers.items()}
        theirs, me = {one.pid for tree in trees.values() for one in tree}, psutil.Process()
        trees["client"] = [one for one in (me, *me.children(recursive=True)) if one.pid not in theirs]
        return {name: sum(map(_seconds, tree)) for name, tree in trees.items()}

    def of(self, number: int, do: Callable[[], object]) -> Found:
        """Do so many merges."""
        before, begun = self._spent(), time.perf_counter()
        do()
        seconds, after = time.perf_counter() - begun, self._spent()
        return Found(number / seconds, {name: (after[name] - before[name]) / number * 1000 for name in after})


def _seconds(process: psutil.Process) -> float:
    """Processor time of a process and of its children that have ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def requested(service: Service, pairs: list[Pair]) -> list[uuid.UUID]:
    """Merges that a bulk run has taken."""
    for pair in pairs:
        service.opening.open_merge(MergeRequest((pair.source,), pair.target))
    return service.bulk.take("bench", len(pairs))


def side_by_side(
    ids: list[uuid.UUID], processes: int, at_once: int, environment: dict[str, str], measured: Measured
) -> Found:
    """Merges done by that many processes, each with its share; their start does not count."""
    path = {"PYTHONPATH": str(ROOT / "include")}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", BATCH, str(at_once), *map(str, ids[n::processes])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment, **path},
        ) for n in range(processes)
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"

    def work() -> None:
        for worker in workers:
            assert worker.stdin
            worker.stdin.write("\n")
            worker.stdin.flush()
        assert [worker.wait() for worker in workers] == [0] * processes

    return measured.of(len(ids), work)


def page(kept: dict[str, Any]) -> str:
    """The results for people."""
    old = kept["results"]["old way"]["merges a second"]
    lines = [
        f"| {name} | {one['merges a second']:.1f} | {one['merges a second'] / old:.2f} | "
        + " | ".join(f"{ms:.0f}" for ms in one["ms of a core"].values())
        + f" | {sum(one['ms of a core'].values()):.0f} |"
        for name, one in kept["results"].items()
    ]
    who = list(kept["results"]["old way"]["ms of a core"])
    table = "\n".join(lines)
    return f"""# Many small merges

Written by `make bench` at {kept["at"]}, revision {kept["revision"]}: {kept["merges"]} merges of 20 rows each way, on a machine of
{kept["cores"]} cores that the servers share. What is measured: `benchmarks/bulk_speed.py`.

| way | merges a second | of the old way's | {" | ".join(f"{one}, ms of a core" for one in who)} | all |
| --- | ---: | ---: | {" | ".join("---:" for _ in who)} | ---: |
{table}
"""


def main(argv: list[str]) -> int:
    """Print the rates, and each as a multiple of the old way's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk_speed", description=__doc__)
    parser.add_argument("--merges", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--to", default="", help="folder that gets the results: bulk-speed.json and bulk-speed.md")
    chosen = parser.parse_args(argv)
    number = chosen.merges
    with opened() as given:
        kept = given.stack.state.load()
        measured = Measured({name: kept[name]["pid"] for name in ("cassandra", "postgres")})
        bench = given.bench()
        found = {}
        for name, do in (("old way", bench.old_way), ("floor", bench.floor), ("one by one", bench.merge)):
            pairs = bench.pairs(ROWS, number)
            found[name] = measured.of(number, lambda do=do, pairs=pairs: [do(pair) for pair in pairs])  # type: ignore[misc]
        for processes in sorted({1, chosen.processes}):
            ids = requested(given.service, bench.pairs(ROWS, number))
            found[f"bulk, {processes} x {chosen.at_once}"] = side_by_side(
                ids, processes, chosen.at_once, given.environment, measured
            )
    old = found["old way"].rate
    for name, one in found.items():
        spent = ", ".join(f"{who} {ms:.0f}" for who, ms in one.spent.items())
        print(f"{name:14} {one.rate:6.1f} merges/s  {one.rate / old:5.2f} of the old way's rate  ms of a core: {spent}")
    if chosen.to:
        kept = {name: {"merges a second": one.rate, "ms of a core": one.spent} for name, one in found.items()}
        keep(chosen.to, "bulk-speed", {"merges": number, "cores": psutil.cpu_count(), "results": kept}, page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
