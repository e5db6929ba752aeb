"""The tasks of `account_merge`, each of which only opens its connections and closes them: what Airflow itself costs."""

from __future__ import annotations

import uuid
from typing import Any

from airflow.sdk import TaskGroup, chain, dag, get_current_context, task

from account_merge.rules import RULES, TableRule
from account_merge_airflow.connections import open_service
from account_merge_airflow.policies import TASK_ARGS
from account_merge_airflow.runs import skip_idle

#: Those in which the benchmark's accounts have rows.
BUSY = ("user_content_consumption", "user_enrolments", "user_activity_agg")
IDLE = [rule.table for rule in RULES if rule.table not in BUSY]


def connect() -> dict[str, Any]:
    """Ask each database one thing."""
    with open_service() as service:
        service.journal.get(uuid.UUID(int=0))
        service.store.safe_timestamp()
    return {"merge_id": "none", "idle": IDLE}


@dag(schedule=None, catchup=False, max_active_runs=1000, default_args=TASK_ARGS, is_paused_upon_creation=False)
def connections_only() -> None:
    @task
    def admit() -> dict[str, Any]:
        return skip_idle(get_current_context(), connect(), "merge_{}")

    @task(trigger_rule="none_failed")
    def publish_sync_events() -> dict[str, Any]:
        return connect()

    def table_task(rule: TableRule) -> Any:
        return task(task_id=f"merge_{rule.table}", trigger_rule="none_failed")(connect)()

    with TaskGroup("tables", prefix_group_id=False) as tables:
        first = [table_task(rule) for rule in RULES if not rule.last]
        chain(first, *(table_task(rule) for rule in RULES if rule.last))
    published = publish_sync_events()
    chain(admit(), tables, published)
    chain(first, published)


connections_only()
