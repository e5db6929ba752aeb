"""Expiry: images go by the clock, what counts stays; undos that are still possible find all that they need."""

from __future__ import annotations

import io
import json
import uuid
from datetime import timedelta

import pytest

from account_merge.cli.main import main, run_merge
from account_merge.errors import InvalidRequest, TransientError
from account_merge.journal import Database, now
from account_merge.model import MergeRequest
from account_merge.service import Service
from tests.journal_sql import journal_text, sql
from tests.learners import BATCH, COURSE, account, aggregate, enrolment, event, lesson, put, rows

CC, ENR, AGG = "user_content_consumption", "user_enrolments", "user_activity_agg"
TABLES = (CC, ENR, AGG)


@pytest.fixture
def service(shared_service):
    return shared_service


def merge(service, source, target, **options):
    merge_id = service.opening.open_merge(MergeRequest((source,), target, **{"tables": TABLES} | options))
    answer = run_merge(service, merge_id, publish=False)
    assert answer["state"] == "completed", answer
    return merge_id


def old(session, service, *merge_ids, days=400):
    """Lets the merges have ended so long ago."""
    for merge_id in merge_ids:
        sql(
            service,
            "UPDATE merges SET closed_at = :at WHERE merge_id = :id",
            at=now() - timedelta(days=days),
            id=merge_id,
        )


def expired(session, service, *merge_ids):
    old(session, service, *merge_ids)
    counts = service.retention.run()
    assert counts["expired"] >= len(merge_ids), counts
    assert {service.journal.need(merge_id).expiry for merge_id in merge_ids} == {"done"}


def study(session, keyspace, user, lessons, views=1):
    """A learner's history in one course, as the platform keeps it."""
    for name in lessons:
        put(session, keyspace, CC, lesson(user, name, status=2, progress=100, viewcount=views, completedcount=1))
    put(session, keyspace, ENR, enrolment(user, active=True, status=1, progress=len(lessons),
                                          contentstatus=dict.fromkeys(lessons, 2),
                                          issued_certificates=[{"identifier": f"cert-{user}"}]))  # fmt: skip
    put(session, keyspace, AGG, aggregate(user, aggregates={"completedCount": float(len(lessons)), "score:q": 7.0}))


def everything(session, keyspace, *users):
    return {(table, user): rows(session, keyspace, table, user) for table in TABLES for user in users}


def views(session, keyspace, user):
    return {row["contentid"]: row["viewcount"] for row in rows(session, keyspace, CC, user)}


def completed(session, keyspace, user):
    return rows(session, keyspace, AGG, user)[0]["aggregates"]["completedCount"]


def test_after_its_retention_a_merge_keeps_counts_and_totals_and_no_row(session, keyspace, service):
    source, target = account(), account()
    study(session, keyspace, source, ["Lesson-one", "Lesson-two"], views=3)
    study(session, keyspace, target, ["Lesson-two"], views=2)
    merge_id = merge(service, source, target, reason="she called: Anna Kumar", source_rows="deactivate")
    before = everything(session, keyspace, source, target)
    counts = {t["table"]: t["counts"] for t in service.reader.report(merge_id).to_dict()["tables"]}
    assert service.retention.run()["expired"] == 0 or service.journal.need(merge_id).expiry is None  # it is young
    old(session, service, merge_id)
    assert service.retention.run(dry_run=True)["expired"] >= 1
    assert service.journal.need(merge_id).expiry is None
    expired(session, service, merge_id)

    assert everything(session, keyspace, source, target) == before
    found = service.journal.need(merge_id)
    assert (found.state, found.request.sources, found.request.raw) == ("completed", (source,), None)
    assert service.journal.survivor(source) == target
    text = journal_text(service, merge_id)
    for word in ("Lesson-one", "Lesson-two", COURSE, BATCH, f"cert-{source}", "completedCount", "score:q", "Anna"):
        assert word not in text, word
    shown = service.reader.report(merge_id).to_dict()
    assert {t["table"]: t["counts"] for t in shown["tables"]} == counts
    assert all(not t["rows"] for t in shown["tables"])
    assert any("expired on" in t["note"] for t in shown["tables"])
    assert {d.kind for d in service.audit.differences(merge_id)} == {"expired"}
    for action in ("undo", "redo"):
        with pytest.raises(InvalidRequest, match="CANNOT_REDO" if action == "redo" else "EXPIRED"):
            service.undoing.run(merge_id, action, publish=False)

    # A repeat with a greater total adds the difference; of what was deactivated nothing is lost.
    put(session, keyspace, CC, lesson(source, "Lesson-one", viewcount=5))
    again = account()
    put(session, keyspace, CC, lesson(source, "Lesson-new", viewcount=4))
    merge(service, source, target)
    assert views(session, keyspace, target) == {"Lesson-one": 5, "Lesson-two": 5, "Lesson-new": 4}
    merge(service, source, target)
    assert views(session, keyspace, target) == {"Lesson-one": 5, "Lesson-two": 5, "Lesson-new": 4}
    merge(service, target, again)
    assert rows(session, keyspace, ENR, again)[0]["active"] is True


