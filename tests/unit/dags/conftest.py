"""The DAGs as Airflow's own DagBag reads them, with a throw-away AIRFLOW_HOME."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Airflow reads its configuration when it is first imported, so this comes before any test imports it.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="account-merge-airflow-"))
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
for folder in ("include", "plugins"):
    if str(ROOT / folder) not in sys.path:
        sys.path.insert(0, str(ROOT / folder))


@pytest.fixture(scope="session")
def dagbag():
    """Every DAG file of the project; none may fail to import."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(ROOT / "dags"))
    assert bag.import_errors == {}
    return bag


@pytest.fixture(scope="session")
def merge_dag(dagbag):
    """The per-merge DAG."""
    return dagbag.dags["account_merge"]


@pytest.fixture(scope="session")
def poll_dag(dagbag):
    """The poll."""
    return dagbag.dags["account_merge_poll"]
