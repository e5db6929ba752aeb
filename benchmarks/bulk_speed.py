"""How many small merges a second: one after another, many at a time as a bulk run does them, and the retired job's way.

usage: python -m benchmarks.bulk_speed [--merges 200] [--at-once 8] [--processes 2]

Starts its own servers. Each way gets accounts of its own with 20 rows of content consumption each (see `merge_speed`); the old
way's requests are sequential. A rate is merges per second; what Airflow adds (a process for each batch) is not in it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from account_merge.model import MergeRequest
from account_merge.service import Service
from benchmarks.learners import Pair
from benchmarks.merge_speed import Bench, opened

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


def rate(number: int, do: Callable[[], object]) -> float:
    """Merges per second."""
    begun = time.perf_counter()
    do()
    return number / (time.perf_counter() - begun)


def requested(service: Service, pairs: list[Pair]) -> list[uuid.UUID]:
    """Merges that a bulk run has taken."""
    for pair in pairs:
        service.opening.open_merge(MergeRequest((pair.source,), pair.target))
    return service.bulk.take("bench", len(pairs))


def side_by_side(ids: list[uuid.UUID], processes: int, at_once: int, environment: dict[str, str]) -> float:
    """The rate of that many processes, each with its share; their start does not count."""
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

    return rate(len(ids), work)


def main(argv: list[str]) -> int:
    """Print the rates, and each as a multiple of the old way's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk_speed", description=__doc__)
    parser.add_argument("--merges", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args(argv)
    number = chosen.merges
    with opened() as (service, session, own):
        bench = Bench(service, session, own["ACCOUNT_MERGE_COURSES_KEYSPACE"])
        bench.warm_up()
        found = {}
        for name, do in (("old way", bench.old_way), ("one by one", bench.merge)):
            pairs = bench.pairs(ROWS, number)
            found[name] = rate(number, lambda do=do, pairs=pairs: [do(pair) for pair in pairs])  # type: ignore[misc]
        for processes in sorted({1, chosen.processes}):
            ids = requested(service, bench.pairs(ROWS, number))
            found[f"bulk, {processes} x {chosen.at_once}"] = side_by_side(ids, processes, chosen.at_once, own)
        for name, one in found.items():
            print(f"{name:14} {one:6.1f} merges/s  {one / found['old way']:5.2f} of the old way's rate", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
