"""The parts between Airflow and the core: params, runs, tasks, connections, sensor, callbacks, retry rules, pages, API.

The core (`account_merge`) knows nothing of Airflow; this package knows both. Importing a module of it opens no connection
and imports no driver.
"""
