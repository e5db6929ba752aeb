"""Cassandra's traps, each met by the product's own code on a real server: ties, tombstones, lists, expiry, limits."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from cassandra.cluster import Session
from cassandra.policies import RetryPolicy
from cassandra.query import BatchStatement

from account_merge.cli.main import run_merge
from account_merge.errors import TransientError
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.sunbird.store import Store
from tests.learners import BATCH, COURSE, account, aggregate, enrolment, lesson, put, rows

CC, ENR, AGG = "user_content_consumption", "user_enrolments", "user_activity_agg"
ONE, TWO = {"identifier": "c1"}, {"identifier": "c2"}


@pytest.fixture
def service(shared_service):
    return shared_service


@pytest.fixture
def pair():
    return account(), account()


def merge(service, pair, *tables):
    """Merges, and shows the answer when it did not come to its end."""
    merge_id = service.opening.open_merge(MergeRequest((pair[0],), pair[1], tables=tables))
    answer = run_merge(service, merge_id, publish=False)
    assert answer["state"] == "completed", answer
    return merge_id


def ask(session, keyspace, table, what, user, course=COURSE, **options):
    """`what` of an account's one row of a course."""
    where = (
        "activity_type = 'Course' AND activity_id = %s AND user_id = %s"
        if table == AGG
        else "courseid = %s AND userid = %s"
    )
    return session.execute(f"SELECT {what} FROM {keyspace}.{table} WHERE {where}", [course, user], **options)


def cell(session, keyspace, table, what, user):
    return ask(session, keyspace, table, what, user).one()[0]


def micros(ahead=0.0):
    return int((time.time() + ahead) * 1e6)


# --- lists --------------------------------------------------------------------------------------------------------
def at_the_gate(monkeypatch):
    """Lets each thread's first write reach the server only when told: (waits until it stands there, lets it go)."""
    original, there, go, seen = Store.write, {}, {}, set()
    for name in ("one", "two"):
        there[name], go[name] = threading.Event(), threading.Event()

    def gated(self, *arguments, **named):
        name = threading.current_thread().name
        if name in there and name not in seen:
            seen.add(name)
            there[name].set()
            assert go[name].wait(120)
        return original(self, *arguments, **named)

    monkeypatch.setattr(Store, "write", gated)
    return there, go


@pytest.mark.timeout(120)
@pytest.mark.parametrize("learner", [False, True], ids=["alone", "a learner writes between"])
@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")], ids=["in turn", "the first one last"])
def test_two_attempts_of_one_entry_leave_one_copy_and_a_learner_s_later_list(
    order, learner, session, keyspace, service, pair, monkeypatch
):
    put(session, keyspace, ENR, enrolment(pair[0], issued_certificates=[ONE]))
    put(session, keyspace, ENR, enrolment(pair[1], issued_certificates=[TWO]))
    merge_id = service.opening.open_merge(MergeRequest((pair[0],), pair[1], tables=(ENR,)))
    service.admission.admit(merge_id)
    there, go = at_the_gate(monkeypatch)

    def work(name):
        threading.current_thread().name = name
        with Service(service.settings) as own:
            return own.merging.merge_table(merge_id, ENR)

    with ThreadPoolExecutor(2) as pool:
        done = {}
        for name in ("one", "two"):  # both have planned, neither's write has left
            done[name] = pool.submit(work, name)
            assert there[name].wait(120)
        go[order[0]].set()
        done[order[0]].result(60)
        wanted = [dict(c) for c in cell(session, keyspace, ENR, "issued_certificates", pair[1])]
        assert sorted(c["identifier"] for c in wanted) == ["c1", "c2"]
        if learner:
            wanted.append({"identifier": "c3"})
            put(session, keyspace, ENR, enrolment(pair[1], issued_certificates=wanted))
        go[order[1]].set()
        done[order[1]].result(60)
    found = cell(session, keyspace, ENR, "issued_certificates", pair[1])
    assert [dict(c) for c in found] == wanted


