"""Registers the product with Airflow, and nothing else: every Airflow process, each task's too, imports this file."""

from airflow.plugins_manager import AirflowPlugin


class AccountMergePlugin(AirflowPlugin):
    """Named so that `airflow plugins` shows that the folder is mounted; sensors and triggers need no registration."""

    name = "account_merge"
