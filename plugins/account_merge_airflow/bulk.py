"""The tasks of `account_merge_bulk`: cut merges into batches, follow a batch in its log, hold its error budget."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from account_merge.errors import NeedsAttention
from account_merge.states import BULK_DAG, BULK_RUN, LOST
from account_merge_airflow.runs import life_of, trigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from account_merge.intake.bulk import BulkAnswer, Effort
    from account_merge.service import Service

log = logging.getLogger(__name__)

_LINE = 5.0  # s between two lines of progress in a task's log


def batches(merge_ids: Sequence[uuid.UUID], size: int) -> list[list[str]]:
    """Return the ids as texts, in batches of this size at most: two, where there are few, since two are done side by side."""
    size = min(size, max(1, -(-len(merge_ids) // 2)))
    return [[str(one) for one in merge_ids[at : at + size]] for at in range(0, len(merge_ids), size)]


def effort_of(params: Mapping[str, Any]) -> Effort:
    """Return how the batches of a run are done."""
    from account_merge.intake.bulk import Effort

    return Effort(at_once=params["at_once"], most_failed=params["most_failed"])


class Follow:
    """Writes how far a batch is, and when it will be done, to the task's log every few seconds."""

    def __init__(self) -> None:
        self._begun = self._told = time.monotonic()

    def __call__(self, done: int, failed: int, of: int) -> None:
        """Take in how many merges have ended."""
        moment = time.monotonic()
        if moment - self._told < _LINE and done < of:
            return
        self._told = moment
        rate = done / max(moment - self._begun, 0.001)
        log.info("%d of %d merges (%d failed), %.1f a second; done in about %.0f s.", done, of, failed, rate,
                 (of - done) / rate if rate else 0)  # fmt: skip


def within_budget(answer: BulkAnswer) -> dict[str, int]:
    """Return what became of a batch.

    :raises NeedsAttention: it was stopped because too many of its merges failed.
    """
    counts = {name: answer[name] for name in ("completed", "waiting", "failed", "left")}
    log.info("The batch ended: %s.", ", ".join(f"{number} {name}" for name, number in counts.items()))
    if answer["stopped"]:
        raise NeedsAttention(
            "ERROR_BUDGET",
            f"{counts['failed']} merges of this batch failed, more than its error budget: {counts['left']} were not begun",
            "Look at the failed merges for their common cause. The poll starts the others again; `pause` keeps it from that.",
        )
    return counts


def added_up(counts: Iterable[Mapping[str, int] | None]) -> dict[str, int]:
    """Return the sums over the batches that ended."""
    total = Counter[str]()
    for one in counts:
        total.update(one or {})
    log.info("The run ended: %s.", ", ".join(f"{number} {name}" for name, number in total.items()) or "nothing to do")
    return dict(total)


def left_to_bulk(context: Context, service: Service) -> bool:
    """Whether so many merges are requested that a bulk run does them: the poll's last one, or one that is triggered now.

    A bulk run that lost its tasks, or waits behind another one for too long, holds nothing up.
    """
    most = service.settings.bulk_from
    if not most or not service.inbox.many_wait(most):
        return False
    last = service.inbox.bulk_run.get()
    life = life_of(context, BULK_RUN + last["run_id"]) if last else None
    if life == "queued":
        return bool(time.time() - last["at"] < service.settings.stalled_after_seconds)
    if life is not None:
        return life != LOST
    run_id = f"poll__{context['run_id']}"
    service.inbox.bulk_run.put({"run_id": run_id, "at": time.time()})
    trigger(BULK_DAG, run_id, f"{most} merges or more are requested", {})
    return True