@pytest.mark.parametrize("state", [True, None])
def test_a_repair_and_a_second_merge_find_what_was_active_before_it_was_set_inactive(state, session, keyspace, service):
    source, target = account(), account()
    study(session, keyspace, source, ["L1"], views=3)
    put(session, keyspace, ENR, enrolment(source, active=state))
    merge_id = merge(service, source, target, source_rows="deactivate")
    expired(session, service, merge_id)
    session.execute(f"DELETE FROM {keyspace}.{ENR} WHERE userid = %s", [target])
    put(session, keyspace, CC, lesson(source, "L1", viewcount=8))
    repair = uuid.UUID(service.repairing.repair(merge_id, "operator", "")["merge_id"])
    assert run_merge(service, repair, publish=False)["state"] == "completed"
    assert rows(session, keyspace, ENR, source)[0]["active"] is False
    assert rows(session, keyspace, ENR, target)[0].get("active") is state
    assert views(session, keyspace, target) == {"L1": 8}


def test_a_younger_merge_is_undone_to_what_the_expired_one_left(session, keyspace, service):
    a, d, target = account(), account(), account()
    study(session, keyspace, a, ["L1", "L2"], views=3)
    study(session, keyspace, d, ["L2", "L3"], views=5)
    study(session, keyspace, target, ["L4"], views=1)
    one = merge(service, a, target)
    between = everything(session, keyspace, target)
    two = merge(service, d, target)
    after = everything(session, keyspace, target)
    expired(session, service, one)
    service.undoing.run(two, publish=False)
    assert everything(session, keyspace, target) == between
    service.undoing.run(two, "redo", publish=False)
    assert everything(session, keyspace, target) == after
    merge(service, a, target)
    assert everything(session, keyspace, target) == after


def test_more_of_the_same_source_is_undone_and_redone_after_the_first_expired(session, keyspace, service):
    source, other, target = account(), account(), account()
    study(session, keyspace, source, ["L1"], views=3)
    study(session, keyspace, other, ["L1"], views=10)
    study(session, keyspace, target, ["L1"], views=1)
    one = merge(service, source, target, tables=(CC,))
    put(session, keyspace, CC, lesson(source, "L1", viewcount=5))
    two, three = (merge(service, user, target, tables=(CC,)) for user in (source, other))
    expired(session, service, one)
    assert views(session, keyspace, target) == {"L1": 16}
    service.undoing.run(three, publish=False)
    assert views(session, keyspace, target) == {"L1": 6}
    service.undoing.run(two, publish=False)
    assert views(session, keyspace, target) == {"L1": 4}
    service.undoing.run(two, "redo", publish=False)
    assert views(session, keyspace, target) == {"L1": 6}


def test_the_lessons_that_an_expired_merge_brought_are_still_told_apart(session, keyspace, service):
    """A chain whose first link has expired ends as one whose links are whole: the union of lessons stays proved."""

    def chain(expire):
        a, b, c = account(), account(), account()
        study(session, keyspace, a, ["L1", "L2"], views=3)
        study(session, keyspace, b, ["L3"], views=1)
        study(session, keyspace, c, ["L3", "L4"], views=1)
        one = merge(service, a, b)
        # The platform counts again and sees only the lessons that the account did itself.
        put(session, keyspace, AGG, aggregate(b, aggregates={"completedCount": 1.0}))
        if expire:
            expired(session, service, one)
        two = merge(service, b, c)
        return a, b, c, two

    (*_, wanted, _), (a, b, c, two) = chain(False), chain(True)
    assert completed(session, keyspace, c) == completed(session, keyspace, wanted) == 4.0
    put(session, keyspace, CC, lesson(a, "L1", viewcount=4))
    late = service.opening.open_merge(MergeRequest((a,), b, tables=TABLES))
    assert run_merge(service, late, publish=False)["state"] == "completed"
    assert service.journal.need(late).survivor == c
    assert views(session, keyspace, c) == {"L1": 4, "L2": 3, "L3": 2, "L4": 1}
    service.undoing.run(late, publish=False)
    service.undoing.run(two, publish=False)
    assert views(session, keyspace, c) == {"L3": 1, "L4": 1}
    assert completed(session, keyspace, c) == 2.0


