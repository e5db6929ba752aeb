"""The DAGs as Airflow's own DagBag reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


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
