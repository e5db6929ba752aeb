"""Accounts with very many rows: whether a merge's time grows as its rows do, what it takes of memory, and when its report opens.

usage: python -m benchmarks.large_merge [--sizes 10000,100000,1000000] [--to FOLDER]

Starts its own servers, Cassandra with the local stack's heap. For each size the floor (see `merge_speed`) is measured first; then
a process of its own, which has merged 20 rows before, merges the same accounts: its peak tells what the rows take. Then it reads
the report with its first 100 rows, the middle of five times. Rows are counted before a time counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.learners import LESSONS, Pair
from benchmarks.merge_speed import Bench, keep, opened, took

ROOT = Path(__file__).resolve().parents[1]
WORKER = """
import json, os, statistics, sys, time
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.settings import Settings

def peak():  # not `ru_maxrss`, which a process inherits from the one that started it
    with open("/proc/self/status") as told:
        return next(int(line.split()[1]) for line in told if line.startswith("VmHWM")) / 1024

def merge(source, target):
    begun = time.perf_counter()
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    answer = service.merging.run(merge_id, "bench", publish=False)
    assert answer["state"] == "completed", answer
    return merge_id, time.perf_counter() - begun

def first_page(merge_id):
    begun = time.perf_counter()
    service.reader.report(merge_id)
    rows, _ = service.reader.rows(merge_id, sys.argv[1])
    assert len(rows) == 100
    return time.perf_counter() - begun

with Service(Settings.from_env(os.environ)) as service:
    small, large = sys.argv[2:4], sys.argv[4:6]
    merge(*small)
    before = peak()
    merge_id, took = merge(*large)
    after = peak()
    opened = statistics.median(first_page(merge_id) for _ in range(5))
print(json.dumps({"merge": took, "peak before, MiB": before, "peak, MiB": after, "first page": opened}))
"""


def merged(small: Pair, large: Pair, environment: dict[str, str]) -> dict[str, float]:
    """What a process of its own tells of merging two accounts, after it has merged two small ones."""
    names = [LESSONS, small.source, small.target, large.source, large.target]
    done = subprocess.run(
        [sys.executable, "-c", WORKER, *names], capture_output=True, text=True, check=False,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT / "include")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(bench: Bench, size: int, environment: dict[str, str]) -> dict[str, float]:
    """Everything of one size."""
    (small,), (pair,) = bench.pairs(20, 1), bench.pairs(size, 1)
    floor = took(lambda: bench.floor(pair))
    found = merged(small, pair, environment)
    bench.check(pair, size + size // 2)
    return {"rows": size, "floor": floor, **found, "merge / floor": found["merge"] / floor}


def page(kept: dict[str, Any]) -> str:
    """The results for people."""
    results = kept["results"]
    lines = [
        f"| {one['rows']:,} | {one['floor']:.1f} | {one['merge']:.1f} | {one['merge / floor']:.2f} "
        f"| {one['merge'] / one['rows'] * 1e6:.0f} | {one['peak before, MiB']:.0f} | {one['peak, MiB']:.0f} "
        f"| {one['first page'] * 1000:.0f} |"
        for one in results
    ]
    table = "\n".join(lines)
    return f"""# Large merges

Written by `make bench` at {kept["at"]}, revision {kept["revision"]}. What is measured: `benchmarks/large_merge.py`. The peak is that of a
process that has merged 20 rows, and then these.

| rows | floor, s | merge, s | merge / floor | µs a row | peak of 20 rows, MiB | peak, MiB | report's first page, ms |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{table}
"""


def main(argv: list[str]) -> int:
    """Print the results of each size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_merge", description=__doc__)
    parser.add_argument("--sizes", default="10000,100000,1000000", help="rows of content consumption of each account")
    parser.add_argument("--to", default="", help="folder that gets the results: large-merge.json and large-merge.md")
    chosen = parser.parse_args(argv)
    results = []
    with opened() as given:
        bench = given.bench()
        for size in map(int, chosen.sizes.split(",")):
            results.append(measured(bench, size, given.environment))
            print({name: round(value, 3) for name, value in results[-1].items()}, flush=True)
    if chosen.to:
        keep(chosen.to, "large-merge", {"results": results}, page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
