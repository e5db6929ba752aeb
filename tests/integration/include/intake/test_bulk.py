"""Many merges in one run: each keeps its identity, a kill or a repetition merges none twice, failures and switches stop it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cassandra.cluster import Cluster

from account_merge.errors import TransientError
from account_merge.intake.bulk import Effort
from account_merge.journal import now
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.settings import Settings
from account_merge.states import BULK_RUN, LOST, MERGE_DAG, State
from account_merge.sunbird.store import Store
from local import messages, provision
from local.stack import Stack
from tests.journal_sql import sql
from tests.learners import account, lesson, put, rows

CC = "user_content_consumption"
RUN = "poll__1"
ROOT = Path(__file__).resolve().parents[4]
CODE = """
import json, os, sys, uuid
from account_merge.intake.bulk import Effort
from account_merge.service import Service
from account_merge.settings import Settings
run, *ids = sys.argv[1:]
with Service(Settings.from_env(os.environ)) as service:
    told = lambda done, failed, of: os.write(1, f"{done}\\n".encode())  # threads: a line is one call
    print(json.dumps(service.bulk.merge(map(uuid.UUID, ids), run, Effort(at_once=3), told)), flush=True)
"""


@pytest.fixture
def service(own_world):
    return own_world()


def pairs(service, session, number, views=(2, 3)):
    """Merges that are requested, oldest first: the id and the target of each."""
    opened = []
    for _ in range(number):
        source, target = account(), account()
        for user, seen in zip((source, target), views, strict=True):
            put(session, service.settings.courses_keyspace, CC, lesson(user, viewcount=seen))
        opened.append((service.opening.open_merge(MergeRequest((source,), target)), target))
    return opened


def views(service, session, target):
    return [row["viewcount"] for row in rows(session, service.settings.courses_keyspace, CC, target)]


def done(service, merge_ids, told=lambda *_: None, **effort):
    return service.bulk.merge(merge_ids, RUN, Effort(**{"at_once": 4} | effort), told)


def states(service, opened):
    return Counter(service.journal.need(merge_id).state for merge_id, _ in opened)


def test_all_that_can_start_are_taken_oldest_first_and_merged_each_by_itself(session, service):
    opened = pairs(service, session, 12)
    assert service.bulk.take(RUN, 10) == [merge_id for merge_id, _ in opened[:10]]
    assert service.bulk.take(RUN, 10) == [merge_id for merge_id, _ in opened[:10]]  # a repetition takes no others
    told = []
    assert (service.bulk.progress().done, service.bulk.progress().taken, service.bulk.progress().left) == (0, 10, None)
    assert done(service, [opened[0][0]])["completed"] == 1
    found = service.bulk.progress()
    assert (found.run_id, found.done, found.taken) == (RUN, 1, 10)
    assert found.left == pytest.approx(9 * found.seconds)
    answer = done(service, [merge_id for merge_id, _ in opened[:10]], lambda *all_: told.append(all_))
    assert service.bulk.progress() is None
    assert answer == {"completed": 10, "waiting": 0, "failed": 0, "left": 0, "stopped": False}
    assert sorted(told) == [(n, 0, 10) for n in range(1, 11)]
    for merge_id, target in opened[:10]:
        merge = service.journal.need(merge_id)
        assert (merge.state, merge.run_ids, merge.sync_sent) == ("completed", (BULK_RUN + RUN,), 0)
        assert views(service, session, target) == [5]
    assert states(service, opened[10:]) == {"requested": 2}
    assert service.bulk.take(RUN, 10) == [merge_id for merge_id, _ in opened[10:]]  # a cleared task goes on
    again = done(service, [merge_id for merge_id, _ in opened])
    assert (again["completed"], again["failed"]) == (12, 0)
    assert [views(service, session, target) for _, target in opened] == [[5]] * 12


def test_of_merges_that_share_an_account_one_is_taken_and_the_others_wait_for_it(session, service):
    target, (first, second) = account(), (account(), account())
    keyspace = service.settings.courses_keyspace
    for user in (first, second, target):
        put(session, keyspace, CC, lesson(user, viewcount=1))
    merges = [service.opening.open_merge(MergeRequest((source,), target)) for source in (first, second)]
    assert service.bulk.take(RUN, 10) == merges[:1]
    assert done(service, merges)["completed"] >= 1
    while service.bulk.take(RUN, 10):
        done(service, service.bulk.take(RUN, 10))
    assert states(service, [(merge_id, "") for merge_id in merges]) == {"completed": 2}
    assert views(service, session, target) == [3]


def test_a_process_that_is_killed_loses_and_repeats_no_merge(session, service, own_environment):
    opened = pairs(service, session, 20)
    ids = [str(merge_id) for merge_id in service.bulk.take(RUN, 20)]
    worker = subprocess.Popen(
        [sys.executable, "-c", CODE, RUN, *ids], stdout=subprocess.PIPE, text=True,
        env={**os.environ, **own_environment, "PYTHONPATH": str(ROOT / "include")},
    )  # fmt: skip
    with worker:
        for line in worker.stdout:
            if int(line) >= 5:
                worker.send_signal(signal.SIGKILL)
                break
    found = states(service, opened)
    assert 5 <= found["completed"] < 20
    answer = done(service, map(uuid.UUID, ids))
    assert (answer["completed"], answer["failed"]) == (20, 0)
    assert [views(service, session, target) for _, target in opened] == [[5]] * 20


@pytest.mark.parametrize("lost", ["", LOST], ids=["ended", "lost"])
def test_what_a_run_left_gets_a_run_of_its_own_once_that_run_has_ended(session, service, lost):
    opened = pairs(service, session, 3)
    assert len(service.bulk.take(RUN, 3)) == 3
    old = now() - timedelta(minutes=10)
    sql(service, "UPDATE merges SET updated_at = :old", old=old)
    assert service.inbox.next_runs(lambda run: "running" if run == BULK_RUN + RUN else None) == []
    life, admitted = lost or None, opened[0][0]
    service.admission.admit(admitted, BULK_RUN + RUN)
    sql(service, "UPDATE merges SET updated_at = :old", old=now() - timedelta(days=1))
    sql(service, "UPDATE log SET created_at = :old", old=now() - timedelta(days=1))
    chosen = service.inbox.next_runs(lambda run: life, begin=False)
    assert [run["merge_id"] for run in chosen] == [str(admitted)]
    assert states(service, opened[1:]) == {"requested": 2}  # hundreds of them would be hundreds of runs
    chosen += service.inbox.next_runs(lambda run: life)
    assert not any(run.get("reset_dag_run") for run in chosen)  # it may have other merges under way
    assert {run["merge_id"] for run in chosen} == {str(merge_id) for merge_id, _ in opened}
    assert {run["dag_id"] for run in chosen} == {MERGE_DAG}
    answer = done(service, [merge_id for merge_id, _ in opened])  # the run that was replaced does nothing any more
    assert answer == {"completed": 0, "waiting": 0, "failed": 0, "left": 3, "stopped": False}


def test_failures_stop_no_other_merge_until_there_are_too_many(session, service):
    good = pairs(service, session, 6)
    gone = account()
    merged = service.opening.open_merge(MergeRequest((gone,), account()))
    assert service.merging.run(merged, "run", publish=False)["state"] == "completed"
    bad = [service.opening.open_merge(MergeRequest((gone,), account())) for _ in range(5)]  # ALREADY_MERGED
    ids = [merge_id for merge_id, _ in good]
    answer = done(service, [*bad[:2], *ids[:4]], at_once=1, most_failed=2)
    assert answer == {"completed": 4, "waiting": 0, "failed": 2, "left": 0, "stopped": False}
    answer = done(service, [*bad[2:], *ids[4:]], at_once=1, most_failed=2)
    assert answer == {"completed": 0, "waiting": 0, "failed": 3, "left": 2, "stopped": True}
    assert states(service, [(merge_id, "") for merge_id in bad]) == {"refused": 5}
    assert {service.journal.need(merge_id).failed_event for merge_id in bad} == {"due"}
    assert states(service, good) == {"completed": 4, "requested": 2}


def test_a_merge_whose_server_is_away_comes_again_after_the_others(session, service, monkeypatch):
    opened = pairs(service, session, 4)
    write, away = Store.write, {opened[0][1]}

    def failing(self, schema, account_id, *more, **named):
        if account_id in away:
            away.discard(account_id)
            raise TransientError("CASSANDRA_UNAVAILABLE", "away", "It is tried again.")
        write(self, schema, account_id, *more, **named)

    monkeypatch.setattr(Store, "write", failing)
    answer = done(service, [merge_id for merge_id, _ in opened], at_once=2)
    assert answer["completed"] == 4
    assert not away
    assert [views(service, session, target) for _, target in opened] == [[5]] * 4
    monkeypatch.setattr(
        Store, "write", lambda *_, **__: (_ for _ in ()).throw(TransientError("AWAY", "away", "Again."))
    )
    ((merge_id, target),) = pairs(service, session, 1)
    assert done(service, [merge_id], patience=0.0)["left"] == 1
    assert service.journal.need(merge_id).state == State.RUNNING  # the poll gives it a run of its own
    assert views(service, session, target) == [3]


def test_the_switch_stops_a_batch_and_nothing_of_it_is_lost(session, service):
    opened = pairs(service, session, 12)
    stopped = threading.Event()

    def stop(finished, failed, of):
        if finished >= 3 and not stopped.is_set():
            stopped.set()
            service.switch.pause("", "operator", "look")

    answer = done(service, [merge_id for merge_id, _ in opened], stop, at_once=2)
    assert 3 <= answer["completed"] <= 6
    assert 1 <= answer["waiting"] <= 2
    assert answer["left"] == 12 - answer["completed"] - answer["waiting"]
    assert not service.inbox.many_wait(1)
    service.switch.resume("", "operator")
    assert done(service, [merge_id for merge_id, _ in opened])["completed"] == 12
    assert [views(service, session, target) for _, target in opened] == [[5]] * 12


def test_many_wait_when_as_many_are_requested(session, service):
    pairs(service, session, 3)
    assert service.inbox.many_wait(3)
    assert not service.inbox.many_wait(4)
    assert service.inbox.next_runs(lambda run: None, begin=False) == []
    assert len(service.inbox.next_runs(lambda run: None)) == 3
    assert not service.inbox.many_wait(1)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("family", ["cassandra", "spark"])
def test_a_cassandra_that_is_killed_in_the_middle_loses_and_doubles_nothing(fresh_stack, family):
    own = fresh_stack("kafka", "cassandra", "postgres", durable=True)
    ports = own.ports()
    environment = own.core_settings() | {
        **provision.keyspace_settings("courses"), "CASSANDRA_REQUEST_TIMEOUT_SECONDS": "3",
    }  # fmt: skip
    messages.create_topics(environment["KAFKA_BOOTSTRAP_SERVERS"], provision.topics(environment))
    names = {"courseid": "collectionid", "batchid": "contextid"} if family == "spark" else {}
    opened, gone, restarted = [], account(), threading.Thread(target=lambda: restart(own, ports["cassandra"]))
    with Cluster(["127.0.0.1"], port=ports["cassandra"]) as cluster, Service(Settings.from_env(environment)) as service:
        session = cluster.connect()
        provision.create_tables(session, family, "courses")
        service.journal.create()
        merged = service.opening.open_merge(MergeRequest((gone,), account()))
        assert service.merging.run(merged, publish=False)["state"] == "completed"
        for number in range(120):
            source, target = account(), account()
            for user, seen in ((source, 2), (target, 3)):
                rows_ = (lesson(user, f"L{n}", viewcount=seen) for n in range(20))
                for row in rows_:
                    put(session, "courses", CC, {names.get(c, c): value for c, value in row.items()})
            bad = number == 50  # its source was merged already
            request = MergeRequest((gone if bad else source,), account() if bad else target)
            opened.append((service.opening.open_merge(request), "" if bad else target))

        def told(finished, failed, of):
            if finished >= 20 and not restarted.ident:
                restarted.start()

        ids = service.bulk.take(RUN, 200)
        assert len(ids) == 120
        answer = service.bulk.merge(ids, RUN, Effort(), told)
        restarted.join()
        assert answer == {"completed": 119, "waiting": 0, "failed": 1, "left": 0, "stopped": False}
        assert states(service, opened) == {"completed": 119, "refused": 1}
    with Cluster(["127.0.0.1"], port=ports["cassandra"]) as cluster:
        session = cluster.connect()
        for _, target in opened:
            if target:
                assert [row["viewcount"] for row in rows(session, "courses", CC, target)] == [5] * 20, target


def restart(own, port):
    """Kills Cassandra and starts it again, where it was."""
    os.kill(own.state.load()["cassandra"]["pid"], signal.SIGKILL)
    time.sleep(5)
    Stack(replace(own.config, ports={**own.config.ports, "cassandra": port})).up(["cassandra"])
