"""What pages and programs ask of a real journal: a merge by key, its start, lists newest first, reports in pages."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from account_merge.cli.main import run_merge
from account_merge.errors import InvalidRequest
from account_merge.journal import now
from account_merge.listings import MergeFilter
from account_merge.model import MergeRequest
from account_merge.reports.queries import place_of, text_of
from account_merge.service import Service
from tests.journal_sql import sql
from tests.learners import account, lesson, put

CC = "user_content_consumption"


@pytest.fixture
def service(own_world):
    return own_world()


def request(source=None, target=None, **more):
    return MergeRequest((source or account(),), target or account(), **more)


def test_the_same_key_is_the_same_merge_and_another_request_is_refused(service):
    asked = request(reason="one person")
    merge = service.opening.open_once(asked, "ann", "k1")
    assert service.opening.open_once(asked, "ann", "k1").merge_id == merge.merge_id
    assert service.opening.open_once(asked, "bob", "k1").merge_id != merge.merge_id
    assert service.opening.open_once(asked, "ann", "k2").merge_id != merge.merge_id
    for other in (request(), replace(asked, deactivate_sources=True)):
        with pytest.raises(InvalidRequest) as refused:
            service.opening.open_once(other, "ann", "k1")
        assert refused.value.code == "KEY_REUSED"
    assert len(service.journal.all()) == 3


def test_a_bad_request_leaves_nothing_behind(service):
    one = account()
    with pytest.raises(InvalidRequest):
        service.opening.open_once(request(one, one), "ann", "k")
    assert service.journal.all() == []


def test_a_merge_is_started_once_and_what_is_not_triggered_is_found_by_the_poll(service):
    merge = service.opening.open_once(request(), "ann", "k")
    run = service.opening.start(merge)
    assert run["trigger_run_id"] == f"merge__{merge.merge_id}__1"
    assert service.opening.start(merge) is None  # read before it was started
    assert service.opening.start(service.journal.need(merge.merge_id)) is None
    assert service.inbox.next_runs(lambda run_id: None) == []  # it may still be triggered
    before = now() - timedelta(minutes=1)
    sql(service, "UPDATE merges SET updated_at = :at WHERE merge_id = :id", at=before, id=merge.merge_id)
    again = service.inbox.next_runs(lambda run_id: None)
    assert [chosen["trigger_run_id"] for chosen in again] == [f"merge__{merge.merge_id}__2"]


def test_what_cannot_start_now_is_left_to_the_poll(service):
    target = account()
    first = service.opening.open_once(request(target=target), "ann", "first")
    second = service.opening.open_once(request(target=target), "ann", "second")
    assert service.opening.start(second) is None
    service.switch.pause("", "ann", "a pause")
    assert service.opening.start(first) is None
    service.switch.resume("", "ann")
    assert [m.state for m in (service.journal.need(first.merge_id), service.journal.need(second.merge_id))] == [
        "requested", "requested",
    ]  # fmt: skip


@pytest.fixture
def dated(service):
    """Merges created so many days ago, newest first."""

    def make(*days):
        ids = []
        for number in days:
            merge_id = service.opening.open_merge(request(origin="event" if number % 2 else "api"))
            moment = now() - timedelta(days=number)
            sql(service, "UPDATE merges SET created_at = :at WHERE merge_id = :id", at=moment, id=merge_id)
            ids.append(merge_id)
        return ids

    return make


def listed(service, wanted, limit):
    found, place, pages = [], None, 0
    while True:
        merges, place = service.queries.merges(wanted, place, limit)
        found, pages = [*found, *(m.merge_id for m in merges)], pages + 1
        assert len(merges) <= limit
        if place is None:
            return found, pages
        place = place_of(text_of(place))


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_merges_of_any_age_are_listed_newest_first_each_once(service, dated, limit):
    made = dated(0, 0, 1, 2, 5, 40, 300)
    everything, pages = listed(service, MergeFilter(), limit)
    assert everything[2:] == made[2:]
    assert set(everything) == set(made)
    assert pages <= len(made) // limit + 1
    assert listed(service, MergeFilter(origin="event"), limit)[0] == [made[2], made[4]]
    assert set(listed(service, MergeFilter(state="requested"), limit)[0]) == set(made)
    assert listed(service, MergeFilter(state="completed"), limit)[0] == []
    young = MergeFilter(since=now() - timedelta(days=3), until=now() - timedelta(hours=12))
    assert listed(service, young, limit)[0] == made[2:4]
    assert listed(service, MergeFilter(account=service.journal.need(made[5]).request.target), limit)[0] == [made[5]]


@pytest.mark.parametrize("text", ["x", "2026-01-01", "_", "2026-01-01_x", f"{uuid.UUID(int=1)}_{uuid.UUID(int=2)}"])
def test_a_foreign_cursor_is_refused(text):
    with pytest.raises(InvalidRequest) as refused:
        place_of(text)
    assert refused.value.code == "BAD_CURSOR"


def test_a_report_in_pages_is_the_whole_report(service, session):
    source, target = account(), account()
    for number in range(230):
        put(session, service.settings.courses_keyspace, CC, lesson(source, f"L{number:04d}", viewcount=1))
    merge_id = service.opening.open_merge(request(source, target))
    run_merge(service, merge_id, publish=False)
    whole = next(list(t.rows) for t in service.reader.report(merge_id).tables if t.table == CC)
    assert len(whole) == 230
    for limit in (7, 100, 229, 230, 500):
        found, place = [], (0, 0)
        while place is not None:
            rows, place = service.reader.rows(merge_id, CC, place, limit)
            found += rows
        assert found == whole, limit
    assert service.reader.rows(merge_id, CC, (10_000, 5), 10) == ([], None)
    with pytest.raises(InvalidRequest):
        service.reader.rows(merge_id, "nothing")


def test_a_search_in_a_report_finds_each_row_once_over_all_buckets(own_world, session, monkeypatch):
    own = own_world()
    source, target = account(), account()
    with Service(own.settings.replace(entry_rows=1)) as service:  # as many entries as rows: three buckets
        for number in range(230):
            put(session, service.settings.courses_keyspace, CC, lesson(source, f"L{number:04d}", viewcount=1))
        for number in range(0, 230, 23):
            put(session, service.settings.courses_keyspace, CC, lesson(target, f"L{number:04d}", viewcount=1))
        merge_id = service.opening.open_merge(request(source, target))
        run_merge(service, merge_id, publish=False)
        report = next(t for t in service.reader.report(merge_id).tables if t.table == CC)
        whole = list(report.rows)
        assert (dict(report.counts), report.entries) == ({"created": 220, "changed": 10}, 231)
        for looked_through in (40, 1000):
            monkeypatch.setattr("account_merge.reports.reader.SEARCHED", looked_through)
            for what, key, limit in itertools.product(("", "changed", "folded"), ("", "L01", "no"), (30, 500)):
                found, place, pages = [], (0, 0), 0
                while place is not None:
                    rows, place = service.reader.rows(merge_id, CC, place, limit, what, key)
                    assert len(rows) <= limit
                    found, pages = found + rows, pages + 1
                fits = [r for r in whole if what in ("", r["what"]) and (not key or key in r["key"]["contentid"])]
                assert found == fits, (looked_through, what, key, limit)
                assert pages < 20


def test_a_merges_and_an_accounts_story(service, session):
    source, target = account(), account()
    put(session, service.settings.courses_keyspace, CC, lesson(source, viewcount=1))
    merge_id = service.opening.open_merge(request(source, target, requested_by="ann"))
    run_merge(service, merge_id, publish=False)
    repair = service.repairing.repair(merge_id, "ann", "more came")
    story = service.queries.timeline(service.journal.need(merge_id))
    assert [at for at, _, _ in story] == sorted(at for at, _, _ in story)
    assert {("requested", "by ann"), ("first entry", CC), ("repair", f"merge {repair['merge_id']}")} <= {
        s[1:] for s in story
    }
    possible = service.queries.possible(service.journal.need(merge_id))
    assert (possible["undo"], possible["redo"].code) == (None, "CANNOT_REDO")
    found = service.queries.account(source)
    assert (found["survivor"], found["gave"], found["merged_by"]) == (target, [str(merge_id)], str(merge_id))
    with pytest.raises(InvalidRequest) as unknown:
        service.queries.account(account())
    assert unknown.value.code == "UNKNOWN_ACCOUNT"
