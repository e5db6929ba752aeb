"""A Cassandra that is slow: answers that come late or not in time, a server that stands still again and again.

A merge ends right, or fails as transient and the repeated step goes on; what it leaves is always the same.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time

import pytest
from cassandra.cluster import Cluster, Session

from account_merge.cli.main import run_merge
from account_merge.errors import TransientError
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.settings import Settings
from local import airflow_parts, provision
from tests.learners import account, enrolment, lesson, put, rows
from tests.proxy import Proxy

CC, ENR = "user_content_consumption", "user_enrolments"
TIMEOUT = 0.5  # s a request may take; the least that the settings allow


class Unknown:
    """Leaves the driver without an answer to one write: the n-th from `at(n)` on."""

    def __init__(self, monkeypatch):
        self._left, self.armed, self.times = 0, False, 0
        original, unknown = Session.execute_async, self

        def executing(session, query, *arguments, **named):
            text = getattr(getattr(query, "prepared_statement", query), "query_string", query)
            if not isinstance(text, str) or not text.startswith("SELECT"):
                unknown._left -= 1
                unknown.armed = unknown._left == 0
            return original(session, query, *arguments, **named)

        monkeypatch.setattr(Session, "execute_async", executing)

    def at(self, number):
        self._left, self.armed = number, False

    def _now(self):
        now, self.armed = self.armed, False
        self.times += now
        return now

    def lost(self):
        """The write never reaches the server."""
        return not self._now()

    def late(self):
        """The server has done it, and says so when the driver has given up."""
        if self._now():
            time.sleep(TIMEOUT * 1.6)
        return True


def seed(session, keyspace, source, target, lessons=25):
    for number in range(lessons):
        put(session, keyspace, CC, lesson(source, f"L{number:04d}", viewcount=2, status=2))
        put(session, keyspace, CC, lesson(target, f"L{number:04d}", viewcount=1, lastaccesstime="soon"))
    for user, name, number in ((source, "c1", 2), (target, "c2", 1)):
        row = enrolment(user, issued_certificates=[{"identifier": name}], contentstatus={name: number}, status=number)
        put(session, keyspace, ENR, row)


def is_right(session, keyspace, target, lessons=25):
    found = [
        (r["contentid"], r["viewcount"], r["status"], r["lastaccesstime"]) for r in rows(session, keyspace, CC, target)
    ]
    assert found == [(f"L{number:04d}", 3, 2, "soon") for number in range(lessons)]
    (enrolled,) = rows(session, keyspace, ENR, target)
    assert enrolled["issued_certificates"] == [{"identifier": "c1"}, {"identifier": "c2"}]
    assert enrolled["contentstatus"] == {"c1": 2, "c2": 1}
    assert enrolled["status"] == 2


def steps(service, merge_id):
    """The merge's steps as the DAG takes them, each to be repeated until it succeeds."""
    yield lambda: service.admission.admit(merge_id)
    for table in (ENR, CC):
        yield lambda table=table: service.merging.merge_table(merge_id, table)
    yield lambda: service.merging.publish_sync(merge_id, publish=False)


def insist(step, seconds=90.0, before=lambda number: None):
    """Repeats a step that fails as transient, as Airflow's retries do; answers the codes that it failed with."""
    deadline, codes = time.monotonic() + seconds, []
    while True:
        before(len(codes))
        try:
            step()
        except TransientError as error:
            codes.append(error.code)
        else:
            return codes
        assert time.monotonic() < deadline, codes


def test_answers_that_are_slow_but_in_time_change_nothing(session, shared_environment, shared_service):
    keyspace = shared_environment["ACCOUNT_MERGE_COURSES_KEYSPACE"]
    source, target = account(), account()
    seed(session, keyspace, source, target, 12)
    chance = random.Random(17)
    settings = shared_service.settings
    with (
        Proxy(settings.cassandra_port, answer=lambda: time.sleep(chance.uniform(0, 0.04)) is None) as proxy,
        Service(settings.replace(cassandra_port=proxy.port, entry_rows=5)) as service,
    ):
        merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(ENR, CC)))
        for step in steps(service, merge_id):
            step()
        assert service.journal.need(merge_id).state == "completed"
    is_right(session, keyspace, target, 12)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["lost", "late"])
