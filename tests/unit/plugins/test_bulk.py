"""The tasks of a bulk run: batches, progress, error budget; and how the poll sees that such a run lives."""

from __future__ import annotations

import logging
import time
import uuid
from types import SimpleNamespace

import pytest

from account_merge.errors import NeedsAttention
from account_merge.states import BULK_DAG, BULK_RUN, LOST
from account_merge_airflow.bulk import Follow, added_up, batches, effort_of, left_to_bulk, within_budget
from account_merge_airflow.runs import life_of

COUNTS = {"completed": 5, "waiting": 1, "failed": 2, "left": 3}


@pytest.mark.parametrize(
    ("number", "sizes"), [(0, []), (1, [1]), (51, [26, 25]), (200, [100, 100]), (250, [100, 100, 50])]
)
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


class Journal:
    """What the poll asks of the journal before it leaves merges to a bulk run."""

    def __init__(self, many, last=None):
        self.asked, self.many, self.last = [], many, last
        self.inbox = self.bulk_run = self
        self.settings = SimpleNamespace(bulk_from=200, stalled_after_seconds=900)

    def many_wait(self, number):
        self.asked.append(number)
        return self.many

    def get(self):
        return self.last or {}

    def put(self, entry):
        self.last = entry


@pytest.fixture
def triggered(monkeypatch):
    found = []
    monkeypatch.setattr("account_merge_airflow.bulk.trigger", lambda dag_id, run_id, *_: found.append(run_id))
    return found


@pytest.mark.parametrize(
    ("state", "tasks", "since", "left"),
    [
        ("running", ["running"], 3600, True), ("running", ["queued"], 3600, False),  # it lost its tasks
        ("queued", [], 10, True), ("queued", [], 3600, False),
    ],
)  # fmt: skip
def test_merges_are_left_to_a_bulk_run_that_lives(triggered, state, tasks, since, left):
    service = Journal(True, {"run_id": "poll__1", "at": time.time() - since})
    assert left_to_bulk(airflow_where(state, *tasks), service) is left
    assert service.asked == [200]
    assert triggered == []


@pytest.mark.parametrize("last", [None, "success", "failed"])
def test_a_bulk_run_is_triggered_where_none_is_open(triggered, last):
    service = Journal(True, {"run_id": "poll__1", "at": 0.0} if last else None)
    assert left_to_bulk({**airflow_where(last), "run_id": "auto__2"}, service)
    assert triggered == ["poll__auto__2"]
    assert service.last["run_id"] == "poll__auto__2"


@pytest.mark.parametrize(("most", "many"), [(200, False), (0, True)])
def test_few_merges_get_runs_of_their_own(triggered, most, many):
    service = Journal(many)
    service.settings.bulk_from = most
    assert not left_to_bulk({}, service)
    assert triggered == []
    assert service.last is None
