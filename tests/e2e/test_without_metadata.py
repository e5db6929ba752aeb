"""Airflow's database lost and made anew: the journal knows every merge, so none is lost, repeated or forgotten to be told."""

from __future__ import annotations

import os
import signal
import uuid
from datetime import timedelta
from pathlib import Path

import psycopg2
import pytest
from airflow_client import wait_for
from platform_world import Learner
from steps import LESSONS, big_pair, running

from account_merge.failed_search import FailedMergeFilter
from local.stack import AIRFLOW
from tests.journal_sql import sql
from tests.turns import turn

DAGS = 11


@pytest.fixture(scope="module")
def metadata(airflow_stack):
    """Nobody else needs what is in Airflow's database."""
    with turn(airflow_stack.config.home, "metadata", alone=True):
        yield


@pytest.fixture
def without_database(airflow_stack, airflow, metadata, monkeypatch):
    """Answers what drops Airflow's stopped database and starts Airflow on an empty one, at the same address."""
    monkeypatch.setitem(airflow_stack.config.ports, "airflow", airflow_stack.ports()["airflow"])

    def lose():
        where = f"host=127.0.0.1 port={airflow_stack.ports()['postgres']} user=postgres dbname=template1"
        database = psycopg2.connect(where)
        database.autocommit = True
        with database.cursor() as cursor:
            cursor.execute("DROP DATABASE postgres WITH (FORCE)")
            cursor.execute("CREATE DATABASE postgres")
        database.close()
        Path(airflow_stack.state.load()["postgres"]["data"]).with_name("migrated").unlink()

    def start():
        airflow_stack.up()
        wait_for(lambda: airflow.get("dags", limit=100)["total_entries"] == DAGS, 180, "all DAGs in the new database")

    yield lose, start
    start()  # also when the test failed: the others need it


@pytest.mark.alone
def test_a_lost_airflow_database_loses_and_repeats_no_merge(
    airflow_stack, airflow, core, world, poll, in_state, without_database
):
    lose, start = without_database
    pairs = {name: (world.study(Learner()), Learner()) for name in ("done", "failed", "requested", "started")}
    pairs["running"] = big_pair(world)
    pairs["waiting"] = (pairs["running"][1], Learner())  # for the account that the running one has
    events = {name: world.event(source.account, target.account) for name, (source, target) in pairs.items()}
    ids = {name: world.merge_id(event) for name, event in events.items()}
    before, marker = world.end_of(world.settings.failed_topic), uuid.uuid4().hex

    def state_of(name):
        return str(core.journal.need(ids[name]).state)

    def claim(*messages):
        world.publish(*messages)
        core.inbox.claim()

    def told():
        mine = marker, pairs["failed"][0].account
        return [
            event for event in world.since(world.settings.failed_topic, before) if any(m in str(event) for m in mine)
        ]

    world.publish(events["running"])
    poll()
    in_state(ids["running"], "running")
    os.kill(
        running(airflow, core.journal.need(ids["running"]).run_ids[-1], "merge_user_content_consumption"),
        signal.SIGKILL,
    )
    airflow_stack.down(AIRFLOW)
    # What the steps of a poll and of a run may leave behind when Airflow goes away after any of them.
    claim(events["done"])
    assert core.merging.run(ids["done"])["state"] == "completed"
    claim(events["waiting"], events["failed"], events["started"], f'{{"no edata": "{marker}"'.encode())
    core.inbox.next_runs(lambda run: "running")
    failed = core.journal.need(ids["failed"])
    core.failures.fail_quietly(failed, failed.run_ids[-1])
    claim(events["requested"])
    wanted = {name: name for name in ids} | {"done": "completed"}
    assert {name: state_of(name) for name in ids} == wanted
    assert told() == []
    lose()
    # The time for which a merge is left alone need not be waited for.
    hour, stopped = timedelta(hours=1), core.journal.need(ids["running"]).run_ids
    for name in ("started", "running"):
        sql(core, "UPDATE merges SET updated_at = updated_at - :hour WHERE merge_id = :id", hour=hour, id=ids[name])
    sql(core, "UPDATE log SET created_at = created_at - :hour WHERE merge_id = :id", hour=hour, id=ids["running"])

    start()
    wait_for(
        lambda: core.journal.need(ids["running"]).run_ids != stopped, 180, "another run of the killed merge", pause=0.1
    )
    # Its tasks know their writes by these times.
    sql(core, "UPDATE log SET created_at = created_at + :hour WHERE merge_id = :id", hour=hour, id=ids["running"])
    wait_for(lambda: len(told()) == 2, 180, "two failed events", pause=2)
    core.replays.replay(FailedMergeFilter.of(merge_ids=[str(ids["failed"])]), "ann", "Airflow is back", dry_run=False)
    for name in ids:
        in_state(ids[name], "completed", seconds=300)
    for name in ("done", "failed", "requested", "started"):
        source, target = pairs[name]
        assert world.views(target.account, source.course) == world.views(source.account, source.course), name
    # The killed one went on where its log ended, and the one that waited brought all of it on: nothing twice.
    source, target = pairs["running"]
    merged = world.views(target.account, source.course)
    assert len(merged) == LESSONS
    assert sorted(set(merged.values())) == [2, 4]
    assert sum(views == 4 for views in merged.values()) == 10
    assert world.views(pairs["waiting"][1].account, source.course) == merged
    for name, (source, _) in pairs.items():
        known = [m.merge_id for m in core.journal.find("accounts", source.account)]
        assert known.count(ids[name]) == 1, name
    assert core.journal.need(ids["done"]).run_ids == ()
    assert len(told()) == 2
