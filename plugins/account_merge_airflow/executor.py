"""LocalExecutor with warm workers, for a machine that runs Airflow's scheduler and all tasks."""

from __future__ import annotations

import importlib

from airflow.executors.local_executor import LocalExecutor

#: What a task of ours imports, Airflow's runner of tasks and its operators among them.
PRELOADED = (
    "airflow.sdk.execution_time.task_runner",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.operators.empty",
    "account_merge.service",
    "account_merge_airflow.callbacks",
    "account_merge_airflow.operators",
    "account_merge_airflow.params",
    "account_merge_airflow.polling",
    "account_merge_airflow.policies",
    "account_merge_airflow.runs",
    "account_merge_airflow.sensors",
    "account_merge_airflow.tasks",
    "account_merge_airflow.triggers",
)


class WarmLocalExecutor(LocalExecutor):
    """Imports what tasks need before it forks its workers, so that no task process imports it again.

    A task of a small merge takes a quarter of a second of CPU; the imports of a cold process take another half.
    """

    def start(self) -> None:
        """Import, then fork the workers."""
        for name in PRELOADED:
            importlib.import_module(name)
        super().start()