def test_what_a_younger_undo_replays_does_not_expire(session, keyspace, service):
    a, d, target = account(), account(), account()
    for user in (a, d, target):
        study(session, keyspace, user, ["L1"], views=2)
    one, two = (merge(service, user, target, tables=(CC,)) for user in (a, d))
    service.undoing.run(one, publish=False)
    old(session, service, two)
    assert service.retention.run()["needed"] >= 1
    assert service.journal.need(two).expiry is None
    old(session, service, one, two)
    service.retention.run()
    assert {service.journal.need(one).expiry, service.journal.need(two).expiry} == {"done"}


def test_an_undo_has_its_time(session, keyspace, service):
    source, target = account(), account()
    study(session, keyspace, source, ["L1"])
    before = everything(session, keyspace, target)
    merge_id = merge(service, source, target, tables=(CC,))
    old(session, service, merge_id, days=91)
    with pytest.raises(InvalidRequest, match="UNDO_WINDOW_OVER") as refused:
        service.undoing.run(merge_id, publish=False)
    assert "ACCOUNT_MERGE_UNDO_DAYS" in refused.value.remedy
    with Service(service.settings.replace(undo_days=100.0)) as patient:
        patient.undoing.run(merge_id, publish=False)
    assert everything(session, keyspace, target) == before
    old(session, service, merge_id, days=91)
    with pytest.raises(InvalidRequest, match="UNDO_WINDOW_OVER"):
        service.undoing.run(merge_id, "redo", publish=False)


@pytest.mark.parametrize("harm", ["kept", "remove", "cut", "images"])
def test_a_log_that_was_tampered_with_is_found_after_expiry_too(harm, session, keyspace, service, with_settings):
    source, target = account(), account()
    for number in range(4):
        put(session, keyspace, CC, lesson(source, f"L{number}", viewcount=2))
    merge_id = merge(with_settings(entry_rows=1), source, target, tables=(CC,))
    if harm != "images":
        expired(session, service, merge_id)
    where, this = "WHERE merge_id = :id AND name = :name AND seq =", {"id": merge_id, "name": CC}
    if harm == "kept":
        sql(service, f"UPDATE log SET kept = (SELECT kept FROM log {where} 0) {where} 1", **this)
    elif harm == "images":  # of a merge that has not expired
        sql(service, f"UPDATE log SET payload = NULL {where} 1", **this)
    else:
        sql(service, f"DELETE FROM log {where} {1 if harm == 'remove' else 4}", **this)
    faults = [d for d in service.audit.differences(merge_id) if d.fault]
    assert {(d.kind, d.table) for d in faults} >= {("log", CC)}


def dying(monkeypatch, number, after):
    """Lets the process die around its n-th request to the journal: what it knew is gone, what was written stays."""
    sent = []

    def counted(original):
        def call(self, *arguments, **named):
            sent.append(1)
            if len(sent) == number and not after:
                raise KeyboardInterrupt
            result = original(self, *arguments, **named)
            if len(sent) == number:
                raise KeyboardInterrupt
            return result

        return call

    for name in ("rows", "run"):
        monkeypatch.setattr(Database, name, counted(getattr(Database, name)))
    return sent


