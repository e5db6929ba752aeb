"""Undo, redo, abandon and repair on a real Cassandra: exact when nothing happened since, three-way when life went on."""

from __future__ import annotations

import json
import uuid
from datetime import datetime

import pytest

from account_merge.cli.main import run_merge
from account_merge.errors import InvalidRequest, NeedsAttention
from account_merge.journal.merges import Merges
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.sunbird.store import Store
from tests.learners import BATCH, COURSE, account, aggregate, enrolment, lesson, put, rows

CC, ENR, AGG, ASM = "user_content_consumption", "user_enrolments", "user_activity_agg", "assessment_aggregator"
TABLES = (CC, ENR, AGG, ASM)
DAY = datetime(2022, 3, 1, 10, 15, 30)


@pytest.fixture
def service(shared_service):
    return shared_service


def merge(service, source, target, **options):
    sources = (source,) if isinstance(source, str) else tuple(source)
    merge_id = service.opening.open_merge(MergeRequest(sources, target, **options))
    answer = run_merge(service, merge_id, publish=False)
    assert answer["state"] == "completed", answer
    return merge_id


def undo(service, merge_id, action="undo"):
    answer = service.undoing.run(merge_id, action, publish=False)
    assert answer["state"] == ("undone" if action == "undo" else "completed"), answer


def everything(session, keyspace, *users):
    return {(table, user): rows(session, keyspace, table, user) for table in TABLES for user in users}


def attempt(user, name, score):
    return {"course_id": COURSE, "batch_id": BATCH, "user_id": user, "content_id": "q", "attempt_id": name,
            "total_score": score, "total_max_score": 10.0, "last_attempted_on": DAY}  # fmt: skip


def detail(name):
    return json.dumps({"attempt_id": name, "content_id": "q", "last_attempted_on": "Mar 1, 2022, 1:00:00 AM"})


def study(session, keyspace, user, lessons, *, views=1, certificate=None, score=None):
    """A learner's history in one course, as the platform keeps it."""
    for name in lessons:
        put(session, keyspace, CC, lesson(user, name, status=2, progress=100, viewcount=views, completedcount=1,
                                          last_access_time=DAY, lastaccesstime="2022-03-01 15:45:30:000+0530"))  # fmt: skip
    issued = [{"identifier": certificate, "name": "Completion"}] if certificate else None
    put(session, keyspace, ENR, enrolment(user, active=True, status=1, progress=len(lessons), enrolled_date=DAY,
                                          addedby=user, contentstatus=dict.fromkeys(lessons, 2),
                                          issued_certificates=issued))  # fmt: skip
    numbers = {"completedCount": float(len(lessons))}
    if score is not None:
        numbers |= {"score:q": score, "max_score:q": 10.0, "attempts_count:q": 1.0}
        put(session, keyspace, ASM, attempt(user, f"try-{user}", score))
    details = [detail(f"try-{user}")] if score is not None else None
    put(session, keyspace, AGG, aggregate(user, aggregates=numbers, agg_details=details,
                                          agg_last_updated=dict.fromkeys(numbers, DAY)))  # fmt: skip


def pair(session, keyspace):
    source, target = account(), account()
    study(session, keyspace, source, ["L1", "L2", "L3"], views=3, certificate="c1", score=7.0)
    study(session, keyspace, target, ["L3", "L4"], views=2, certificate="c2", score=5.0)
    put(session, keyspace, ENR, enrolment(source, status=2, progress=1) | {"courseid": "only-the-source-s"})
    put(session, keyspace, CC, lesson(source, "X", viewcount=1) | {"courseid": "only-the-source-s"})
    put(session, keyspace, ENR, enrolment(target) | {"courseid": "bare"})
    return source, target


