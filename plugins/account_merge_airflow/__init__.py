"""What the DAGs need of Airflow: connections, the looking sensor and its trigger, callbacks, retry rules.

The core (`account_merge`) knows nothing of Airflow; this package knows both. Nothing here opens a connection or imports
a driver at import.
"""