def test_an_expiry_that_dies_at_any_request_ends_the_same(session, keyspace, service, monkeypatch):
    def learner():
        source, target = account(), account()
        study(session, keyspace, source, ["lesson-one", "lesson-two"], views=3)
        merge_id = merge(service, source, target, source_rows="deactivate", tables=(ENR, CC))
        old(session, service, merge_id)
        return source, target, merge_id

    def rest(source, merge_id):
        found = service.journal.need(merge_id)
        assert (found.expiry, found.request.raw) == ("done", None)
        assert {d.kind for d in service.audit.differences(merge_id)} == {"expired"}
        text = journal_text(service, merge_id)
        assert "lesson-" not in text  # long enough that no hash holds it by chance
        assert COURSE not in text
        return sorted(name.replace(source, "") for name in found.digests)

    source, _, merge_id = learner()
    with monkeypatch.context() as patch:
        sent = dying(patch, 0, False)
        service.retention.expire(service.journal.need(merge_id))
        requests = len(sent)
    wanted = rest(source, merge_id)
    for number in range(2, requests + 1, max(1, requests // 3)):
        source, target, merge_id = learner()
        with monkeypatch.context() as patch:
            dying(patch, number, after=number % 2 == 0)
            with pytest.raises(KeyboardInterrupt):
                service.retention.expire(service.journal.need(merge_id))
        # Whatever is left then, a repeat counts nothing twice.
        merge(service, source, target, tables=(CC,))
        assert views(session, keyspace, target) == {"lesson-one": 3, "lesson-two": 3}
        with pytest.raises(InvalidRequest, match="EXPIRED|UNDO_WINDOW_OVER"):
            service.undoing.run(merge_id, publish=False)
        service.retention.run()
        assert rest(source, merge_id) == wanted


def test_images_that_go_while_a_merge_reads_them_are_counted_all_the_same(
    session, keyspace, service, with_settings, monkeypatch
):
    from account_merge.sunbird.store import Store

    source, target, small = account(), account(), with_settings(entry_rows=4)
    for number in range(25):
        put(session, keyspace, CC, lesson(source, f"L{number:02d}", viewcount=2))
    merge_id = merge(small, source, target, tables=(CC,))
    old(session, service, merge_id)
    original, went = Store.write, []

    def goes(self, *arguments, **named):
        if not went:
            went.append(1)
            with Service(service.settings) as other:
                other.retention.expire(other.journal.need(merge_id))
        return original(self, *arguments, **named)

    for number in range(25):
        put(session, keyspace, CC, lesson(source, f"L{number:02d}", viewcount=3))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", goes)
        merge(small, source, target, tables=(CC,))
    assert went
    assert set(views(session, keyspace, target).values()) == {3}


def test_a_refused_event_expires_and_is_not_replayed(session, keyspace, service):
    raw = event("same-id-twice", "same-id-twice")
    merge_id = uuid.uuid4()
    service.journal.open(merge_id, MergeRequest((), "", origin="event", raw=raw), "t/0/1", "refused",
                         InvalidRequest("SAME_ACCOUNT", "names same-id-twice", "none"))  # fmt: skip
    old(session, service, merge_id)
    service.retention.run()
    assert service.journal.need(merge_id).expiry is None  # its failed event is owed
    assert service.journal.change(service.journal.need(merge_id), failed_event="sent")
    old(session, service, merge_id)
    service.retention.run()
    assert service.journal.need(merge_id).expiry == "done"
    assert "same-id-twice" not in journal_text(service, merge_id)
    from account_merge.failed_search import FailedMergeFilter

    answer = service.replays.replay(FailedMergeFilter.of(merge_ids=[merge_id]), "operator", dry_run=True)
    assert [item["code"] for item in answer["items"]] == ["EXPIRED"]


def test_the_command_counts_first(session, keyspace, service, shared_environment, monkeypatch):
    source, target = account(), account()
    study(session, keyspace, source, ["L1"])
    merge_id = merge(service, source, target, tables=(CC,))
    old(session, service, merge_id)
    for name, value in shared_environment.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    assert main(["expire", "--dry-run", "--json"], out) == 0
    assert json.loads(out.getvalue())["expired"] >= 1
    assert service.journal.need(merge_id).expiry is None
    assert main(["expire"], out) == 0
    assert service.journal.need(merge_id).expiry == "done"
    assert main(["check", str(merge_id)], out) == 0
    assert main(["show", str(merge_id)], out) == 0
    assert "its images have expired" in out.getvalue()


def test_somebody_who_changes_the_merge_meanwhile_is_noticed(service, keyspace, session):
    source, target = account(), account()
    study(session, keyspace, source, ["L1"])
    merge_id = merge(service, source, target, tables=(CC,))
    seen = service.journal.need(merge_id)
    service.undoing.run(merge_id, publish=False)
    with pytest.raises(TransientError, match="BUSY"):
        service.retention.expire(seen)
    service.retention.expire(service.journal.need(merge_id))
    assert not service.journal.move(seen, "undoing")
