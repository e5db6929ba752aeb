"""Tables with nothing to do: `admit` ends their logs as their own work would, and in doubt leaves a table to its work."""

from __future__ import annotations

import uuid

import pytest
from cassandra.cluster import Session

from account_merge.cli.main import run_merge
from account_merge.engine.idle_tables import IdleTables
from account_merge.journal.fence import Fence
from account_merge.model import MergeRequest
from account_merge.rules import TABLES
from account_merge.sunbird import presence
from tests.journal_sql import sql
from tests.learners import BATCH, COURSE, account, aggregate, enrolment, lesson, put, rows

AGG, ENR, ASM, GROUP, MEMBER, CC = ("user_activity_agg", "user_enrolments", "assessment_aggregator", "user_group",
                                    "group_member", "user_content_consumption")  # fmt: skip
ABSENT = {"user_entity_enrolments"}  # this cluster has no such table


@pytest.fixture
def keyspace(shared_service):
    return shared_service.settings.courses_keyspace


def opened(service, source, target, **options):
    return service.opening.open_merge(MergeRequest((source,), target, **options))


def idle(service, source, target, **options):
    return set(service.admission.admit(opened(service, source, target, **options))["idle"])


def study(session, keyspace, user):
    put(session, keyspace, ENR, enrolment(user, active=True))
    put(session, keyspace, CC, lesson(user, viewcount=2))
    put(session, keyspace, AGG, aggregate(user, aggregates={"completedCount": 1.0}))


def attempt(user, **columns):
    return {"course_id": COURSE, "batch_id": BATCH, "user_id": user, "content_id": "q", "attempt_id": "a1", **columns}


def ends(service, merge_id):
    """Each log's entries but for the moment, the writer and the salt."""
    found = sql(service, "SELECT name, seq, kind, last_key, base, counts, note, payload, attempts FROM log WHERE merge_id = :id",
                id=merge_id)  # fmt: skip
    return sorted(tuple(str(value) for value in row) for row in found)


def test_the_tables_of_a_learner_without_groups_or_tests_are_idle(session, keyspace, shared_service):
    source, target = account(), account()
    study(session, keyspace, source)
    put(session, keyspace, ASM, attempt(target))  # the target's rows do not matter
    merge_id = opened(shared_service, source, target)
    answer = shared_service.admission.admit(merge_id)
    assert set(answer["idle"]) == set(TABLES) - {AGG, ENR, CC}
    assert shared_service.admission.admit(merge_id)["idle"] == answer["idle"]
    for table in (AGG, ENR, CC):
        shared_service.merging.merge_table(merge_id, table)
    assert shared_service.merging.publish_sync(merge_id, publish=False)["state"] == "completed"
    assert rows(session, keyspace, CC, target) == rows(session, keyspace, CC, source)


@pytest.mark.parametrize("source_rows", ["keep", "deactivate"])
def test_the_log_of_an_idle_table_is_what_its_own_work_writes(source_rows, shared_service, monkeypatch):
    ended = opened(shared_service, account(), account(), source_rows=source_rows)
    assert set(shared_service.admission.admit(ended)["idle"]) == set(TABLES)
    with monkeypatch.context() as patched:
        patched.setattr(IdleTables, "end", lambda *_, **__: [])
        worked = opened(shared_service, account(), account(), source_rows=source_rows)
        run_merge(shared_service, worked, publish=False)
    source = {merge_id: shared_service.journal.need(merge_id).request.sources[0] for merge_id in (ended, worked)}
    first, second = ([tuple(text.replace(source[i], "source") for text in entry) for entry in ends(shared_service, i)]
                     for i in (ended, worked))  # fmt: skip
    assert first == second
    before = ends(shared_service, ended)
    for table in TABLES:  # cleared by hand
        assert "nothing to merge" in shared_service.merging.merge_table(ended, table)["note"]
    assert ends(shared_service, ended) == before
    assert run_merge(shared_service, ended, publish=False)["state"] == "completed"


