"""Faults at random moments: SIGKILL, SIGSTOP and SIGCONT, restart, for every kind of process of the stack."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from local import processes
from local.processes import alive, session_members, started_at, still_runs
from local.stack import ALL
from tests.torture.keeper import Keeper
from tests.torture.world import AWAY, World

KINDS = ("kill", "stop", "restart")
#: How often each (process, kind) is chosen. Tasks are many and cheap, a Cassandra costs a quarter of a minute.
WEIGHTS: dict[tuple[str, str], float] = {
    ("task", "kill"): 24, ("task", "stop"): 14, ("task", "restart"): 4,
    ("scheduler", "kill"): 4, ("scheduler", "stop"): 5, ("scheduler", "restart"): 2,
    ("dag-processor", "kill"): 4, ("dag-processor", "stop"): 4, ("dag-processor", "restart"): 2,
    ("triggerer", "kill"): 3, ("triggerer", "stop"): 3, ("triggerer", "restart"): 2,
    ("api-server", "kill"): 2, ("api-server", "stop"): 3, ("api-server", "restart"): 2,
    ("kafka", "kill"): 4, ("kafka", "stop"): 5, ("kafka", "restart"): 2,
    ("cassandra", "kill"): 4, ("cassandra", "stop"): 6, ("cassandra", "restart"): 2,
    ("postgres", "kill"): 3, ("postgres", "stop"): 4, ("postgres", "restart"): 2,
}  # fmt: skip
UNREADY = 0.05  # of the choices of a server while not all are up; choices are many until one hits
TASK_PATIENCE = 5.0  # s that a fault waits for a task to hit
MERGE_DAG = "account_merge"


class Faults:
    """Does one fault after another; what it could not hit does not count.

    :ivar counts: (process, kind): faults that hit.
    """

    def __init__(self, seed: int, keeper: Keeper, world: World) -> None:
        self._dice, self._keeper, self._world = random.Random(f"{seed}-faults"), keeper, world
        self.counts: Counter[tuple[str, str]] = Counter()
        self._threads: list[threading.Thread] = []
        self._first = sorted(["task", *ALL], key=lambda _: self._dice.random())

    def one(self) -> str:
        """Do the next fault; answers it in words once it has begun."""
        while True:
            process, kind = self._choose()
            done = self._task(kind) if process == "task" else self._server(process, kind)
            if done:
                self.counts[process, kind] += 1
                return done

    def pause(self, mean: float) -> None:
        """Let a moment pass: most often a short one."""
        time.sleep(min(self._dice.expovariate(1 / mean), 4 * mean))

    def join(self) -> None:
        """Wait until what was stopped goes on and what was asked to end has ended."""
        for thread in self._threads:
            thread.join(90)

    def _choose(self) -> tuple[str, str]:
        """Every process once before any comes twice, then by weight."""
        if self._first:
            process = self._first.pop()
            return process, self._dice.choice(KINDS[:2] if process == "task" else KINDS)
        return self._dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]

    def _later(self, work: Callable[[], None]) -> None:
        self._threads = [t for t in self._threads if t.is_alive()]
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    # --- the stack's own processes --------------------------------------------------------------------------------------
    def _server(self, name: str, kind: str) -> str:
        entry = self._keeper.entry(name)
        # Most often all is up, so that there is work to hit; now and then one is hit while it, or another, still starts.
        if not alive(entry) or not (self._keeper.all_ready() or self._dice.random() < UNREADY):
            return ""
        pause = self._dice.uniform(0, 3)
        if kind == "stop":
            seconds = self._dice.uniform(0.2, 8)
            whole = self._dice.random() < 0.5
            self._later(lambda: self._stand_still(name, entry, seconds, whole))
            return f"{name} {entry['pid']} stopped for {seconds:.1f} s"
        self._keeper.expect_end(name, pause)
        if kind == "restart":
            self._later(lambda: processes.stop({name: entry}) and None)
            return f"{name} {entry['pid']} restarted"
        whole = self._dice.random() < 0.5
        _signal({pid: started_at(pid) for pid in _members(entry["pid"], whole)}, signal.SIGKILL)
        return f"{name} {entry['pid']} killed{' with all it had started' if whole else ''}, back after {pause:.1f} s"

    def _stand_still(self, name: str, entry: processes.Entry, seconds: float, whole: bool) -> None:
        starts = {pid: started_at(pid) for pid in _members(entry["pid"], whole)}
        with self._keeper.standing_still(name):
            _signal(starts, signal.SIGSTOP)
            time.sleep(seconds)
            _signal(starts, signal.SIGCONT)

    # --- tasks ----------------------------------------------------------------------------------------------------------
    def _task(self, kind: str) -> str:
        if kind == "restart":
            return self._clear_a_task()
        delay = self._dice.uniform(0, 1.5)
        seconds = self._dice.uniform(0.2, 8)
        supervisor = self._dice.random() < 0.2
        end = time.monotonic() + TASK_PATIENCE
        while time.monotonic() < end:
            found = list(tasks(self._keeper.entry("scheduler")["pid"]))
            if not found:
                time.sleep(0.05)
                continue
            worker, pid = self._dice.choice(found)
            start = started_at(pid)
            time.sleep(delay)
            hit = {worker: started_at(worker)} if supervisor and kind == "kill" else {pid: start}
            if not still_runs(pid, start):
                continue  # it has ended by itself
            if kind == "kill":
                _signal(hit, signal.SIGKILL)
                return f"task {'worker ' if supervisor else ''}{next(iter(hit))} killed"
            self._later(partial(self._task_stands_still, hit, seconds))
            return f"task {pid} stopped for {seconds:.1f} s"
        return ""

    @staticmethod
    def _task_stands_still(hit: dict[int, float | None], seconds: float) -> None:
        _signal(hit, signal.SIGSTOP)
        time.sleep(seconds)
        _signal(hit, signal.SIGCONT)

    def _clear_a_task(self) -> str:
        """Clear a task of any merge's run, as a person may at any time: Airflow ends it and runs it again."""
        try:
            runs = self._world.airflow(
                lambda a: a.get(f"dags/{MERGE_DAG}/dagRuns", order_by="-run_after", limit=8), seconds=3
            )["dag_runs"]
            if not runs:
                return ""
            run = self._dice.choice(runs)["dag_run_id"]
            states = self._world.airflow(lambda a: a.states(MERGE_DAG, run), seconds=3)
            begun = sorted(task for task, state in states.items() if state in ("running", "success"))
            if not begun:
                return ""
            task = self._dice.choice(begun)
            self._world.airflow(lambda a: a.clear(MERGE_DAG, run, task), seconds=3)
        except (RuntimeError, *AWAY):
            return ""
        return f"task {task} of {run} cleared"


def _signal(pids: dict[int, float | None], what: signal.Signals) -> None:
    """Signal those that are still the processes that were chosen."""
    for pid, start in pids.items():
        if still_runs(pid, start):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, what)


def _members(pid: int, whole: bool) -> list[int]:
    """The process, and with `whole` all that it has started (PostgreSQL's children open sessions of their own)."""
    return [pid, *({*session_members(pid), *_children(pid)} - {pid})] if whole else [pid]


def _children(pid: int) -> list[int]:
    found = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [child for child in found if _parent(child) == pid]


def tasks(scheduler: int) -> Iterator[tuple[int, int]]:
    """(worker, task process) of each task under way; also of workers whose scheduler is gone."""
    members = set(session_members(scheduler))
    parents = {pid: parent for pid in members if (parent := _parent(pid)) is not None}
    workers = {pid for pid in members if _title(pid).startswith("airflow worker -- LocalExecutor")}
    yield from ((parent, pid) for pid, parent in sorted(parents.items()) if parent in workers)


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
