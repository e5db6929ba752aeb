"""# Account merge: poll

**Takes merge events from Kafka into the journal and starts one `account_merge` run for each merge that can start.**

**Guarantees.** An event is committed on the topic only after it is in the journal. A bad event never stops a good one. A
merge whose run is orphaned is started again. Each failed run gets its failed event, also when its callback was lost. All
tasks can be killed and repeated at any point.

| task | what it does |
|---|---|
| `wait_for_work` | looks for new messages and due merges and consumes nothing; skipped when a minute brings none |
| `claim_events` | writes each event into the journal (a bad one as *refused*), then commits |
| `choose_merges` | moves merges that can start to *started*, oldest first; finds orphaned runs of merges and undos |
| `start_merges` | triggers one run for each; a new run replaces an orphaned one, which ends (`RUN_REPLACED`) |
| `report_failures` | publishes the failed events that no callback has published |

It has no params: `{}` is its whole conf. A run by hand only looks earlier.

**When it fails:** nothing is lost, the next minute tries again. `claim_events` red: PostgreSQL or Kafka is away, the
retired job still reads the topic, or events expired before they were claimed; the log names the remedy. `python -m
account_merge check` tests all connections.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, get_current_context, task

from account_merge_airflow.connections import open_service
from account_merge_airflow.operators import StartMergeOperator
from account_merge_airflow.policies import POLL_ARGS
from account_merge_airflow.runs import life_of, run_state, trigger_arguments
from account_merge_airflow.sensors import WaitForWorkSensor

#: How long one run looks for work, in seconds: a little less than the pause between two runs.
WINDOW = float(os.environ.get("ACCOUNT_MERGE_POLL_WINDOW_SECONDS") or 50)


@dag(
    schedule=os.environ.get("ACCOUNT_MERGE_POLL_SCHEDULE") or "* * * * *",
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=15),  # one hung poll must not stop all
    is_paused_upon_creation=False,
    default_args=POLL_ARGS,
    doc_md=__doc__,
    tags=["account-merge", "kafka"],
)
def account_merge_poll() -> None:
    wait_for_work = WaitForWorkSensor(
        task_id="wait_for_work", task_display_name="Wait for work", window=WINDOW, interval=2,
        execution_timeout=timedelta(minutes=2), doc_md="Looks for new events and due merges; consumes nothing.",
    )  # fmt: skip

    @task(task_display_name="Claim events", execution_timeout=timedelta(minutes=5))
    def claim_events() -> dict[str, int]:
        """Write each event into the journal, then commit its offset."""
        with open_service() as service:
            return service.inbox.claim()

    @task(task_display_name="Choose merges", trigger_rule="all_done", execution_timeout=timedelta(minutes=3))
    def choose_merges() -> list[dict[str, Any]]:
        """Return the merges that can start, oldest first. It runs without new events too: an account may be free again."""
        context = get_current_context()
        with open_service() as service:
            return [trigger_arguments(merge) for merge in service.inbox.next_runs(lambda run: life_of(context, run))]

    @task(task_display_name="Report failures", trigger_rule="all_done", execution_timeout=timedelta(minutes=3))
    def report_failures() -> dict[str, int]:
        """Publish each failed event that the callback of its run could not publish."""
        context = get_current_context()
        with open_service() as service:
            return service.failures.sweep(lambda run: run_state(context, run))

    start_merges = StartMergeOperator.partial(
        task_id="start_merges", task_display_name="Start merges", logical_date=None,
        skip_when_already_exists=True, map_index_template="{{ task.conf['merge_id'] }}", retries=2,
        retry_delay=timedelta(seconds=5), execution_timeout=timedelta(minutes=1),
        doc_md="Triggers one run for each chosen merge; a run that exists is left alone. An orphaned run is ended.",
    ).expand_kwargs(chosen := choose_merges())  # fmt: skip
    claimed = EmptyOperator(task_id="claimed", doc_md="A leaf, so that a failed claim fails the run.",
                            execution_timeout=timedelta(minutes=1))  # fmt: skip

    wait_for_work >> (claim := claim_events()) >> claimed
    claim >> chosen >> start_merges
    claim >> report_failures()


account_merge_poll()