def test_rows_that_only_the_target_s_lists_lead_to_are_found(session, keyspace, shared_service):
    source, target, group = account(), account(), uuid.uuid4().hex
    put(session, keyspace, ENR, enrolment(target))
    put(session, keyspace, ASM, attempt(source, total_score=4.0))
    put(session, keyspace, GROUP, {"userid": target, "groupid": {group}})
    put(session, keyspace, MEMBER, {"groupid": group, "userid": source, "status": "active", "role": "member"})
    found = idle(shared_service, source, target)
    assert {ASM, MEMBER} & found == set()
    assert GROUP not in found  # a membership counts although the source has no list
    assert AGG not in found  # so may an attempt
    assert {ENR, CC} <= found


def test_in_doubt_a_table_is_left_to_its_work(session, keyspace, shared_service, with_settings, monkeypatch):
    for course in ("c1", "c2"):
        put(session, keyspace, ENR, enrolment(learner := account()) | {"courseid": course})
    source = account()
    study(session, keyspace, source)
    assert ASM in idle(shared_service, source, account())
    # Its sources were merged before: what that merge brought may have been written over since.
    put(session, keyspace, ENR, enrolment(learner))
    first = opened(shared_service, learner, target := account())
    run_merge(shared_service, first, publish=False)
    assert idle(shared_service, learner, target) == ABSENT
    with monkeypatch.context() as patched:
        patched.setattr(presence, "MOST_LISTED", 0)
        other = account()
        study(session, keyspace, other)
        assert {ASM, AGG} & idle(shared_service, other, account()) == set()
    # A setting leads to places that no list of the accounts names.
    assert "program_enrollment" not in idle(with_settings(program_ids=("p1",)), account(), account())
    assert MEMBER not in idle(with_settings(scan_tables=(MEMBER,)), account(), account())


def test_tables_that_were_not_chosen_are_idle_and_have_no_log(session, keyspace, shared_service):
    source = account()
    study(session, keyspace, source)
    merge_id = opened(shared_service, source, account(), tables=(CC,))
    assert set(shared_service.admission.admit(merge_id)["idle"]) == set(TABLES) - {CC}
    assert ends(shared_service, merge_id) == []


def test_who_may_not_write_any_more_ends_no_log(shared_service, monkeypatch):
    merge_id = opened(shared_service, account(), account())
    with monkeypatch.context() as patched:
        patched.setattr(IdleTables, "end", lambda *_, **__: [])
        shared_service.admission.admit(merge_id)
    running = shared_service.journal.need(merge_id)
    shared_service.undoing.abandon(merge_id, "test")
    tables = IdleTables(shared_service._merge_tables)
    assert tables.end(running, Fence.around(running, stoppable=True), begun=True) == [*ABSENT]


def test_an_attempt_that_broke_off_is_gone_on_with(shared_service):
    merge_id = opened(shared_service, account(), account())
    shared_service.admission.admit(merge_id)
    sql(
        shared_service,
        "DELETE FROM log WHERE merge_id = :id AND name IN ('user_group', 'user_enrolments')",
        id=merge_id,
    )
    assert set(shared_service.admission.admit(merge_id)["idle"]) == set(TABLES)
    assert len(ends(shared_service, merge_id)) == len(set(TABLES) - ABSENT)


def test_it_takes_two_flights_of_narrow_reads(session, keyspace, shared_service, monkeypatch):
    source, target, asked = account(), account(), []
    for user in (source, target):
        study(session, keyspace, user)
    idle(shared_service, *(account(), account()))  # prepares the statements
    original = Session.execute_async

    def counting(self, query, *arguments, **named):
        asked.append(str(getattr(getattr(query, "prepared_statement", query), "query_string", query)))
        return original(self, query, *arguments, **named)

    merge_id = opened(shared_service, source, target)
    monkeypatch.setattr(Session, "execute_async", counting)
    shared_service.admission.admit(merge_id)
    assert len(asked) <= 14, asked
    assert all(" LIMIT " in one for one in asked), asked
