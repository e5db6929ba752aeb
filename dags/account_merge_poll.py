"""# Account merge: poll

**Takes merge events from Kafka into the journal and starts one `account_merge` run for each merge that can start.**

**Guarantees.** An event is committed on the topic only after it is in the journal. A bad event never stops a good one. A
merge whose run is orphaned is started again. Each failed run gets its failed event, also when its callback was lost. All
tasks can be killed and repeated at any point.

| task | what it does |
|---|---|
| `wait_for_work` | looks for new messages and due merges and consumes nothing; skipped with the rest when minutes bring none |
| `claim_events` | writes each event into the journal (a bad one as *refused*), then commits |
| `start_merges` | triggers a run for each merge that can start, oldest first; a new run replaces an orphaned one (`RUN_REPLACED`) |
| `report_failures` | publishes the failed events that no callback has published |

One run follows the other, so an event waits for seconds. It has no params: `{}` is its whole conf.

**When it fails:** nothing is lost, and the next run tries again: at first after 10 seconds, after further failures later, at
most after a minute. `claim_events` red: PostgreSQL or Kafka is away, the retired job still reads the topic, or events
expired before they were claimed; the log names the remedy. `python -m account_merge check` tests all connections.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import TriggerRule, dag, get_current_context, task

from account_merge_airflow.policies import POLL_ARGS
from account_merge_airflow.polling import polling, start_chosen
from account_merge_airflow.runs import run_state
from account_merge_airflow.sensors import WaitForWorkSensor

#: How long one run looks for work, in seconds.
WINDOW = float(os.environ.get("ACCOUNT_MERGE_POLL_WINDOW_SECONDS") or 240)
#: After work was found, whatever became of what came before; skipped when there was none.
ONCE_THERE_IS_WORK = TriggerRule.ALL_DONE_MIN_ONE_SUCCESS


@dag(
    schedule=os.environ.get("ACCOUNT_MERGE_POLL_SCHEDULE") or "@continuous",
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=20),  # one hung poll must not stop all
    is_paused_upon_creation=False,
    default_args=POLL_ARGS,
    doc_md=__doc__,
    tags=["account-merge", "kafka"],
)
def account_merge_poll() -> None:
    wait_for_work = WaitForWorkSensor(
        task_id="wait_for_work", task_display_name="Wait for work", window=WINDOW, interval=2,
        execution_timeout=timedelta(seconds=2 * WINDOW + 60), doc_md="Looks for new events and due merges; consumes nothing.",
    )  # fmt: skip

    @task(task_display_name="Claim events", execution_timeout=timedelta(minutes=5))
    def claim_events() -> dict[str, int]:
        """Write each event into the journal, then commit its offset."""
        with polling() as service:
            return service.inbox.claim()

    @task(task_display_name="Start merges", trigger_rule=ONCE_THERE_IS_WORK, execution_timeout=timedelta(minutes=5))
    def start_merges() -> dict[str, int]:
        """Trigger a run for each merge that can start, oldest first. It runs without new events too: an account may be free again."""
        return start_chosen(get_current_context())

    @task(task_display_name="Report failures", trigger_rule=ONCE_THERE_IS_WORK, execution_timeout=timedelta(minutes=3))
    def report_failures() -> dict[str, int]:
        """Publish each failed event that the callback of its run could not publish."""
        context = get_current_context()
        with polling() as service:
            return service.failures.sweep(lambda run: run_state(context, run))

    claimed = EmptyOperator(task_id="claimed", doc_md="A leaf, so that a failed claim fails the run.",
                            execution_timeout=timedelta(minutes=1))  # fmt: skip

    wait_for_work >> (claim := claim_events()) >> claimed
    [wait_for_work, claim] >> start_merges()
    [wait_for_work, claim] >> report_failures()


account_merge_poll()
