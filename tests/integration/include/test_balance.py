"""A preview in the learner's terms, on real rows; and the journal by days."""

from __future__ import annotations

import pytest

from account_merge.balance import MOST
from account_merge.journal.daily import daily
from account_merge.model import MergeRequest

LESSON = "(userid, courseid, batchid, contentid, status, viewcount) VALUES (%s, 'c', 'b', %s, %s, %s)"


@pytest.fixture
def learners(service, session):
    """A source with two lessons, one of them shared; a target with two."""
    ks = service.settings.courses_keyspace
    table = service.settings.table("user_content_consumption")
    insert = f"INSERT INTO {ks}.{table} {LESSON}"
    for account, lesson, status, views in (
        ("old", "l1", 2, 3),
        ("old", "l2", 2, 1),
        ("new", "l1", 1, 4),
        ("new", "l3", 2, 2),
    ):
        session.execute(insert, (account, lesson, status, views))
    return MergeRequest(("old",), "new")


def test_each_account_and_the_result_are_counted_by_course(service, learners):
    balance = service.looking.balance(learners)
    lines = balance.places["course", ("c", "b")]
    views, done = lines["views"], lines["lessons done"]
    assert (views.sources, views.target, views.result) == ({"old": 4}, 6, 10)
    assert (done.sources, done.target, done.result) == ({"old": 2}, 1, 3)
    assert balance.lost == []
    assert balance.complete


def test_a_table_that_is_left_out_is_not_counted(service, learners):
    asked = MergeRequest(learners.sources, learners.target, tables=("user_enrolments",))
    assert service.looking.balance(asked).places == {}


def test_more_rows_than_are_counted_are_said(service, learners, monkeypatch):
    monkeypatch.setattr("account_merge.balance.MOST", 1)
    assert MOST > 1
    assert not service.looking.balance(learners).complete


def test_merges_are_counted_by_day_state_and_reason(service, learners):
    merge_id = service.open_merge(learners)
    service.fail(merge_id, "by-hand", RuntimeError("no luck"))
    found = daily(service.journal, 3)
    assert len(found.days) == 3
    today = list(found.days.values())[-1]
    assert sum(today.values()) == 1
    assert sum(found.reasons.values()) <= 1
    assert found.complete
