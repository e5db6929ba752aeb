"""Registers the product with Airflow, and nothing else: every Airflow process, each task's too, imports this file."""

from airflow.plugins_manager import AirflowPlugin

from account_merge_airflow.web import LazyApp, views


class AccountMergePlugin(AirflowPlugin):
    """Pages, API and navigation; sensors and triggers need no registration. The app is imported at its first request."""

    name = "account_merge"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": LazyApp.PREFIX, "name": "Account merges"}]
    external_views = views()
