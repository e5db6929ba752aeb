"""The promise on a real Cassandra: never lost, never twice, whatever repeats or arrives in another order."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from account_merge.cli.main import run_merge
from account_merge.errors import InvalidRequest
from account_merge.merge_ids import request_id
from account_merge.model import MergeRequest
from account_merge.rules import TABLES
from account_merge.service import Service
from account_merge.sunbird.store import Store
from tests.learners import BATCH, COURSE, account, aggregate, enrolment, lesson, moment, put, rows

CC, ENR, AGG, ASM = "user_content_consumption", "user_enrolments", "user_activity_agg", "assessment_aggregator"


@pytest.fixture
def service(shared_service):
    """On the keyspaces that these tests share; a test that changes tables takes `own_service`."""
    return shared_service


@pytest.fixture
def own_service(settings):
    with Service(settings) as found:
        found.journal.create()
        yield found


def merge(service, source, target, **options):
    sources = (source,) if isinstance(source, str) else tuple(source)
    merge_id = service.opening.open_merge(MergeRequest(sources, target, **options))
    return run_merge(service, merge_id, publish=False)


def views(session, keyspace, user):
    return [r["viewcount"] for r in rows(session, keyspace, CC, user)]


def test_repeats_count_nothing_twice_and_late_activity_moves_once(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    put(session, keyspace, CC, lesson(target, viewcount=2))
    assert merge(service, source, target)["state"] == "completed"
    assert merge(service, source, target)["state"] == "completed"
    assert views(session, keyspace, target) == [5]
    put(session, keyspace, CC, lesson(source, viewcount=7))
    merge(service, source, target)
    merge(service, source, target)
    assert views(session, keyspace, target) == [9]


def test_a_counter_that_fell_gives_nothing(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    merge(service, source, target)
    put(session, keyspace, CC, lesson(source, viewcount=1))
    merge(service, source, target)
    assert views(session, keyspace, target) == [3]


@pytest.mark.parametrize("order", ["forward", "backward"])
def test_chain_ends_in_one_account_in_any_order(order, session, keyspace, service):
    a, b, c = account(), account(), account()
    for user, count in ((a, 1), (b, 2), (c, 4)):
        put(session, keyspace, CC, lesson(user, viewcount=count))
    pairs = [(a, b), (b, c)]
    for source, target in pairs if order == "forward" else reversed(pairs):
        assert merge(service, source, target)["state"] == "completed"
    assert views(session, keyspace, c) == [7]
    assert service.journal.survivor(a) == c


def test_circle_is_refused_with_a_remedy_and_changes_nothing(session, keyspace, service):
    a, b = account(), account()
    put(session, keyspace, CC, lesson(a, viewcount=1))
    merge(service, a, b)
    before = rows(session, keyspace, CC, a)
    answer = merge(service, b, a)
    assert answer["state"] == "refused"
    assert answer["error"]["code"] == "INTO_ITSELF"
    assert answer["error"]["remedy"]
    assert rows(session, keyspace, CC, a) == before


def test_self_merge_is_refused(service):
    a = account()
    with pytest.raises(InvalidRequest, match="SAME_ACCOUNT"):
        service.opening.open_merge(MergeRequest((a,), a))


def test_source_that_lives_elsewhere_is_refused(session, keyspace, service):
    a, b, c = account(), account(), account()
    merge(service, a, b)
    assert merge(service, a, c)["error"]["code"] == "ALREADY_MERGED"


def test_merge_waits_while_another_holds_its_account_and_goes_on_after(session, keyspace, service):
    a, b, c = account(), account(), account()
    put(session, keyspace, CC, lesson(a, viewcount=1))
    first = service.opening.open_merge(MergeRequest((a,), b))
    service.admission.admit(first)
    second = service.opening.open_merge(MergeRequest((b,), c))
    answer = service.admission.admit(second)
    assert (answer["proceed"], answer["state"]) == (False, "waiting")
    assert str(first) in answer["note"]
    assert run_merge(service, first, publish=False)["state"] == "completed"
    assert run_merge(service, second, publish=False)["state"] == "completed"
    assert views(session, keyspace, c) == [1]


def test_several_sources_give_the_same_in_any_listed_order(session, keyspace, service):
    results = []
    for turn in (1, -1):
        users = [account() for _ in range(3)]
        target = account()
        for number, user in enumerate(users):
            put(session, keyspace, CC, lesson(user, viewcount=number + 1, progress=10 * number, status=1))
            put(session, keyspace, ENR, enrolment(user, progress=number, status=number))
        merge(service, users[::turn], target)
        results.append((rows(session, keyspace, CC, target), rows(session, keyspace, ENR, target)))
    assert results[0] == results[1]
    assert results[0][0][0]["viewcount"] == 6


def test_skip_leaves_rows_that_both_have_in_every_table(session, keyspace, service):
    source, target = account(), account()
    for user, count in ((source, 5), (target, 1)):
        put(session, keyspace, ENR, enrolment(user, progress=count))
        put(session, keyspace, CC, lesson(user, viewcount=count))
    put(session, keyspace, ENR, enrolment(source, progress=4) | {"batchid": "other"})
    put(session, keyspace, CC, lesson(source, viewcount=2) | {"batchid": "other"})
    merge(service, source, target, on_conflict="skip")
    assert {r["batchid"]: r["progress"] for r in rows(session, keyspace, ENR, target)} == {BATCH: 1, "other": 4}
    assert {r["batchid"]: r["viewcount"] for r in rows(session, keyspace, CC, target)} == {BATCH: 1, "other": 2}


def test_preview_writes_nothing_and_shows_the_same_changes(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    put(session, keyspace, CC, lesson(target, viewcount=2))
    planned = service.previews.preview(MergeRequest((source,), target)).to_dict()
    assert views(session, keyspace, target) == [2]
    assert not service.journal.known(source)
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    run_merge(service, merge_id, publish=False)
    done = service.reader.report(merge_id).to_dict()
    for before, after in zip(planned["tables"], done["tables"], strict=True):
        assert [(r["key"], r["after"]) for r in before["rows"]] == [(r["key"], r["after"]) for r in after["rows"]]


def test_a_dry_run_ends_closed_and_writes_nothing_whatever_door_it_comes_by(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    request = MergeRequest((source,), target, dry_run=True, requested_by="one")
    proposed = request_id("run", request.sources, request.target)
    service.proposals.propose(request, proposed)
    service.proposals.approve(proposed, "two")
    for merge_id in (service.opening.open_merge(request), proposed):
        answer = run_merge(service, merge_id, publish=False)
        assert (answer["state"], "dry run" in answer["note"], answer["error"]) == ("abandoned", True, None)
        assert service.merging.merge_table(merge_id, CC)["created"] == 0
    assert rows(session, keyspace, CC, target) == []
    assert service.journal.holder(source) is None
    assert (
        run_merge(service, service.opening.open_merge(MergeRequest((source,), target)), publish=False)["state"]
        == "completed"
    )


@pytest.mark.parametrize("state", [True, False, None])
def test_deactivated_source_rows_are_inactive_and_the_target_s_are_as_they_were_at_the_source(
    state, session, keyspace, service
):
    """Also by a repair, by the same merge again and for the next account, which all read what our own log set inactive."""
    source, target, last = account(), account(), account()
    put(session, keyspace, ENR, enrolment(source, status=1) | ({} if state is None else {"active": state}))
    merge_id = uuid.UUID(merge(service, source, target, source_rows="deactivate")["id"])

    def shown(user):
        return [r.get("active") for r in rows(session, keyspace, ENR, user)]

    repair = uuid.UUID(service.repairing.repair(merge_id, "operator", "")["merge_id"])
    assert run_merge(service, repair, publish=False)["state"] == "completed"
    assert (shown(source), shown(target)) == ([False], [state])
    merge(service, source, target, source_rows="deactivate")
    assert (shown(source), shown(target)) == ([False], [state])
    merge(service, target, last, source_rows="deactivate")
    assert (shown(target), shown(last)) == ([False], [state])
    service.undoing.run(service.journal.find("accounts", last)[0].merge_id, publish=False)
    assert (shown(target), shown(last)) == ([state], [])


def test_where_a_learner_was_last_comes_from_one_account_and_the_undo_gives_it_back(session, keyspace, service):
    """Old rows show no time of access: then the last change decides. What the row that leads lacks is emptied."""
    source, target = account(), account()
    late, early = moment("2024-05-01T10:00:00Z"), moment("2024-02-01T10:00:00Z")
    put(session, keyspace, ENR, enrolment(source, datetime=late, lastreadcontentid="late"))
    put(session, keyspace, ENR, enrolment(
        target, datetime=early, lastcontentaccesstime=early, lastreadcontentid="early", lastreadcontentstatus=2,
        completedon=moment("1970-01-20T10:00:00Z")))  # fmt: skip
    before = rows(session, keyspace, ENR, target)
    merge_id = uuid.UUID(merge(service, source, target)["id"])
    row = rows(session, keyspace, ENR, target)[0]
    assert (row["lastreadcontentid"], row.get("lastreadcontentstatus")) == ("late", None)
    table = next(t for t in service.reader.report(merge_id).to_dict()["tables"] if t["table"] == ENR)
    assert [
        note
        for r in list(table["rows"])
        for note in r["notes"]
        if "completedon: the target has a time that cannot" in note
    ]
    assert list(service.audit.differences(merge_id)) == []
    service.undoing.run(merge_id, publish=False)
    assert rows(session, keyspace, ENR, target) == before


def test_unknown_column_moves_and_an_absent_table_is_said(session, own_service):
    service, keyspace = own_service, own_service.settings.courses_keyspace
    session.execute(f"ALTER TABLE {keyspace}.{ENR} ADD site_badge text")
    session.execute(f"DROP TABLE {keyspace}.{ASM}")
    source, target = account(), account()
    put(session, keyspace, ENR, enrolment(source, site_badge="gold", status=1))
    put(session, keyspace, ENR, enrolment(target, status=1))
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    run_merge(service, merge_id, publish=False)
    assert rows(session, keyspace, ENR, target)[0]["site_badge"] == "gold"
    notes = {t["table"]: t["note"] for t in service.reader.report(merge_id).to_dict()["tables"]}
    assert "no such table" in notes[ASM]


@pytest.mark.parametrize("schema_family", ["spark"], indirect=True)
def test_spark_schema_family_merges_alike(session, own_service):
    service, keyspace = own_service, own_service.settings.courses_keyspace
    source, target = account(), account()
    for user, count in ((source, 3), (target, 2)):
        row = {
            "userid": user,
            "collectionid": COURSE,
            "contextid": BATCH,
            "contentid": "L1",
            "viewcount": count,
            "status": 2,
        }
        put(session, keyspace, CC, row)
        put(session, keyspace, ENR, enrolment(user, progress=count))
    attempt = {
        "collection_id": COURSE,
        "context_id": BATCH,
        "user_id": source,
        "content_id": "q",
        "attempt_id": "a1",
        "total_score": 4.0,
    }
    put(session, keyspace, ASM, attempt)
    assert merge(service, source, target)["state"] == "completed"
    assert views(session, keyspace, target) == [5]
    assert rows(session, keyspace, ASM, target)[0]["total_score"] == 4.0


def test_nothing_to_merge_is_a_success_that_says_so(service):
    merge_id = service.opening.open_merge(MergeRequest((account(),), account()))
    service.admission.admit(merge_id)
    answer = service.merging.merge_table(merge_id, CC)
    assert "nothing to merge" in answer["note"]


def test_clearing_any_task_later_changes_nothing(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    put(session, keyspace, ENR, enrolment(source, certificates=[{"identifier": "c1"}]))
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    run_merge(service, merge_id, publish=False)
    put(session, keyspace, CC, lesson(target, viewcount=9))
    state = [rows(session, keyspace, t, target) for t in (CC, ENR)]
    assert service.admission.admit(merge_id)["proceed"]
    for table in TABLES:
        service.merging.merge_table(merge_id, table)
    assert [rows(session, keyspace, t, target) for t in (CC, ENR)] == state


def platform_writes_during(monkeypatch, when, write):
    """Lets the platform write once, right before or after the merge's own write reaches the server."""
    original, done = Store.write, []

    def racing(self, *arguments, **named):
        if not done and when == "before":
            done.append(write())
        original(self, *arguments, **named)
        if not done:
            done.append(write())

    monkeypatch.setattr(Store, "write", racing)