def crash_after_the_first_writes(monkeypatch):
    """The process is gone right after its first writes were acknowledged."""
    original = Store.write

    def crash(self, *arguments, **named):
        original(self, *arguments, **named)
        raise TransientError("CASSANDRA_UNAVAILABLE", "the worker is gone", "")

    monkeypatch.setattr(Store, "write", crash)


@pytest.mark.parametrize(("table", "column"), [(ENR, "issued_certificates"), (AGG, "agg_details")])
def test_a_repeated_entry_does_not_write_a_list_that_is_right(
    table, column, session, keyspace, service, pair, monkeypatch
):
    put(session, keyspace, ENR, enrolment(pair[0], issued_certificates=[ONE, TWO], status=1))
    put(session, keyspace, AGG, aggregate(pair[0], agg_details=['{"attempt_id": "a1"}', '{"attempt_id": "a2"}']))
    merge_id = service.opening.open_merge(MergeRequest((pair[0],), pair[1], tables=(table,)))
    service.admission.admit(merge_id)
    with monkeypatch.context() as patched:
        crash_after_the_first_writes(patched)
        with pytest.raises(TransientError):
            service.merging.merge_table(merge_id, table)
    before = cell(session, keyspace, table, f"WRITETIME({column})", pair[1])
    assert len(before) == 2
    service.merging.merge_table(merge_id, table)
    assert cell(session, keyspace, table, f"WRITETIME({column})", pair[1]) == before
    assert len(cell(session, keyspace, table, column, pair[1])) == 2


def test_a_list_that_both_accounts_have_alike_is_not_written(session, keyspace, service, pair):
    for user in pair:
        put(session, keyspace, ENR, enrolment(user, issued_certificates=[ONE], status=1), timestamp=1000)
    merge(service, pair)
    assert cell(session, keyspace, ENR, "WRITETIME(issued_certificates)", pair[1]) == [1000]


def test_the_driver_may_repeat_no_request_and_knows_that_lists_are_not_idempotent(
    session, keyspace, service, pair, monkeypatch
):
    put(session, keyspace, ENR, enrolment(pair[0], issued_certificates=[ONE], status=1))
    put(session, keyspace, ENR, enrolment(pair[0], issued_certificates=[ONE]) | {"batchid": "2"})
    for user, attempt in zip(pair, ("a1", "a2"), strict=True):
        put(session, keyspace, AGG, aggregate(user, agg_details=[f'{{"attempt_id": "{attempt}"}}']))
    execute, add, sent, inside = Session.execute_async, BatchStatement.add, [], []

    def recording(self, query, *arguments, **named):
        sent.append((self, query))
        return execute(self, query, *arguments, **named)

    def filling(self, statement, *arguments, **named):
        inside.append((self, statement))
        return add(self, statement, *arguments, **named)

    monkeypatch.setattr(Session, "execute_async", recording)
    monkeypatch.setattr(BatchStatement, "add", filling)
    with Service(service.settings) as own:
        merge(own, pair)
        for policy in {found.cluster.profile_manager.default.retry_policy for found, _ in sent}:
            answers = [
                policy.on_read_timeout(None, 1, 1, 1, True, 0),
                policy.on_write_timeout(None, 1, "SIMPLE", 1, 0, 0),
                policy.on_unavailable(None, 1, 1, 0, 0),
                policy.on_request_error(None, 1, OSError(), 0),
            ]
            assert {answer[0] for answer in answers} == {RetryPolicy.RETHROW}
    writes = [(query, query) for _, query in sent if not isinstance(query, BatchStatement)] + inside
    lists = [(request, part) for request, part in writes if writes_a_list(part)]
    assert {type(request).__name__ for request, _ in lists} == {"BoundStatement", "BatchStatement"}
    assert not any(request.is_idempotent or part.is_idempotent for request, part in lists)


def writes_a_list(statement):
    text = statement.prepared_statement.query_string if hasattr(statement, "prepared_statement") else ""
    return text.startswith("UPDATE") and any(f'"{c}" = ?' in text for c in ("issued_certificates", "agg_details"))


