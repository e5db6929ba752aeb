"""# Account merge: bulk

**Does many merges in one run, several at a time in one process.** A run of `account_merge` for each merge costs Airflow
seconds; here a merge costs what its requests cost. The poll starts it by itself when `ACCOUNT_MERGE_BULK_FROM` merges are
requested, and goes back to a run a merge when there are fewer. A person may trigger it at any time.

```json
{"at_most": 1000, "batch": 100, "at_once": 8, "most_failed": 20}
```

| task | what it does |
|---|---|
| `take_merges` | takes the oldest merges that can start for this run, and cuts them into batches |
| `merge_batch` | one mapped task a batch: does its merges, says in its log how far it is and when it will be done |
| `sum_up` | what became of all |

**Guarantees.** Each merge keeps its own leases, log, report, failure and failed event, as in a run of its own. Everything
can be killed, cleared and repeated: a merge that is completed is left as it is. A failed merge stops no other one. When more
than `most_failed` merges of a batch fail, that batch stops (`ERROR_BUDGET`). `account_merge_switch` stops the merges here
too, and `ACCOUNT_MERGE_MAX_ROWS_PER_SECOND` holds.

**When it fails:** merges that this run took and had not begun are requested again by the poll; a merge that it had begun
gets a run of its own. A merge that failed is on the page *Failed merges*, with its remedy; its page says which run it was
in. After `ERROR_BUDGET` find the common cause there first, then replay them.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from airflow.sdk import Param, TriggerRule, dag, get_current_context, task

from account_merge_airflow.bulk import Follow, added_up, batches, effort_of, within_budget
from account_merge_airflow.connections import open_service
from account_merge_airflow.policies import TASK_ARGS

PARAMS = {
    "at_most": Param(1000, type="integer", minimum=1, maximum=10_000, title="Merges, at most",
        description="The oldest that can start. While this run has them, the poll starts few merges in runs of their own."),
    "batch": Param(100, type="integer", minimum=1, maximum=1000, title="Merges in a batch",
        description="A batch is one task: it is what is cleared and repeated."),
    "at_once": Param(8, type="integer", minimum=1, maximum=14, title="Merges at a time",
        description="In the process of one batch."),
    "most_failed": Param(20, type="integer", minimum=0, maximum=1000, title="Error budget",
        description="So many merges of a batch may fail; one more stops the batch."),
}  # fmt: skip


@dag(schedule=None, catchup=False, max_active_runs=1, params=PARAMS, default_args=TASK_ARGS, doc_md=__doc__,
     dagrun_timeout=timedelta(hours=12), is_paused_upon_creation=False, tags=["account-merge"])  # fmt: skip
def account_merge_bulk() -> None:
    @task(task_display_name="Take merges", execution_timeout=timedelta(minutes=15))
    def take_merges() -> list[list[str]]:
        """Take the merges that can start for this run; return their ids by batches."""
        context = get_current_context()
        with open_service() as service:
            taken = service.bulk.take(context["run_id"], context["params"]["at_most"])
        return batches(taken, context["params"]["batch"])

    @task(task_display_name="Merge a batch", max_active_tis_per_dagrun=2, execution_timeout=timedelta(hours=6),
          doc_md="Does the merges of one batch; fails when more of them failed than the error budget lets.",
          map_index_template="{{ batch[0] }} and {{ batch | length - 1 }} more")  # fmt: skip
    def merge_batch(merge_ids: list[str]) -> dict[str, int]:
        """Do the merges of one batch; fail when more of them failed than the error budget lets."""
        context = get_current_context()
        context["batch"] = merge_ids  # type: ignore[typeddict-unknown-key]  # names the mapped task
        with open_service() as service:
            ids = [uuid.UUID(one) for one in merge_ids]
            answer = service.bulk.merge(ids, context["run_id"], effort_of(context["params"]), Follow())
        return within_budget(answer)

    @task(task_display_name="Sum up", trigger_rule=TriggerRule.ALL_DONE, execution_timeout=timedelta(minutes=5))
    def sum_up(counts: list[dict[str, int]]) -> dict[str, int]:
        """Say what became of all merges of the batches that ended."""
        return added_up(counts)

    sum_up(merge_batch.expand(merge_ids=take_merges()))  # type: ignore[arg-type]


account_merge_bulk()