def test_undo_of_a_merge_is_what_was_before_and_redo_is_what_was_after(session, keyspace, service):
    source, target = pair(session, keyspace)
    before = everything(session, keyspace, source, target)
    merge_id = merge(service, source, target)
    after = everything(session, keyspace, source, target)
    assert before != after
    undo(service, merge_id)
    assert everything(session, keyspace, source, target) == before
    assert service.journal.holder(target) is None
    assert service.journal.survivor(source) == source
    undo(service, merge_id)  # once more: nothing
    assert everything(session, keyspace, source, target) == before
    undo(service, merge_id, "redo")
    assert everything(session, keyspace, source, target) == after
    assert service.journal.survivor(source) == target
    undo(service, merge_id)
    assert everything(session, keyspace, source, target) == before
    # The accounts can be merged again, by a new merge, to the same end.
    merge(service, source, target)
    assert everything(session, keyspace, source, target) == after


def test_a_preview_of_undo_writes_nothing_and_shows_the_same(session, keyspace, service):
    source, target = pair(session, keyspace)
    merge_id = merge(service, source, target)
    after = everything(session, keyspace, source, target)
    shown = {t["table"]: t["rows"] for t in service.previews.preview_undo(merge_id).to_dict()["tables"]}
    assert everything(session, keyspace, source, target) == after
    assert service.journal.need(merge_id).state == "completed"
    undo(service, merge_id)
    done = {
        t["table"]: t["rows"] for t in service.reader.report(merge_id).to_dict()["tables"] if t["table"][:5] == "undo-"
    }
    assert set(done) == set(shown)
    for table, found in done.items():
        assert [(r["key"], r["before"], r["after"]) for r in found] == [
            (r["key"], r["before"], r["after"]) for r in shown[table]
        ]
    assert {r["what"] for r in done["undo-1/user_enrolments"]} == {"changed", "deleted"}


def test_life_went_on_and_stays(session, keyspace, service):
    source, target = pair(session, keyspace)
    merge_id = merge(service, source, target)
    # The learner goes on in the surviving account: one more view, one more lesson, as the platform writes it.
    put(session, keyspace, CC, lesson(target, "L3", viewcount=9))
    put(session, keyspace, CC, lesson(target, "L5", viewcount=1, status=2))
    put(session, keyspace, ENR, enrolment(target, contentstatus=dict.fromkeys(["L1", "L2", "L3", "L4", "L5"], 2),
                                          progress=5, lastreadcontentid="L5"))  # fmt: skip
    session.execute(
        f"UPDATE {keyspace}.{AGG} SET aggregates['completedCount'] = 5 WHERE activity_type = 'Course' AND activity_id = %s "
        "AND user_id = %s AND context_id = %s",
        [COURSE, target, f"cb:{BATCH}"],
    )
    undo(service, merge_id)
    views = {r["contentid"]: r["viewcount"] for r in rows(session, keyspace, CC, target)}
    assert views == {"L3": 6, "L4": 2, "L5": 1}
    enrolled = next(r for r in rows(session, keyspace, ENR, target) if r["courseid"] == COURSE)
    assert enrolled["contentstatus"] == {"L3": 2, "L4": 2, "L5": 2}
    assert (enrolled["progress"], enrolled["lastreadcontentid"]) == (3, "L5")
    assert enrolled["issued_certificates"] == [{"identifier": "c2", "name": "Completion"}]
    assert rows(session, keyspace, AGG, target)[0]["aggregates"]["completedCount"] == 3.0
    report = {t["table"]: t for t in service.reader.report(merge_id).to_dict()["tables"]}
    notes = [n for r in report[f"undo-1/{CC}"]["rows"] for n in r["notes"]]
    assert [n for n in notes if "viewcount" in n], notes


