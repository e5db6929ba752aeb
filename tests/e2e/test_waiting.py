"""Merges that wait for a failed one: they hold nothing up, and they are done when they can be."""

from __future__ import annotations

from airflow_client import wait_for
from platform_world import Learner
from steps import big_pair, conf_of, finish, running

from account_merge.merge_ids import request_id

MERGE = "account_merge"
BLOCKED = 20  # more than the pool has slots


def test_blocked_merges_do_not_hold_up_a_free_one(world, airflow, poll, in_state, core):
    source, target = big_pair(world)
    run = airflow.trigger(MERGE, conf_of(source, target))
    running(airflow, run, "merge_user_content_consumption")
    airflow.mark_run_failed(MERGE, run)
    airflow.ended(MERGE, run)
    merge_id = request_id(run, [source.account], target.account)
    in_state(merge_id, "failed")

    blocked = [world.event(world.study(Learner(), lessons=1).account, target.account) for _ in range(BLOCKED)]
    free_source, free_target = world.study(Learner()), Learner()
    free = world.event(free_source.account, free_target.account)
    world.publish(*blocked, free)
    poll()
    in_state(world.merge_id(free), "completed", seconds=300)
    assert world.views(free_target.account, free_source.course) == world.views(free_source.account, free_source.course)

    ids = [world.merge_id(event) for event in blocked]

    def all_wait():
        return all(core.journal.need(one).state == "waiting" for one in ids)

    wait_for(all_wait, 300, "the waiting merges", pause=2)
    head = core.reader.report(ids[0]).head()
    assert (head["waiting_for"], head["waiting_holder"]) == (target.account, str(merge_id))
    assert head["run_ids"] == []  # the poll sees that it is blocked: no run is spent on it

    # The failed one is put right: those that waited go on, oldest first.
    finish(world, airflow, run, source, target)

    def one_more_done():
        poll()
        return any(core.journal.need(one).state == "completed" for one in ids)

    wait_for(one_more_done, 300, "a blocked merge that is completed", pause=10)
