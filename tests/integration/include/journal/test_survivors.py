"""Where an account's history lives follows from the newest merge that stands, and what was checked holds until it is done."""

from __future__ import annotations

import threading

import pytest

from account_merge.cli.main import run_merge
from account_merge.errors import InvalidRequest, MergeError
from account_merge.model import MergeRequest
from account_merge.service import Service
from tests.learners import account, lesson, put, rows

CC = "user_content_consumption"


@pytest.fixture
def service(shared_service):
    return shared_service


@pytest.fixture
def keyspace(shared_service):
    return shared_service.settings.courses_keyspace


def merge(service, source, target):
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    return merge_id


def repair(service, merge_id):
    found = service.repairing.repair(merge_id, "ops", "late rows")
    child = service.journal.find("parent", merge_id)[-1].merge_id
    assert found["proceed"] is not None
    assert run_merge(service, child, publish=False)["state"] == "completed"
    return child


def test_repairs_that_are_undone_leave_the_account_merged(service, keyspace, session):
    a, b, x = account(), account(), account()
    put(session, keyspace, CC, lesson(a, viewcount=3))
    merge(service, a, b)
    parent = service.journal.merged_by(a).merge_id
    first, second = repair(service, parent), repair(service, parent)
    service.undoing.run(second, publish=False)
    service.undoing.run(first, publish=False)
    assert service.journal.survivor(a) == b
    assert service.journal.merged_by(a).merge_id == parent
    put(session, keyspace, CC, lesson(x, "other", viewcount=4))
    merge(service, x, a)  # it goes to where the history lives
    assert {row["contentid"] for row in rows(session, keyspace, CC, b)} == {"L1", "other"}
    again = service.opening.open_merge(MergeRequest((a,), account(), tables=(CC,)))
    with pytest.raises(InvalidRequest, match="ALREADY_MERGED"):
        service.admission.admit(again)


@pytest.mark.parametrize("order", ["the undo first", "the merge first"])
def test_an_undo_and_a_merge_onwards_never_both_stand(service, keyspace, session, order, monkeypatch):
    """B is merged on into C while the undo of A into B is between its check and its leases."""
    a, b, c = account(), account(), account()
    put(session, keyspace, CC, lesson(a, viewcount=3))
    put(session, keyspace, CC, lesson(b, viewcount=1))
    undone = merge(service, a, b)
    onward = service.opening.open_merge(MergeRequest((b,), c, tables=(CC,)))
    reached, go_on, ended = threading.Event(), threading.Event(), []
    check = type(service.undoing)._take if order == "the undo first" else None

    def others():
        with Service(service.settings) as other:
            reached.wait(20)
            try:
                ended.append(run_merge(other, onward, publish=False)["state"])
            except MergeError as error:
                ended.append(error.code)
            go_on.set()

    thread = threading.Thread(target=others)
    thread.start()
    if order == "the merge first":
        reached.set()
        go_on.wait(60)
        with pytest.raises(InvalidRequest, match="UNDO_FIRST"):
            service.undoing.run(undone, publish=False)
        wanted = [4]
    else:

        def taken(undoing, merge, wanted):
            def checked():
                wanted()
                reached.set()  # the accounts are locked: the other merge cannot begin before this transaction ends
                assert not go_on.wait(1)

            check(undoing, merge, checked)

        with monkeypatch.context() as patch:
            patch.setattr(type(service.undoing), "_take", taken)
            service.undoing.begin(undone, "undo")
        go_on.wait(60)
        service.undoing.run(undone, publish=False)
        wanted = None
    thread.join(60)
    views = {name: [row.get("viewcount") for row in rows(session, keyspace, CC, user)] for name, user in
             (("a", a), ("b", b), ("c", c))}  # fmt: skip
    if wanted:
        assert (ended, views["c"]) == (["completed"], wanted)
        return
    assert ended == ["waiting"]
    assert views == {"a": [3], "b": [1], "c": []}
    assert run_merge(service, onward, publish=False)["state"] == "completed"
    assert [row.get("viewcount") for row in rows(session, keyspace, CC, c)] == [1]


def test_a_refusal_is_not_made_of_two_moments(service, keyspace, session, monkeypatch):
    a, b, c = account(), account(), account()
    put(session, keyspace, CC, lesson(a, viewcount=3))
    merge(service, a, b)
    onward = merge(service, b, c)
    later = service.opening.open_merge(MergeRequest((a,), b, tables=(CC,)))
    survivor, undone = type(service.journal).survivor, []

    def and_then_it_is_undone(self, *arguments):
        found = survivor(self, *arguments)
        if not undone:
            undone.append(onward)
            with Service(service.settings) as other:
                other.undoing.run(onward, publish=False)
        return found

    monkeypatch.setattr(type(service.journal), "survivor", and_then_it_is_undone)
    assert service.admission.admit(later)["proceed"]
    assert service.journal.need(later).survivor == b
