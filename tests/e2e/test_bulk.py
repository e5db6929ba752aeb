"""Very many events at once: the poll leaves them to one bulk run, and each is still a merge of its own."""

from __future__ import annotations

import pytest
from airflow_client import wait_for
from platform_world import Learner

from account_merge.states import BULK_DAG, BULK_RUN

NUMBER = 70  # more than ACCOUNT_MERGE_BULK_FROM here


@pytest.mark.alone
def test_very_many_events_are_merged_by_one_bulk_run(world, airflow, poll, core):
    pairs = [(world.study(Learner()), Learner()) for _ in range(NUMBER)]
    events = [world.event(source.account, target.account) for source, target in pairs]
    synced = world.end_of(world.settings.sync_topic)
    world.publish(*events, b"{no event")
    poll()
    merge_ids = [world.merge_id(event) for event in events]

    def completed():
        found = core.journal.get_all(merge_ids)
        return len(found) == NUMBER and all(merge.state == "completed" for merge in found.values())

    wait_for(completed, 300, f"{NUMBER} completed merges", pause=2)
    merges = core.journal.get_all(merge_ids).values()
    runs = {merge.run_ids for merge in merges}
    assert len(runs) == 1, runs  # one run, and nobody else began any of them
    ((name,),) = runs
    assert name.startswith(BULK_RUN)
    run = name.removeprefix(BULK_RUN)
    states = airflow.succeeded(BULK_DAG, run)
    assert states == dict.fromkeys(("take_merges", "merge_batch", "sum_up"), "success")
    summed = airflow.xcom(BULK_DAG, run, "sum_up")
    assert summed == {"completed": NUMBER, "waiting": 0, "failed": 0, "left": 0}
    for source, target in pairs:
        assert world.views(target.account, source.course) == world.views(source.account, source.course)
    targets = [target.account for _, target in pairs]
    told = [e["edata"]["userId"] for e in world.since(world.settings.sync_topic, synced)]
    assert sorted(one for one in told if one in targets) == sorted(targets)
    # A cleared batch merges none twice.
    airflow.clear(BULK_DAG, run, "merge_batch", downstream=True)
    airflow.succeeded(BULK_DAG, run, 120)
    assert airflow.xcom(BULK_DAG, run, "sum_up") == summed
    source, target = pairs[0]
    assert world.views(target.account, source.course) == world.views(source.account, source.course)


def test_a_run_with_nothing_to_do_is_green(airflow):
    run = airflow.trigger(BULK_DAG, {"at_most": 1})
    states = airflow.succeeded(BULK_DAG, run, 120)
    assert (states["take_merges"], states["sum_up"]) == ("success", "success")