# --- equal timestamps ---------------------------------------------------------------------------------------------
def existing(session, keyspace, user, kind, when, course=COURSE):
    """The target's cells at one write time, each of a kind that wins a tie against what the merge will put."""
    table = f"{keyspace}.{ENR}"
    key = f"userid = '{user}' AND courseid = '{course}' AND batchid = '{BATCH}'"
    if kind == "deleted row":
        session.execute(f"DELETE FROM {table} USING TIMESTAMP {when} WHERE {key}")
    elif kind == "deleted cells":
        put(session, keyspace, ENR, enrolment(user, status=1) | {"courseid": course}, timestamp=1000)
        gone = "progress, lastreadcontentid, contentstatus['L1'], issued_certificates"
        session.execute(f"DELETE {gone} FROM {table} USING TIMESTAMP {when} WHERE {key}")
    else:
        expiry = " AND TTL 3600" if kind == "expiring" else ""
        session.execute(
            f"UPDATE {table} USING TIMESTAMP {when}{expiry} SET progress = -1, lastreadcontentid = 'zzz', "
            f"contentstatus['L1'] = -1, issued_certificates = [{{'identifier': 'c2'}}] WHERE {key}"
        )


HOUR = 3_600_000_000
TIES = [(kind, ahead) for kind in ("larger bytes", "expiring") for ahead in (-1, 0, 1, HOUR)]
TIES += [(kind, ahead) for kind in ("deleted cells", "deleted row") for ahead in (-1, 0, 1)]
SOURCE = {"progress": 5, "lastreadcontentid": "a", "contentstatus": {"L1": 2}, "issued_certificates": [ONE],
          "lastcontentaccesstime": datetime(2022, 3, 1)}  # fmt: skip
CELLS = ("progress", "lastreadcontentid", "contentstatus['L1']")


def has_what_the_source_had(session, keyspace, user, above=0, certificates=("c1",), course=COURSE, ends=False):
    """Each value of the source is there, written after `above` (µs), and for good, or with the `ends` of its cells."""
    columns = ", ".join((*CELLS, *(f"WRITETIME({c}), TTL({c})" for c in CELLS)))
    values = list(ask(session, keyspace, ENR, columns, user, course).one())
    assert values[:3] == [5, "a", 2]
    assert all(when > above for when in values[3::2])
    assert [bool(left) for left in values[4::2]] == [ends, ends, False]  # of a map nothing tells when it ends
    what = "issued_certificates, WRITETIME(issued_certificates)"
    found, written = ask(session, keyspace, ENR, what, user, course).one()
    assert sorted(c["identifier"] for c in found) == list(certificates)
    assert min(written) > above


@pytest.mark.parametrize(("kind", "ahead"), TIES)
def test_a_tie_is_never_left_to_the_server(kind, ahead, session, keyspace, service, pair, monkeypatch):
    base = service.store.safe_timestamp()
    monkeypatch.setattr(Store, "safe_timestamp", lambda self: base)
    put(session, keyspace, ENR, enrolment(pair[0], **SOURCE), timestamp=1000)
    existing(session, keyspace, pair[1], kind, base + ahead)
    merge(service, pair)
    certificates = ("c1",) if kind.startswith("deleted") else ("c1", "c2")
    has_what_the_source_had(session, keyspace, pair[1], base + ahead, certificates)


def test_what_was_deleted_a_moment_ago_is_written_all_the_same(session, keyspace, service, pair):
    kinds = ("deleted cells", "deleted row")
    for kind in kinds:
        put(session, keyspace, ENR, enrolment(pair[0], **SOURCE) | {"courseid": kind}, timestamp=1000)
    deleted = micros()
    for kind in kinds:
        existing(session, keyspace, pair[1], kind, deleted, course=kind)
    merge(service, pair, ENR)
    for kind in kinds:
        has_what_the_source_had(session, keyspace, pair[1], deleted, course=kind)


