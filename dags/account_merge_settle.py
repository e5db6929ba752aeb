"""# Account merge: settle

**Moves rows that reached a source account after its merge: some minutes, a day and a week later.** Runs by itself.

A lagging aggregator, or a device that was offline for a week, still writes to the old account. A settle is a repair by
the clock: a merge of its own, with its own id, into the account where the history lives on that day.
`ACCOUNT_MERGE_SETTLE_AFTER_SECONDS` says when.

**Guarantees.** Only new values are moved, once. The undo of its parent takes a settle back as well. It can be killed and
repeated at any point.

It has no params: `{}` is its whole conf. A run by hand only looks earlier. One run settles for some minutes; the next run
goes on. A settle whose account another merge holds waits, and the poll starts it.

**When it fails:** nothing is lost, the next run tries again. A settle that fails is a failed merge like any other: it has
its failed event, and `python -m account_merge failed` names the remedy.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task

from account_merge_airflow.connections import open_service
from account_merge_airflow.policies import TASK_ARGS


@dag(
    schedule=os.environ.get("ACCOUNT_MERGE_SETTLE_SCHEDULE") or "*/5 * * * *",
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=30),
    is_paused_upon_creation=False,
    default_args=TASK_ARGS | {"retries": 0},  # the next run is the retry
    doc_md=__doc__,
    tags=["account-merge"],
)
def account_merge_settle() -> None:
    @task(task_display_name="Settle what is due", execution_timeout=timedelta(minutes=15))
    def settle_merges() -> dict[str, int]:
        """Open and do the settles that are due; return how many had something to move."""
        with open_service() as service:
            return service.settling.run()

    settle_merges()


account_merge_settle()
