"""What a redo may bring, and what an undo after it takes back, on a real Cassandra."""

from __future__ import annotations

import uuid

import pytest

from account_merge.choices import Choices
from account_merge.cli.main import run_merge
from account_merge.errors import InvalidRequest
from tests.integration.include.lifecycle.test_undo import AGG, CC, ENR, everything, merge, pair, study, undo
from tests.learners import account, aggregate, enrolment, lesson, put, rows


@pytest.fixture
def service(shared_service):
    return shared_service


def refused(service, merge_id):
    """The action was refused, before anything was written; returns what was said."""
    with pytest.raises(InvalidRequest, match="CANNOT_REDO") as info:
        service.undoing.run(merge_id, "redo", publish=False)
    assert service.journal.need(merge_id).state == "undone"
    return str(info.value)


def test_a_redo_does_not_bring_again_what_was_undone_since(session, keyspace, service):
    stranger, middle, last = account(), account(), account()
    for user, name in ((stranger, "L1"), (middle, "L2"), (last, "L3")):
        study(session, keyspace, user, [name])
    mistake = merge(service, stranger, middle)
    chain = merge(service, middle, last)
    after = everything(session, keyspace, last)
    undo(service, chain)
    undo(service, mistake)
    before = everything(session, keyspace, middle, last)
    said = refused(service, chain)
    assert str(mistake) in said
    assert middle in said
    assert everything(session, keyspace, middle, last) == before
    # A new merge moves what is there now; the same one stands again once the other does.
    again = merge(service, middle, last)
    assert {r["contentid"] for r in rows(session, keyspace, CC, last)} == {"L2", "L3"}
    undo(service, again)
    undo(service, mistake, "redo")
    undo(service, chain, "redo")
    assert everything(session, keyspace, last) == after


def test_a_repair_stands_again_only_with_what_it_mends(session, keyspace, service):
    source, target = pair(session, keyspace)
    before = everything(session, keyspace, source, target)
    first = merge(service, source, target)
    put(session, keyspace, CC, lesson(source, "late", viewcount=2))
    child = uuid.UUID(service.repairing.repair(first, "operator", "")["merge_id"])
    assert run_merge(service, child, publish=False)["state"] == "completed"
    after = everything(session, keyspace, target)
    undo(service, child)
    undo(service, first)
    assert str(first) in refused(service, child)
    late = rows(session, keyspace, CC, source)
    assert everything(session, keyspace, target) == {k: v for k, v in before.items() if k[1] == target}
    assert len(late) > len(before[CC, source])
    undo(service, first, "redo")
    undo(service, child, "redo")
    assert everything(session, keyspace, target) == after


def test_the_tasks_of_a_merge_that_stands_again_may_be_cleared(session, keyspace, service):
    source, target = pair(session, keyspace)
    merge_id = merge(service, source, target)
    undo(service, merge_id)
    undo(service, merge_id, "redo")
    after = everything(session, keyspace, source, target)
    answer = run_merge(service, merge_id, publish=False)
    assert (answer["state"], answer["error"]) == ("completed", None)
    assert everything(session, keyspace, source, target) == after


def test_what_a_redo_had_set_inactive_is_active_after_the_next_undo(session, keyspace, service):
    source, target = pair(session, keyspace)
    merge_id = merge(service, source, target, source_rows="deactivate")
    undo(service, merge_id)
    put(session, keyspace, ENR, enrolment(source, active=True, status=1) | {"courseid": "entered meanwhile"})
    before = rows(session, keyspace, ENR, source)
    undo(service, merge_id, "redo")
    assert not any(row.get("active") for row in rows(session, keyspace, ENR, source))
    undo(service, merge_id)
    assert rows(session, keyspace, ENR, source) == before


def test_of_two_merges_of_one_pair_the_first_stands_again_first(session, keyspace, service):
    source, target = pair(session, keyspace)
    first = merge(service, source, target)
    second = merge(service, source, target)
    after = everything(session, keyspace, target)
    undo(service, second)
    undo(service, first)
    assert str(first) in refused(service, second)
    undo(service, first, "redo")
    undo(service, second, "redo")
    assert everything(session, keyspace, target) == after


def test_lessons_of_an_account_without_an_aggregate_count_in_a_repair_too(session, keyspace, service):
    counted, uncounted, target = account(), account(), account()
    study(session, keyspace, counted, ["L1"])
    put(session, keyspace, ENR, enrolment(uncounted, active=True, status=1))
    first = merge(service, (counted, uncounted), target)
    put(session, keyspace, CC, lesson(counted, "L2", status=2, progress=100))
    put(session, keyspace, AGG, aggregate(counted, aggregates={"completedCount": 2.0}))
    put(session, keyspace, CC, lesson(uncounted, "L3", status=2, progress=100))
    child = uuid.UUID(service.repairing.repair(first, "operator", "")["merge_id"])
    assert run_merge(service, child, publish=False)["state"] == "completed"
    (row,) = rows(session, keyspace, AGG, target)
    assert row["aggregates"]["completedCount"] == 3.0


@pytest.mark.parametrize("way", ["a table left out", "the target's rows chosen"])
def test_the_report_says_in_which_account_a_chain_left_the_rows(way, session, keyspace, service):
    source, middle, last = account(), account(), account()
    for user, views in ((source, 2), (middle, 1), (last, 5)):
        study(session, keyspace, user, ["L1"], views=views)
    merge(service, source, middle)
    if way == "a table left out":
        merge(service, middle, last, tables=(ENR,))
    else:
        merge(service, middle, last, choices=Choices({CC: "target"}))
    again = merge(service, source, middle)
    assert service.journal.need(again).survivor == last
    notes = {t["table"]: t.get("note") or "" for t in service.reader.report(again).to_dict()["tables"]}
    assert middle in notes[CC]
    assert middle not in notes[ENR]
    # When that account's rows are merged, what it had been given comes with them, once.
    if way == "a table left out":
        merge(service, middle, last)
        assert [r["viewcount"] for r in rows(session, keyspace, CC, last)] == [8]