def test_a_row_that_the_platform_just_wrote_with_nulls_takes_the_source_s_values(session, keyspace, service, pair):
    put(session, keyspace, CC, lesson(pair[0], viewcount=3, status=2, lastaccesstime="soon"))
    put(session, keyspace, CC, lesson(pair[1], viewcount=None, status=None, lastaccesstime=None))
    merge(service, pair)
    found = rows(session, keyspace, CC, pair[1])
    assert [(r["viewcount"], r["status"], r["lastaccesstime"]) for r in found] == [(3, 2, "soon")]


# --- maps, sets and nulls -----------------------------------------------------------------------------------------
LAGGING = (
    "UPDATE {}.user_enrolments USING TIMESTAMP {} SET {} WHERE userid = '{}' AND courseid = '{}' AND batchid = '{}'"
)


def lag(session, keyspace, user, sets, when=2000):
    """The platform writes with a clock that lags far behind: only a tombstone of ours could hide it."""
    session.execute(LAGGING.format(keyspace, when, sets, user, COURSE, BATCH))


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_element_that_the_platform_adds_meanwhile_stays(when, session, keyspace, service, pair, monkeypatch):
    put(session, keyspace, ENR, enrolment(pair[0], contentstatus={"L1": 2, "L2": 2}))
    put(session, keyspace, ENR, enrolment(pair[1], contentstatus={"L2": 1, "L3": 2}), timestamp=1000)
    original, raced = Store.write, []

    def racing(self, *arguments, **named):
        if when == "after":
            original(self, *arguments, **named)
        if not raced:
            raced.append(lag(session, keyspace, pair[1], "contentstatus['L9'] = 2"))
        if when == "before":
            original(self, *arguments, **named)

    monkeypatch.setattr(Store, "write", racing)
    merge(service, pair)
    found, kept = ask(session, keyspace, ENR, "contentstatus, WRITETIME(contentstatus['L3'])", pair[1]).one()
    assert dict(found) == {"L1": 2, "L2": 2, "L3": 2, "L9": 2}
    assert kept == 1000  # an element that is right is not written again


def test_what_no_account_has_leaves_no_tombstone(session, keyspace, service, pair):
    for user, more in ((pair[0], {"progress": None, "certstatus": None}), (pair[1], {})):
        put(session, keyspace, ENR, enrolment(user, status=1, contentstatus={"L1": 1}, **more), timestamp=1000)
        put(session, keyspace, CC, lesson(user, viewcount=1), timestamp=1000)
    put(session, keyspace, AGG, aggregate(pair[0], aggregates={"completedCount": 1.0}, agg=None))
    merge(service, pair)
    for table in (ENR, CC, AGG):
        result = ask(session, keyspace, table, "*", pair[1], trace=True)
        assert len(list(result)) == 1
        said = [e.description for e in result.get_query_trace(10).events if "tombstone cells" in e.description]
        assert said == ["Read 1 live rows and 0 tombstone cells"], table
    lag(session, keyspace, pair[1], "progress = 4, contentstatus['L7'] = 1, lastreadcontentid = 'x'")
    found = ask(session, keyspace, ENR, "progress, contentstatus, lastreadcontentid", pair[1]).one()
    assert (found[0], dict(found[1]), found[2]) == (4, {"L1": 1, "L7": 1}, "x")


