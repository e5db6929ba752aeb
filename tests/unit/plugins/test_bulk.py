"""The tasks of a bulk run: batches, progress, error budget; and how the poll sees that such a run lives."""

from __future__ import annotations

import logging
import uuid
from types import SimpleNamespace

import pytest

from account_merge.errors import NeedsAttention
from account_merge.states import BULK_DAG, BULK_RUN, LOST
from account_merge_airflow.bulk import Follow, added_up, batches, effort_of, left_to_bulk, within_budget
from account_merge_airflow.runs import life_of

COUNTS = {"completed": 5, "waiting": 1, "failed": 2, "left": 3}


@pytest.mark.parametrize(("number", "sizes"), [(0, []), (1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
def test_ids_are_cut_into_batches(number, sizes):
    ids = [uuid.uuid4() for _ in range(number)]
    found = batches(ids, 100)
    assert [len(batch) for batch in found] == sizes
    assert [uuid.UUID(one) for batch in found for one in batch] == ids


def test_params_are_the_effort():
    effort = effort_of({"at_most": 7, "batch": 3, "at_once": 4, "most_failed": 9})
    assert (effort.at_once, effort.most_failed) == (4, 9)


def test_progress_is_told_at_the_end_and_not_for_each_merge(caplog):
    caplog.set_level(logging.INFO)
    follow = Follow()
    for done in range(1, 101):
        follow(done, done // 10, 100)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("100 of 100 merges (10 failed), ")
    assert caplog.messages[0].endswith("done in about 0 s.")


def test_a_batch_within_its_budget_tells_its_counts():
    assert within_budget({**COUNTS, "stopped": False}) == COUNTS


def test_a_batch_over_its_budget_fails_and_says_what_to_do():
    with pytest.raises(NeedsAttention, match="2 merges of this batch failed.*3 were not begun") as over:
        within_budget({**COUNTS, "stopped": True})
    assert over.value.code == "ERROR_BUDGET"
    assert "pause" in over.value.remedy


def test_sums_leave_out_batches_that_ended_without_counts():
    assert added_up([COUNTS, None, COUNTS]) == {name: 2 * number for name, number in COUNTS.items()}
    assert added_up([]) == {}


def airflow_where(state, *tasks):
    """A task's context in an Airflow in which the bulk run is in this state, with tasks in these; others are asked for in vain."""

    def get_dagrun_state(dag_id, run_id):
        assert (dag_id, run_id) == (BULK_DAG, "poll__1")
        return state

    states = {str(n): task for n, task in enumerate(tasks)}
    return {
        "ti": SimpleNamespace(
            get_dagrun_state=get_dagrun_state, get_task_states=lambda dag_id, run_ids: {run_ids[0]: states}
        )
    }


@pytest.mark.parametrize(
    ("state", "tasks", "life"),
    [
        ("running", ["running"], "running"), ("running", ["queued"], LOST), ("queued", [], "queued"),
        ("success", [], None), ("failed", [], None),
    ],
)  # fmt: skip
def test_a_bulk_run_tells_of_its_merges_only_while_it_is_open(state, tasks, life):
    assert life_of(airflow_where(state, *tasks), f"{BULK_RUN}poll__1") == life


@pytest.mark.parametrize(("most", "many", "left"), [(0, True, False), (200, False, False), (200, True, True)])
def test_merges_are_left_to_the_bulk_run_that_is_open(most, many, left):
    asked = []
    service = SimpleNamespace(
        settings=SimpleNamespace(bulk_from=most),
        inbox=SimpleNamespace(many_wait=lambda number: asked.append(number) or many),
    )
    context = {"ti": SimpleNamespace(get_dr_count=lambda dag_id, states: 1), "run_id": "r"}
    assert left_to_bulk(context, service) is left
    assert asked == ([most] if most else [])
