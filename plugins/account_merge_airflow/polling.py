"""The tasks of the poll: each is one call of the core, and a failure makes the next poll's look wait."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from account_merge.errors import MergeError
from account_merge_airflow.bulk import left_to_bulk
from account_merge_airflow.connections import open_service
from account_merge_airflow.runs import life_of, start_run

if TYPE_CHECKING:
    from airflow.sdk import Context

    from account_merge.service import Service

log = logging.getLogger(__name__)


@contextmanager
def polling() -> Iterator[Service]:
    """Open the service for one task of the poll; what the task raises makes the next look wait."""
    with open_service() as service:
        try:
            yield service
        except Exception:
            with suppress(MergeError):  # the journal does not answer: then no look finds work either
                service.inbox.pace.failed()
            raise


def start_chosen(context: Context) -> dict[str, int]:
    """Choose the merges that can start, and trigger a run for each; one that cannot be triggered stops no other.

    Very many are left to a bulk run; then only those go on here whose run is orphaned.

    A merge whose run was not triggered is found orphaned by a later poll.

    :raises Exception: of the first run that could not be triggered, when all others are.
    """
    counts = {"started": 0, "there": 0, "failed": 0}
    problem: Exception | None = None
    with polling() as service:
        begin = not left_to_bulk(context, service)
        for run in service.inbox.next_runs(lambda run_id: life_of(context, run_id), begin=begin):
            counts["failed"] += 1
            try:
                done = start_run(run)
            except Exception as error:  # noqa: BLE001 - whatever Airflow answers for one run, the others are tried
                log.warning("Run %s was not triggered: %s", run["trigger_run_id"], error)
                problem = problem or error
                continue
            counts["failed"] -= 1
            counts["started" if done else "there"] += 1
        if problem is not None:
            raise problem
    return counts