# --- expiry -------------------------------------------------------------------------------------------------------
def test_rows_that_expire_at_the_source_expire_at_the_target(session, keyspace, service, pair):
    keys = f"'{pair[0]}', '{COURSE}', '{BATCH}'"
    session.execute(
        f"INSERT INTO {keyspace}.{ENR} (userid, courseid, batchid, progress, lastreadcontentid, contentstatus, "
        f"issued_certificates, lastcontentaccesstime) VALUES ({keys}, 5, 'a', {{'L1': 2}}, "
        "[{'identifier': 'c1'}], 1646092800000) USING TTL 3600"
    )
    # Elements with and without an expiry in one map: asking for its TTL() would end the driver's connection.
    session.execute(
        f"UPDATE {keyspace}.{ENR} SET contentstatus['L2'] = 1 WHERE userid = '{pair[0]}' AND courseid = '{COURSE}' "
        f"AND batchid = '{BATCH}'"
    )
    session.execute(
        f"INSERT INTO {keyspace}.{CC} (userid, courseid, batchid, contentid, viewcount) VALUES ({keys}, 'L1', 3) "
        "USING TTL 3600"
    )
    merge(service, pair)
    has_what_the_source_had(session, keyspace, pair[1], ends=True)
    views, left = ask(session, keyspace, CC, "viewcount, TTL(viewcount)", pair[1]).one()
    assert views == 3
    assert 3000 < left <= 3600
    merge(service, pair)
    assert cell(session, keyspace, CC, "viewcount", pair[1]) == 3


# --- the connection -----------------------------------------------------------------------------------------------
def sockets_to(port):
    """Every socket of this process that is connected to the port: own address -> whether Nagle's algorithm is off."""
    found = {}
    for descriptor in range(3, 4096):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                with socket.socket(fileno=os.dup(descriptor)) as one:
                    if one.family in (socket.AF_INET, socket.AF_INET6) and one.getpeername()[1] == port:
                        found[one.getsockname()] = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    return found


def test_nagle_s_algorithm_is_off_on_every_connection(service, pair):
    others = sockets_to(service.settings.cassandra_port)
    with Service(service.settings) as own:
        merge(own, pair)
        opened = {k: v for k, v in sockets_to(service.settings.cassandra_port).items() if k not in others}
    assert len(opened) >= 2
    assert all(opened.values())


@pytest.mark.timeout(120)  # a query from inside a generator that the driver pulls would wait for ever
@pytest.mark.parametrize("sizes", [{"entry_rows": 2, "page_rows": 1}, {"entry_rows": 7, "page_rows": 10}])
def test_many_small_pages_and_entries_end(sizes, session, keyspace, service, pair, monkeypatch):
    for number in range(10):
        put(session, keyspace, CC, lesson(pair[0], f"L{number:02}", viewcount=2))
        put(session, keyspace, CC, lesson(pair[1], f"L{number * 2:02}", viewcount=1))
        put(session, keyspace, ENR, enrolment(pair[0], contentstatus={"L": 2}) | {"batchid": f"{number:02}"})
        put(session, keyspace, AGG, aggregate(pair[0], agg={"x": 1}) | {"context_id": f"cb:{number:02}"})
    execute, pages = Session.execute, []

    def recording(self, query, *arguments, **named):
        pages.append(getattr(query, "fetch_size", None))
        return execute(self, query, *arguments, **named)

    with monkeypatch.context() as watched, Service(service.settings.replace(**sizes)) as own:
        watched.setattr(Session, "execute", recording)
        merge(own, pair)
    assert 0 not in pages  # the driver reads that as one page of everything
    found = {r["contentid"]: r["viewcount"] for r in rows(session, keyspace, CC, pair[1])}
    assert found == {f"L{n:02}": 2 * (n < 10) + (n % 2 == 0) for n in range(19) if n < 10 or n % 2 == 0}
    assert len(rows(session, keyspace, ENR, pair[1])) == len(rows(session, keyspace, AGG, pair[1])) == 10


def test_enrolments_near_the_limits_merge(session, keyspace, service, pair):
    """One request may have 8 MiB, and the server 512 MB: 300 rows of 30 KB, and one of half a MB."""
    large = {f"do_{number:06}-{'x' * 1000}": 2 for number in range(500)}
    put(session, keyspace, ENR, enrolment(pair[0], contentstatus=large))
    put(session, keyspace, ENR, enrolment(pair[1], contentstatus=dict(list(large.items())[::2])))
    middling = {f"do_{number:02}-{'x' * 1000}": 2 for number in range(30)}
    for number in range(300):
        row = enrolment(pair[0], contentstatus=middling) | {"courseid": f"course-{number:03}"}
        put(session, keyspace, ENR, row)
    merge(service, pair, ENR)
    found = {r["courseid"]: r["contentstatus"] for r in rows(session, keyspace, ENR, pair[1])}
    assert found.pop(COURSE) == large
    assert sorted(found) == [f"course-{number:03}" for number in range(300)]
    assert all(value == middling for value in found.values())