@pytest.mark.parametrize(("when", "value", "expected"), [("before", 3, 6), ("after", 6, 6)])
def test_a_platform_write_meanwhile_is_folded_in(when, value, expected, session, keyspace, service, monkeypatch):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3, progress=50))
    put(session, keyspace, CC, lesson(target, viewcount=2, progress=60))
    platform_writes_during(
        monkeypatch, when, lambda: put(session, keyspace, CC, lesson(target, viewcount=value, progress=70))
    )
    assert merge(service, source, target)["state"] == "completed"
    row = rows(session, keyspace, CC, target)[0]
    assert (row["viewcount"], row["progress"]) == (expected, 70)


def test_an_ambiguous_write_names_both_readings(session, keyspace, service, monkeypatch):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=1))
    put(session, keyspace, CC, lesson(target, viewcount=2))
    platform_writes_during(monkeypatch, "before", lambda: put(session, keyspace, CC, lesson(target, viewcount=5)))
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    run_merge(service, merge_id, publish=False)
    notes = [n for t in service.reader.report(merge_id).to_dict()["tables"] for r in t["rows"] for n in r["notes"]]
    assert any("5" in n and "6" in n for n in notes), notes


def test_a_write_from_the_future_is_rewritten_above_it(session, keyspace, service):
    source, target = account(), account()
    ahead = int((time.time() + 3600) * 1e6)
    put(session, keyspace, CC, lesson(source, viewcount=3))
    put(session, keyspace, CC, lesson(target, viewcount=2), timestamp=ahead)
    assert merge(service, source, target)["state"] == "completed"
    assert views(session, keyspace, target) == [5]