def test_every_write_whose_outcome_is_unknown_is_made_good_by_the_repeated_step(
    how, session, shared_environment, shared_service, monkeypatch
):
    """Taken for done or for not done, a list or a total would be lost or doubled, here or by the next merge."""
    keyspace = shared_environment["ACCOUNT_MERGE_COURSES_KEYSPACE"]
    source, target = account(), account()
    seed(session, keyspace, source, target)
    merge_id = shared_service.opening.open_merge(MergeRequest((source,), target, tables=(ENR, CC)))
    unknown, settings = Unknown(monkeypatch), shared_service.settings
    hooks = {"ask": unknown.lost} if how == "lost" else {"answer": unknown.late}
    with Proxy(settings.cassandra_port, **hooks) as proxy:
        slow = settings.replace(cassandra_port=proxy.port, cassandra_request_timeout_seconds=TIMEOUT, entry_rows=10)
        with Service(slow) as service:
            for step in steps(service, merge_id):
                codes = insist(step, before=lambda number: unknown.at(1 + number))
                assert set(codes) <= {"CASSANDRA_UNAVAILABLE"}
    assert unknown.times >= 3  # the tables' writes; the journal's are interrupted by the crash matrix
    assert shared_service.journal.need(merge_id).state == "completed"
    is_right(session, keyspace, target)
    again = shared_service.opening.open_merge(MergeRequest((source,), target, tables=(ENR, CC)))
    assert run_merge(shared_service, again, publish=False)["state"] == "completed"
    is_right(session, keyspace, target)


@pytest.mark.parametrize("how", ["gone", "silent"])
@pytest.mark.parametrize("known", [[], ["_connection"], ["_connection", "tables"]], ids=["new", "connected", "known"])
def test_whatever_is_asked_first_its_failure_is_transient(known, how, shared_service):
    """Connecting, looking at the tables, preparing a statement, asking: each has its own way through the driver."""
    silent, settings = threading.Event(), shared_service.settings
    merge_id = shared_service.opening.open_merge(MergeRequest((account(),), account()))
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(Proxy(settings.cassandra_port, ask=lambda: not silent.is_set()))
        slow = settings.replace(cassandra_port=proxy.port, cassandra_request_timeout_seconds=TIMEOUT)
        service = stack.enter_context(Service(slow))
        for name in known:  # a machine under load may need more than one attempt for this
            insist(lambda name=name: getattr(service, name))
        proxy.__exit__() if how == "gone" else silent.set()
        asks = {"tables": lambda: service.tables}
        if how == "gone":  # the driver waits ten seconds for the preparation of a statement
            asks["store"] = lambda: service.store.safe_timestamp()
        for name, ask in asks.items():
            if name not in known:
                with pytest.raises(TransientError, match="CASSANDRA_UNAVAILABLE"):
                    ask()
        answer = run_merge(service, merge_id, publish=False)
    assert answer["state"] == (
        "failed" if "tables" in known else "requested"
    )  # nothing begins where tables are unknown
    assert answer["error"]["code"] == "CASSANDRA_UNAVAILABLE"
    assert answer["error"]["remedy"]


@pytest.mark.timeout(300)
def test_a_server_that_stands_still_again_and_again(fresh_stack):
    own = fresh_stack("postgres", "cassandra")
    port, pid = own.ports()["cassandra"], own.state.load()["cassandra"]["pid"]
    settings = Settings.from_env({
        "CASSANDRA_CONTACT_POINTS": "127.0.0.1", "CASSANDRA_PORT": str(port),
        "CASSANDRA_REQUEST_TIMEOUT_SECONDS": str(TIMEOUT), "ACCOUNT_MERGE_ENTRY_ROWS": "10",
        "ACCOUNT_MERGE_COURSES_KEYSPACE": "courses",
        "ACCOUNT_MERGE_JOURNAL_URL": airflow_parts.journal_url(own.ports()["postgres"]),
    })  # fmt: skip
    source, target = account(), account()
    with Cluster(["127.0.0.1"], port=port) as cluster:
        session = cluster.connect()
        provision.create_tables(session, "cassandra", "courses")
        seed(session, "courses", source, target, 150)
        done = threading.Event()

        def pulses():
            while not done.is_set():
                os.kill(pid, signal.SIGSTOP)
                done.wait(TIMEOUT * 1.4)
                os.kill(pid, signal.SIGCONT)
                done.wait(0.4)

        with Service(settings.replace(cassandra_request_timeout_seconds=10.0)) as patient:
            patient.journal.create()
            merge_id = patient.opening.open_merge(MergeRequest((source,), target, tables=(ENR, CC)))
        with Service(settings) as service:
            assert service.tables
            standing = threading.Thread(target=pulses)
            standing.start()
            try:
                codes = [code for step in steps(service, merge_id) for code in insist(step)]
            finally:
                done.set()
                standing.join()
        assert "CASSANDRA_UNAVAILABLE" in codes
        with Service(settings) as service:
            assert service.journal.need(merge_id).state == "completed"
        is_right(session, "courses", target, 150)