def test_aggregates_of_many_partitions_never_share_a_batch(session, keyspace, service, pair):
    """A batch over several partitions may have 50 KiB: these rows have 3 KB each."""
    numbers = {f"score:do_{number:02}-{'x' * 300}": float(number) for number in range(10)}
    for number in range(60):
        course = f"course-{number:03}"
        put(session, keyspace, ENR, enrolment(pair[0], status=1) | {"courseid": course})
        put(session, keyspace, AGG, aggregate(pair[0], aggregates=numbers) | {"activity_id": course})
    merge(service, pair, AGG)
    found = {r["activity_id"]: r["aggregates"] for r in rows(session, keyspace, AGG, pair[1])}
    assert found == {f"course-{number:03}": numbers for number in range(60)}


# --- paging and clocks --------------------------------------------------------------------------------------------
def test_a_row_behind_the_paging_cursor_is_moved_by_the_next_merge_once(session, keyspace, service, pair, monkeypatch):
    for number in range(10, 40):
        put(session, keyspace, CC, lesson(pair[0], f"L{number}", viewcount=1))
    original, behind = Store.write, []

    def racing(self, *arguments, **named):
        if not behind:
            behind.append(put(session, keyspace, CC, lesson(pair[0], "L00", viewcount=4)))
        original(self, *arguments, **named)

    monkeypatch.setattr(Store, "write", racing)
    with Service(service.settings.replace(entry_rows=5, page_rows=5)) as own:
        merge(own, pair)
    assert "L00" not in {r["contentid"] for r in rows(session, keyspace, CC, pair[1])}
    for _ in range(2):
        merge(service, pair)
        found = {r["contentid"]: r["viewcount"] for r in rows(session, keyspace, CC, pair[1])}
        assert found == {"L00": 4} | {f"L{number}": 1 for number in range(10, 40)}


@pytest.mark.parametrize("ahead", [-0.6, 0.0, 0.6])
def test_our_cells_are_dated_by_the_lower_clock_less_the_margin(ahead, session, keyspace, service, pair, monkeypatch):
    put(session, keyspace, CC, lesson(pair[0], viewcount=3), timestamp=1000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    margin = service.settings.clock_margin_seconds
    lower = min(0.0, ahead) - margin
    before = (real() + lower) * 1e6
    merge(service, pair)
    after = (real() + lower) * 1e6
    # The server's clock is read in whole milliseconds, and the journal's next mark lies half a second below at most.
    assert before - 501_000 <= cell(session, keyspace, CC, "WRITETIME(viewcount)", pair[1]) <= after


@pytest.mark.parametrize("ahead", [-5.0, 5.0])
def test_clocks_too_far_apart_write_nothing(ahead, session, keyspace, service, pair, monkeypatch):
    put(session, keyspace, CC, lesson(pair[0], viewcount=3))
    put(session, keyspace, ENR, enrolment(pair[0], status=1))
    merge_id = service.opening.open_merge(MergeRequest((pair[0],), pair[1]))
    assert service.admission.admit(merge_id)["proceed"]
    real = time.time
    with monkeypatch.context() as clock:
        clock.setattr(time, "time", lambda: real() + ahead)
        for table in (CC, ENR):
            with pytest.raises(TransientError) as caught:
                service.merging.merge_table(merge_id, table)
            assert caught.value.code == "CLOCK_SKEW"
            assert "NTP" in caught.value.remedy
    for table in (CC, ENR):
        assert rows(session, keyspace, table, pair[1]) == []
    assert service.journal.need(merge_id).state == "running"  # the task is tried again
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert cell(session, keyspace, CC, "viewcount", pair[1]) == 3
