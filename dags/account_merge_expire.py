"""# Account merge: expire

**Redacts the learners' images in the journal after the retention period.** Runs by itself, every night.

A merge keeps what it found and wrote, row by row, so that it can be explained and undone. `ACCOUNT_MERGE_RETENTION_DAYS`
after its end these images go, with the raw event and free texts. Ids, state, dates and counts stay. Under hashed keys the
journal keeps what each source row handed on, so that a repeated event still counts nothing twice.

**Guarantees.** An undo within `ACCOUNT_MERGE_UNDO_DAYS` finds all that it needs, also of older merges into the same account.
It can be killed and repeated at any point. A redacted merge can never be undone or redone again.

It has no params: `{}` is its whole conf. One run redacts for some minutes; the next night's run goes on. To count by hand
first: `python -m account_merge expire --dry-run`. To erase one person at once: the DAG `account_merge_erase`.

**When it fails:** nothing is lost, the next run goes on. Cassandra or PostgreSQL was away, or the journal is older than this
program. For the latter run `python -m account_merge create-journal`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task

from account_merge_airflow.connections import open_service
from account_merge_airflow.policies import TASK_ARGS


@dag(
    schedule=os.environ.get("ACCOUNT_MERGE_EXPIRE_SCHEDULE") or "17 2 * * *",
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    is_paused_upon_creation=False,
    default_args=TASK_ARGS,
    doc_md=__doc__,
    tags=["account-merge"],
)
def account_merge_expire() -> None:
    @task(task_display_name="Expire what is due", execution_timeout=timedelta(minutes=20))
    def expire_merges() -> dict[str, int]:
        """Redact the images of merges past the retention; return how many, and how many were left alone."""
        with open_service() as service:
            return service.retention.run(limit=100_000, seconds=900.0)

    expire_merges()


account_merge_expire()
