"""A server that is away, slow or restarted in the middle: the task fails with a remedy, nothing is lost, the rerun goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import replace

import pytest

from account_merge.cli.main import run_merge
from account_merge.errors import TransientError
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.settings import Settings
from account_merge.sunbird.store import Store
from local import airflow_parts, provision
from local.stack import Stack
from tests.learners import account, enrolment, lesson, put, rows

CC, ENR = "user_content_consumption", "user_enrolments"


def answers(service, merge_id, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(TransientError):
            return service.journal.need(merge_id)
        time.sleep(0.5)
    return None


@pytest.mark.long
def test_cassandra_that_restarts_in_the_middle_loses_nothing(fresh_stack, monkeypatch):
    from cassandra.cluster import Cluster

    own = fresh_stack("postgres", "cassandra")
    port = own.ports()["cassandra"]
    environment = {
        "CASSANDRA_CONTACT_POINTS": "127.0.0.1", "CASSANDRA_PORT": str(port), "CASSANDRA_REQUEST_TIMEOUT_SECONDS": "3",
        "ACCOUNT_MERGE_COURSES_KEYSPACE": "courses", "ACCOUNT_MERGE_ENTRY_ROWS": "100",
        "ACCOUNT_MERGE_JOURNAL_URL": airflow_parts.journal_url(own.ports()["postgres"]),
    }  # fmt: skip
    settings = Settings.from_env(environment)
    source, target = account(), account()
    with Cluster(["127.0.0.1"], port=port) as cluster:
        session = cluster.connect()
        provision.create_tables(session, "cassandra", "courses")
        for number in range(250):
            put(session, "courses", CC, lesson(source, f"L{number:04d}", viewcount=2))
            put(session, "courses", CC, lesson(target, f"L{number:04d}", viewcount=1))
    pid = own.state.load()["cassandra"]["pid"]
    original, calls = Store.write, []

    def failing(self, *arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            os.kill(pid, signal.SIGSTOP)  # a server that does not answer any more
        original(self, *arguments, **named)

    with Service(settings) as service:
        service.journal.create()
        merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
        service.admission.admit(merge_id)
        monkeypatch.setattr(Store, "write", failing)
        try:
            with pytest.raises(TransientError) as caught:
                service.merging.merge_table(merge_id, CC)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert caught.value.code == "CASSANDRA_UNAVAILABLE"
        assert "lost" in caught.value.remedy
    with Service(settings) as stays:  # as the API server's
        assert stays.journal.need(merge_id).state == "running"
        os.kill(pid, signal.SIGKILL)
        for service in (stays, Service(settings)):
            with pytest.raises(TransientError, match="CASSANDRA_UNAVAILABLE"):
                service.admission.admit(merge_id)
        time.sleep(10)  # the driver looks for a server that is away ever more rarely
        Stack(replace(own.config, ports={**own.config.ports, "cassandra": port})).up(["cassandra"])
        assert answers(stays, merge_id, seconds=45)
        assert run_merge(stays, merge_id, publish=False)["state"] == "completed"
    with Cluster(["127.0.0.1"], port=port) as cluster:
        found = rows(cluster.connect(), "courses", CC, target)
    assert [r["viewcount"] for r in found] == [3] * 250


def test_broker_down_at_publish_fails_the_task_and_the_rerun_publishes(session, environment, service):
    source, target = account(), account()
    keyspace = environment["ACCOUNT_MERGE_COURSES_KEYSPACE"]
    put(session, keyspace, ENR, enrolment(source, status=1))
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    away = service.settings.replace(kafka_bootstrap_servers="127.0.0.1:1", delivery_timeout_seconds=2)
    with Service(away) as without_kafka:
        answer = run_merge(without_kafka, merge_id, publish=True)
    assert answer["state"] == "failed"
    assert answer["error"]["code"] == "KAFKA_AWAY"
    assert run_merge(service, merge_id, publish=True)["state"] == "completed"
    sent = service.topics.read(service.settings.sync_topic)
    assert [target.encode() in (m.value or b"") for m in sent] == [True]
    assert service.failures.sweep(lambda run: None) == {"sent": 1, "pending": 0}
    failed = service.topics.read(service.settings.failed_topic)
    assert len(failed) == 1
    assert str(merge_id).encode() in (failed[0].value or b"")


def test_claim_takes_good_and_bad_events_once(session, environment, service):
    from tests.learners import event

    source, target = account(), account()
    raw = [
        event(source, target, "m1"),
        b"{",
        event(source, target, "m1"),
        event(target, target),
        b"\xff\x00",
        b'{"edata": 1}',
    ]
    other = b'{"eid": "BE_JOB_REQUEST", "edata": {"action": "something-else"}}'
    service.publisher.publish([(service.settings.merge_topic, None, r) for r in [*raw, other]])
    assert service.inbox.has_work()["lag"] == 7
    assert service.inbox.claim() == {"claimed": 1, "repeated": 1, "refused": 4, "ignored": 1}
    assert service.inbox.has_work()["lag"] == 0
    assert service.inbox.claim() == {"claimed": 0, "repeated": 0, "refused": 0, "ignored": 0}
    chosen = service.inbox.next_runs(lambda run: None)
    assert [c["conf"]["source_accounts"] for c in chosen] == [[source]]
    assert service.inbox.next_runs(lambda run: "running") == []
    assert service.failures.sweep(lambda run: None)["sent"] == 4
    assert service.failures.sweep(lambda run: None)["sent"] == 0
    assert len(service.topics.read(service.settings.failed_topic)) == 4


def test_a_merge_whose_run_vanished_is_started_again(session, environment, service, monkeypatch):
    from datetime import timedelta

    from account_merge.lifecycle import liveness as alive

    merge_id = service.opening.open_merge(MergeRequest((account(),), account()))
    first = service.inbox.next_runs(lambda run: None)[0]["trigger_run_id"]
    assert first == f"merge__{merge_id}__1"
    assert service.inbox.next_runs(lambda run: None) == []
    monkeypatch.setitem(alive.GRACE, "started", timedelta(0))
    assert service.inbox.next_runs(lambda run: "queued") == []
    assert service.inbox.next_runs(lambda run: None)[0]["trigger_run_id"] == f"merge__{merge_id}__2"
