"""Many merges in one run: those that can start are taken for it, and done several at a time in one process.

A run a merge costs Airflow seconds; here a merge costs what its requests cost. Each merge keeps its identity: its leases,
log, report, failure and failed event are those of any other merge.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypedDict

from account_merge.errors import InvalidRequest, MergeError, TransientError
from account_merge.intake.inbox import Inbox
from account_merge.journal import Journal
from account_merge.journal.queue import Queue
from account_merge.lifecycle.merging import Merging
from account_merge.states import BULK_RUN, CLOSED, State

log = logging.getLogger(__name__)

_PAUSE = 2.0  # s until a merge is tried again whose server is away
#: (done, failed, all) of a batch, each time that a merge has ended.
Told = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Effort:
    """How a batch is done.

    :param at_once: merges side by side; each needs a connection to the journal, of which a process has 16.
    :param most_failed: so many merges may fail; one more stops the batch.
    :param patience: s for which merges are tried again when a server is away.
    """

    at_once: int = 8
    most_failed: int = 20
    patience: float = 300.0


@dataclass(frozen=True)
class Progress:
    """How far a bulk run is.

    :param run_id: Airflow's id.
    :param done: merges that have ended, whatever became of them, of those that were taken.
    :param seconds: since they were taken.
    """

    run_id: str
    done: int
    taken: int
    seconds: float

    @property
    def left(self) -> float | None:
        """How long it will take yet, in seconds, at the rate of all until now; None before the first has ended."""
        return self.seconds / self.done * (self.taken - self.done) if self.done else None


class BulkAnswer(TypedDict):
    """What became of the merges of a batch.

    :param waiting: another merge has an account, or a switch is on: the poll starts them when they can go on.
    :param failed: the journal says why; the poll publishes their failed events.
    :param left: not done here: the batch or all merging was stopped, a server stayed away, or another run has them.
    """

    completed: int
    waiting: int
    failed: int
    left: int
    stopped: bool


class BulkMerges:
    """Takes merges for a run, and does them."""

    def __init__(self, journal: Journal, inbox: Inbox, merging: Merging) -> None:
        self._queue, self._inbox, self._merging = Queue(journal), inbox, merging

    def take(self, run_id: str, at_most: int) -> list[uuid.UUID]:
        """Move merges that can start to started for this run, oldest first; return all that it has to do.

        A repetition returns those that it has already, and takes no others beside them. Merges that nobody has begun when
        the run has ended are requested again by the poll; one that was begun gets a run of its own.

        :param run_id: Airflow's id of the run.
        """
        name = BULK_RUN + run_id
        mine = self._queue.of_run(name, at_most)
        if not mine:
            self._inbox.take(name, at_most)
            mine = self._queue.of_run(name, at_most)
            moment = time.time()
            self._inbox.bulk_run.put({"run_id": run_id, "at": moment, "begun": moment, "taken": len(mine)})
        return [merge.merge_id for merge in mine]

    def progress(self) -> Progress | None:
        """Return how far the newest bulk run is; None when no merge of it is to be done."""
        run = self._inbox.bulk_run.get()
        left = self._queue.number_of_run(BULK_RUN + run["run_id"]) if run.get("taken") else 0
        done = run["taken"] - left if left else 0
        return Progress(run["run_id"], done, run["taken"], time.time() - run["begun"]) if left else None

    def merge(self, merge_ids: Iterable[uuid.UUID], run_id: str, effort: Effort, told: Told) -> BulkAnswer:
        """Do these merges; return what became of them. May be repeated: what is completed is left as it is.

        A failed merge stops no other one, until too many have failed. A merge that meets a server that is away is tried
        again. When this is interrupted, each merge that is under way is ended first.
        """
        batch = _Batch(merge_ids, effort, told)
        with ThreadPoolExecutor(effort.at_once, thread_name_prefix="merge") as pool:
            try:
                works = [pool.submit(copy_context().run, self._work, batch, run_id) for _ in range(effort.at_once)]
                for work in works:
                    work.result()
            finally:
                batch.stop()
        return batch.answer()

    def _work(self, batch: _Batch, run_id: str) -> None:
        while (merge_id := batch.next()) is not None:
            outcome = self._outcome(merge_id, BULK_RUN + run_id)
            batch.ended(merge_id, outcome)
            if outcome == "waiting" and self._inbox.halted():
                batch.stop()  # the others would be paused one by one, and go on one by one

    def _outcome(self, merge_id: uuid.UUID, run_id: str) -> str:
        try:
            answer = self._merging.steps(merge_id, run_id)
        except TransientError as error:
            log.warning("Merge %s: %s", merge_id, error)
            return "away"
        except MergeError as error:
            log.warning("Merge %s: %s", merge_id, error)
            return "left" if isinstance(error, InvalidRequest) and error.code == "RUN_REPLACED" else "failed"
        except Exception:  # the merge keeps its state, and the poll gives it a run of its own
            log.exception("Merge %s met an error that nobody foresaw.", merge_id)
            return "failed"
        state = answer["state"]
        return "completed" if state == State.COMPLETED else "left" if state in CLOSED else "waiting"


class _Batch:
    """Merges that several threads take one by one, and what became of them."""

    def __init__(self, merge_ids: Iterable[uuid.UUID], effort: Effort, told: Told) -> None:
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._todo = deque(merge_ids)
        self._all, self._effort, self._told = len(self._todo), effort, told
        self._counts: Counter[str] = Counter()
        self._until = time.monotonic() + effort.patience

    def next(self) -> uuid.UUID | None:
        """Return a merge that is to be done; None when there is none, or the batch is stopped."""
        with self._lock:
            return None if self._stopped.is_set() or not self._todo else self._todo.popleft()

    def ended(self, merge_id: uuid.UUID, outcome: str) -> None:
        """Take in what became of a merge: `away` lets it come again, after the others and a pause."""
        away = outcome == "away"
        with self._lock:
            if away and time.monotonic() < self._until:
                self._todo.append(merge_id)
            else:
                self._counts["left" if away else outcome] += 1
            if self._counts["failed"] > self._effort.most_failed:
                self._stopped.set()
            done, failed = sum(self._counts.values()), self._counts["failed"]
        if away:
            self._stopped.wait(_PAUSE)
        else:
            self._told(done, failed, self._all)

    def stop(self) -> None:
        """Let no merge begin any more."""
        self._stopped.set()

    def answer(self) -> BulkAnswer:
        """Return what became of all."""
        counts = self._counts
        done = counts["completed"], counts["waiting"], counts["failed"]
        stopped = counts["failed"] > self._effort.most_failed
        return {
            "completed": done[0],
            "waiting": done[1],
            "failed": done[2],
            "left": self._all - sum(done),
            "stopped": stopped,
        }
