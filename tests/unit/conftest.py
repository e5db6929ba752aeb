"""A throw-away AIRFLOW_HOME for the tests that read DAGs and plugins as Airflow does; removed when the run ends."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

if "AIRFLOW_HOME" not in os.environ:
    # Airflow reads its configuration when it is first imported, so this comes before any test imports it.
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="account-merge-airflow-")
    atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
