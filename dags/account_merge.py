"""# Account merge

**Merges one or more source accounts into a target account: nothing a learner earned is lost, nothing counts twice.**

`account_merge_poll` starts it, one run for each merge event; a person starts it by *Trigger*. Conf of one run:

```json
{"source_accounts": ["b964d83a-c40f-4b3c-85e7-68b764efd14b"], "target_account": "191e6b5a-8581-46bd-b779-b3b534984649"}
```

`admit` opens the merge, takes its accounts and skips the tables in which no source has a row; each other `merge_…` task
plans, writes and verifies one table; then `publish_sync_events` asks the platform to recompute and completes the merge. The
trigger form describes the params.

**Guarantees.** Every task can be cleared, killed and repeated at any time, in any order: the tables end up the same. On a
completed merge the tasks report and write nothing. So does a skipped table's task that is cleared: its log has ended, and
rows that come later are moved by a settle or repair. `dry_run` counts the same changes and writes nothing.

**Another merge holds an account, or `account_merge_switch` stops it:** the task ends green and the rest is skipped; the
poll starts the merge when it is free, or when the switch is off.

**When it fails:** its failed event is published. The merge keeps its accounts, so that no other merge interleaves. A server
is away: Airflow retries with growing pauses; later clear the failed task. Invalid request: the run fails at once, the log
says why. `python -m account_merge show MERGE_ID` tells the whole story; the XCom of `admit` holds the merge id.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Label, TaskGroup, chain, dag, get_current_context, task

from account_merge.rules import RULES, TableRule
from account_merge_airflow.callbacks import publish_failed_event
from account_merge_airflow.connections import open_service
from account_merge_airflow.params import MERGE_PARAMS, request_of
from account_merge_airflow.policies import TASK_ARGS
from account_merge_airflow.runs import go_on, merge_id_of, open_or_confirm, skip_idle

#: The id of one table's task.
TABLE_TASK = "merge_{}"


@dag(schedule=None, catchup=False, max_active_runs=1000, params=MERGE_PARAMS, default_args=TASK_ARGS, doc_md=__doc__,
     is_paused_upon_creation=False, on_failure_callback=publish_failed_event, tags=["account-merge"])  # fmt: skip
def account_merge() -> None:
    @task(task_display_name="Admit the merge", execution_timeout=timedelta(minutes=10))
    def admit() -> dict[str, Any]:
        """Open the merge when a person asked for it; take the leases of all its accounts, or of none; skip idle tables."""
        context = get_current_context()
        if request_of(context).dry_run:
            return {"merge_id": None, "state": "preview", "note": "dry_run: nothing is opened.", "proceed": True}
        with open_service() as service:
            answer = go_on(context, service.admission.admit(open_or_confirm(context, service), context["run_id"]))
        return skip_idle(context, answer, TABLE_TASK)

    def merge(table: str) -> dict[str, Any]:
        context = get_current_context()
        request = request_of(context)
        with open_service() as service:
            if request.dry_run:
                return dict(service.previews.preview_table(request, table))
            return go_on(context, service.merging.merge_table(merge_id_of(context, service), table))

    @task(task_display_name="Publish sync events", execution_timeout=timedelta(minutes=30), trigger_rule="none_failed")
    def publish_sync_events() -> dict[str, Any]:
        """Publish one sync event for each enrolment, check its delivery, and complete the merge."""
        context = get_current_context()
        if request_of(context).dry_run:
            return {"merge_id": None, "sent": 0, "state": "preview", "note": "dry_run: nothing is published."}
        with open_service() as service:
            return dict(service.merging.publish_sync(merge_id_of(context, service)))

    def table_task(rule: TableRule) -> Any:
        made = task(task_id=TABLE_TASK.format(rule.table), task_display_name=f"Merge {rule.table}", doc_md=rule.why,
                    execution_timeout=timedelta(hours=6), trigger_rule="none_failed")  # fmt: skip
        return made(merge)(rule.table)

    with TaskGroup(
        "tables", prefix_group_id=False, tooltip="One task a table; those without rows are skipped."
    ) as tables:
        first = [table_task(rule) for rule in RULES if not rule.last]
        chain(first, *(table_task(rule) for rule in RULES if rule.last))
    published = publish_sync_events()
    chain(admit(), Label("holds its accounts"), tables, published)
    chain(first, published)  # the last table may be skipped while the others still run


account_merge()