@pytest.mark.parametrize("first", ["a", "d"])
def test_of_two_sources_either_is_undone_in_either_order(first, session, keyspace, service):
    def learners():
        a, d, t = account(), account(), account()
        study(session, keyspace, a, ["L1", "L2"], views=3, certificate="ca", score=7.0)
        study(session, keyspace, d, ["L2", "L3"], views=5, certificate="cd", score=9.0)
        study(session, keyspace, t, ["L4"], views=1, certificate="ct", score=2.0)
        return a, d, t

    def shape(user, *names):
        text = json.dumps([rows(session, keyspace, table, user) for table in TABLES], sort_keys=True, default=str)
        for name, one in names:
            text = text.replace(one, name)
        # Lists are compared as sets, which the names put into another order.
        return sorted(part.strip() for part in text.replace("[", ",").replace("]", ",").split(","))

    a, d, t = learners()
    names = [("A", a), ("D", d), ("T", t)]
    before = shape(t, *names)
    of_a, of_d = merge(service, a, t), merge(service, d, t)
    one, other = (of_a, of_d) if first == "a" else (of_d, of_a)
    undo(service, one)
    # Merged alone, by other accounts of the same history.
    a2, d2, t2 = learners()
    merge(service, d2 if first == "a" else a2, t2)
    assert shape(t, *names) == shape(t2, ("A", a2), ("D", d2), ("T", t2))
    undo(service, other)
    assert shape(t, *names) == before


def test_a_chain_is_undone_from_its_end(session, keyspace, service):
    a, b, c = account(), account(), account()
    for user, lessons in ((a, ["L1"]), (b, ["L2"]), (c, ["L3"])):
        study(session, keyspace, user, lessons)
    before = everything(session, keyspace, a, b, c)
    one, two = merge(service, a, b), merge(service, b, c)
    with pytest.raises(InvalidRequest, match="UNDO_FIRST") as refused:
        service.undoing.run(one, publish=False)
    assert str(two) in refused.value.remedy
    undo(service, two)
    undo(service, one)
    assert everything(session, keyspace, a, b, c) == before


def test_a_merge_that_another_one_came_by_is_undone_after_it(session, keyspace, service):
    a, b, c = account(), account(), account()
    for user, lessons in ((a, ["L1"]), (b, ["L2"]), (c, ["L3"])):
        study(session, keyspace, user, lessons)
    before = everything(session, keyspace, a, b, c)
    onward = merge(service, b, c)
    by_way = merge(service, a, b)  # b lives in c
    assert service.journal.need(by_way).survivor == c
    with pytest.raises(InvalidRequest, match="UNDO_FIRST") as refused:
        service.undoing.run(onward, publish=False)
    assert str(by_way) in refused.value.remedy
    undo(service, by_way)
    undo(service, onward)
    assert everything(session, keyspace, a, b, c) == before
    # It went to another account than its target is now.
    with pytest.raises(InvalidRequest, match="CANNOT_REDO"):
        service.undoing.run(by_way, "redo", publish=False)


def test_more_of_the_same_source_is_undone_first(session, keyspace, service):
    source, target = pair(session, keyspace)
    before = everything(session, keyspace, target)
    one = merge(service, source, target)
    put(session, keyspace, CC, lesson(source, "L1", viewcount=8))
    two = merge(service, source, target)
    with pytest.raises(InvalidRequest, match="UNDO_FIRST"):
        service.undoing.run(one, publish=False)
    undo(service, two)
    undo(service, one)
    assert everything(session, keyspace, target) == before


def test_a_merge_that_stopped_half_way_is_undone_and_its_stalled_writer_changes_nothing(
    session, keyspace, service, monkeypatch
):
    source, target = pair(session, keyspace)
    for number in range(250):
        put(session, keyspace, CC, lesson(source, f"M{number:03d}", viewcount=2))
    before = everything(session, keyspace, source, target)
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    original, stalled = Store.write, []

    def stalls(self, schema, account_id, changes, attempt=0, *more):
        changes = list(changes)
        if stalled:
            raise RuntimeError("the process stops here")
        if not stalled:
            stalled.append((schema, account_id, changes, attempt))
            return
        original(self, schema, account_id, changes, attempt)

    service.admission.admit(merge_id)
    for table in (AGG, ENR, ASM):
        service.merging.merge_table(merge_id, table)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", stalls)
        with pytest.raises(RuntimeError):
            service.merging.merge_table(merge_id, CC)
    assert stalled
    service.failures.fail(merge_id, "manual__1", "the process was stopped")
    undo(service, merge_id)
    assert everything(session, keyspace, source, target) == before
    # The stalled writer wakes: its values are older than the undo's.
    original(service.store, *stalled[0])
    assert everything(session, keyspace, source, target) == before
    with pytest.raises(InvalidRequest, match="CANNOT_REDO"):
        service.undoing.run(merge_id, "redo", publish=False)


