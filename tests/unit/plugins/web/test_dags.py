"""The table of DAGs: a button needs the right to the DAG that its request starts."""

from __future__ import annotations

import pytest

from account_merge_airflow.web.dags import DAG_IDS, DAG_OF_BUTTON, started_by
from account_merge_airflow.web.pages.common import ACTIONS


def test_every_button_has_a_dag():
    assert {action.name for action in ACTIONS} == set(DAG_OF_BUTTON)


@pytest.mark.parametrize("button", sorted(DAG_OF_BUTTON))
def test_a_button_s_request_starts_the_button_s_dag(button):
    assert started_by(f"/api/v1/merges/f9f25bc9-fb1d-5408-bcbd-b2003dcbcd4e/{button}") == DAG_OF_BUTTON[button]


@pytest.mark.parametrize(("path", "dag"), [
    ("/api/v1/merges", "account_merge"), ("/new/preview", "account_merge"), ("/unknown", "account_merge"),
    ("/api/v1/proposals", "account_merge_approve"), ("/api/v1/failed/replay", "account_merge_replay"),
    ("/api/v1/merges/f9f25bc9-fb1d-5408-bcbd-b2003dcbcd4e/propose", "account_merge_approve"),
    ("/api/v1/switches", "account_merge_switch"), ("/api/v1/uploads", "account_merge_rescue"),
])  # fmt: skip
def test_a_changing_request_starts_one_dag(path, dag):
    assert started_by(path) == dag
    assert dag in DAG_IDS


def test_the_runs_of_a_merge_are_runs_of_the_dags_that_did_it():
    from types import SimpleNamespace

    from account_merge_airflow.web.api.common import runs_of

    request = SimpleNamespace(scope={"root_path": ""})
    ids = ("cli__1", "merge__1__1", "bulk__poll__scheduled__2", "bulk__manual__3", "undo__1__1", "redo__1__2")
    found = runs_of(request, SimpleNamespace(run_ids=ids))
    assert [(run.dag_id, run.run_id) for run in found] == [
        ("account_merge", "merge__1__1"),
        ("account_merge_bulk", "poll__scheduled__2"), ("account_merge_bulk", "manual__3"),
        ("account_merge_undo", "undo__1__1"), ("account_merge_undo", "redo__1__2"),
    ]  # fmt: skip