def test_lists_are_not_doubled_by_a_second_writer(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, ENR, enrolment(source, issued_certificates=[{"identifier": "c1"}, {"identifier": "c2"}]))
    put(session, keyspace, AGG, aggregate(source, agg_details=['{"attempt_id": "a1"}']))
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    service.admission.admit(merge_id)

    def both(table):
        with Service(service.settings) as one, Service(service.settings) as two, ThreadPoolExecutor(2) as pool:
            return [f.result() for f in [pool.submit(s.merging.merge_table, merge_id, table) for s in (one, two)]]

    for table in TABLES:
        both(table)
    service.merging.publish_sync(merge_id, publish=False)
    enrolled = session.execute(f"SELECT issued_certificates FROM {keyspace}.{ENR} WHERE userid=%s", [target]).one()
    assert [c["identifier"] for c in enrolled.issued_certificates] == ["c1", "c2"]
    assert rows(session, keyspace, AGG, target)[0]["agg_details"] == ['{"attempt_id": "a1"}']


def test_a_platform_list_write_after_ours_stays(session, keyspace, service, monkeypatch):
    source, target = account(), account()
    put(session, keyspace, ENR, enrolment(source, issued_certificates=[{"identifier": "c1"}]))
    put(session, keyspace, ENR, enrolment(target, issued_certificates=[{"identifier": "c2"}]))
    newer = enrolment(target, issued_certificates=[{"identifier": "c2"}, {"identifier": "c3"}])
    platform_writes_during(monkeypatch, "after", lambda: put(session, keyspace, ENR, newer))
    merge(service, source, target)
    found = rows(session, keyspace, ENR, target)[0]["issued_certificates"]
    assert sorted(c["identifier"] for c in found) == ["c1", "c2", "c3"]


def test_rows_without_values_exist_afterwards(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, ENR, enrolment(source))
    merge(service, source, target)
    assert rows(session, keyspace, ENR, target) == [{"courseid": COURSE, "batchid": BATCH}]


def test_unit_rows_are_found_through_an_index(session, own_service):
    service, keyspace = own_service, own_service.settings.courses_keyspace
    session.execute(f"CREATE INDEX ON {keyspace}.{AGG} (user_id) USING 'sai'")
    source, target = account(), account()
    put(session, keyspace, AGG, aggregate(source, aggregates={"completedCount": 2.0}) | {"activity_id": "unit-1"})
    merge(service, source, target)
    assert rows(session, keyspace, AGG, target)[0]["activity_id"] == "unit-1"


def test_merge_id_of_a_run_is_the_same_for_a_cleared_run(service):
    one = request_id("manual__1", ["a", "b"], "c")
    assert one == request_id("manual__1", ["b", "a"], "c")
    assert isinstance(one, uuid.UUID)