def test_a_worker_that_wakes_after_the_undo_cannot_append(session, keyspace, service, monkeypatch):
    source, target = pair(session, keyspace)
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    service.admission.admit(merge_id)
    original, undone = Store.write, []

    def sleeps(self, schema, account_id, changes, attempt=0, *more):
        if not undone:
            undone.append(1)
            with Service(service.settings) as other, monkeypatch.context() as patch:
                patch.setattr(Store, "write", original)
                other.failures.fail(merge_id, "manual__1", "it does not answer")
                other.undoing.run(merge_id, publish=False)
                undone.append(everything(session, keyspace, target))
        original(self, schema, account_id, changes, attempt)

    monkeypatch.setattr(Store, "write", sleeps)
    with pytest.raises(NeedsAttention, match="NOT_RUNNING"):
        service.merging.merge_table(merge_id, ENR)
    assert everything(session, keyspace, target) == undone[1]
    assert service.journal.need(merge_id).state == "undone"


def test_an_undo_that_was_stopped_goes_on(session, keyspace, service, monkeypatch):
    source, target = pair(session, keyspace)
    before = everything(session, keyspace, source, target)
    merge_id = merge(service, source, target)
    original, calls = Store.write, []

    def dies(self, *arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("the process stops here")
        original(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", dies)
        with pytest.raises(RuntimeError):
            service.undoing.run(merge_id, publish=False)
    assert service.journal.need(merge_id).state == "undoing"
    assert service.journal.holder(target).merge_id == merge_id
    undo(service, merge_id)
    assert everything(session, keyspace, source, target) == before


def test_an_undo_that_slept_through_an_undo_and_a_redo_takes_nobody_s_name(session, keyspace, service, monkeypatch):
    source, target = pair(session, keyspace)
    before = everything(session, keyspace, source, target)
    merge_id = merge(service, source, target)
    original, slept = Merges.lock, []

    def sleeps(self, wanted):
        if not slept:
            slept.append(wanted)
            with Service(service.settings) as other:
                other.undoing.run(merge_id, publish=False)
                other.undoing.run(merge_id, "redo", publish=False)
        return original(self, wanted)

    with monkeypatch.context() as patch:
        patch.setattr(Merges, "lock", sleeps)
        undo(service, merge_id)
    assert slept == [merge_id]
    found = service.journal.need(merge_id)
    assert service.journal.operations(found) == ["undo-1", "redo-2", "undo-3"]
    assert everything(session, keyspace, source, target) == before


@pytest.mark.parametrize(("when", "value", "expected"), [("before", 6, 3), ("after", 3, 3)])
def test_a_platform_write_during_an_undo_is_replayed(when, value, expected, session, keyspace, service, monkeypatch):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    put(session, keyspace, CC, lesson(target, viewcount=2))
    merge_id = merge(service, source, target)
    original, done = Store.write, []

    def racing(self, *arguments, **named):
        # One more view: counted by the platform from what it read just before, or just after, the undo's write.
        if not done and when == "before":
            done.append(put(session, keyspace, CC, lesson(target, viewcount=value)))
        original(self, *arguments, **named)
        if not done:
            done.append(put(session, keyspace, CC, lesson(target, viewcount=value)))

    monkeypatch.setattr(Store, "write", racing)
    undo(service, merge_id)
    assert [r["viewcount"] for r in rows(session, keyspace, CC, target)] == [expected]


def test_deactivated_rows_are_active_again(session, keyspace, service):
    source, target = pair(session, keyspace)
    before = everything(session, keyspace, source, target)
    merge_id = merge(service, source, target, source_rows="deactivate")
    after = everything(session, keyspace, source, target)
    assert not any(r.get("active") for r in rows(session, keyspace, ENR, source))
    undo(service, merge_id)
    assert everything(session, keyspace, source, target) == before
    undo(service, merge_id, "redo")
    assert everything(session, keyspace, source, target) == after


def test_a_writer_that_wakes_after_the_undo_deactivates_nothing(session, keyspace, service, monkeypatch):
    source, target = pair(session, keyspace)
    before = rows(session, keyspace, ENR, source)
    merge_id = service.opening.open_merge(MergeRequest((source,), target, source_rows="deactivate"))
    service.admission.admit(merge_id)
    original, stalled = Store.write, []

    def sleeps(self, schema, account_id, changes, attempt=0, *more):
        if account_id == source:
            stalled.append((schema, account_id, list(changes), attempt))
            raise RuntimeError("the process stands still here")
        original(self, schema, account_id, changes, attempt)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", sleeps)
        with pytest.raises(RuntimeError):
            service.merging.merge_table(merge_id, ENR)
    service.failures.fail(merge_id, "manual__1", "the process was stopped")
    undo(service, merge_id)
    assert [change.writes["active"].value for change in stalled[0][2]] == [False] * len(stalled[0][2])
    original(service.store, *stalled[0])
    assert rows(session, keyspace, ENR, source) == before


def test_another_merge_that_holds_an_account_is_named(session, keyspace, service):
    source, target, other = account(), account(), account()
    study(session, keyspace, source, ["L1"])
    merge_id = merge(service, source, target)
    open_one = service.opening.open_merge(MergeRequest((other,), target))
    service.admission.admit(open_one)
    with pytest.raises(InvalidRequest, match="ACCOUNT_HELD") as refused:
        service.undoing.run(merge_id, publish=False)
    assert str(open_one) in refused.value.message
    assert service.journal.need(merge_id).state == "completed"


def test_an_abandoned_merge_keeps_what_it_wrote_and_counts_it(session, keyspace, service, monkeypatch):
    source, target = account(), account()
    for number in range(250):
        put(session, keyspace, CC, lesson(source, f"M{number:03d}", viewcount=2))
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    service.admission.admit(merge_id)
    original, calls = Store.write, []

    def dies(self, *arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("the process stops here, after its second entry was logged")
        original(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", dies)
        with pytest.raises(RuntimeError):
            service.merging.merge_table(merge_id, CC)
    assert service.undoing.abandon(merge_id, "not wanted")["state"] == "abandoned"
    assert len(rows(session, keyspace, CC, target)) == 2 * service.settings.entry_rows
    assert service.journal.holder(target) is None
    assert service.journal.survivor(source) == source
    # What it handed on is not handed on again.
    merge(service, source, target, tables=(CC,))
    assert [r["viewcount"] for r in rows(session, keyspace, CC, target)] == [2] * 250


def test_a_repair_moves_only_what_is_new(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    merge_id = merge(service, source, target)
    put(session, keyspace, CC, lesson(source, viewcount=5))
    answer = service.repairing.repair(merge_id, "operator", "the learner says that views are missing")
    new = service.repairing.repair(merge_id, "operator", "again, impatient")
    assert new["merge_id"] == answer["merge_id"]
    repair = service.journal.need(uuid.UUID(answer["merge_id"]))
    assert (repair.state, repair.parent, repair.request.origin) == ("requested", merge_id, "repair")
    assert run_merge(service, repair.merge_id, publish=False)["state"] == "completed"
    assert [r["viewcount"] for r in rows(session, keyspace, CC, target)] == [5]
    undo(service, repair.merge_id)
    assert [r["viewcount"] for r in rows(session, keyspace, CC, target)] == [3]
    undo(service, merge_id)
    assert rows(session, keyspace, CC, target) == []
