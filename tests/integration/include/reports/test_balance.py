"""A preview in the learner's terms, on real rows; and the journal by days."""

from __future__ import annotations

import io
import json
from contextlib import nullcontext
from dataclasses import replace

import pytest

from account_merge.choices import Choices
from account_merge.cli.main import main, run_merge
from account_merge.journal.lists import by_day
from account_merge.model import MergeRequest
from account_merge.reports.balance import MOST

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
    balance = service.previews.balance(learners)
    lines = balance.scopes["course", ("c", "b")]
    views, done = lines["views"], lines["lessons done"]
    assert (views.sources, views.target, views.result) == ({"old": 4}, 6, 10)
    assert (done.sources, done.target, done.result) == ({"old": 2}, 1, 3)
    assert balance.lost == []
    assert balance.complete


def test_what_stays_behind_is_counted_as_what_the_source_has(service, learners):
    """The source's numbers are those of its rows, whatever the merge leaves out; the reason is beside them."""
    for more, why in (
        ({"tables": ("user_enrolments",)}, "this table is left out"),
        ({"choices": Choices({"user_content_consumption": "target"})}, "the target's row stands by choice"),
    ):
        balance = service.previews.balance(replace(learners, **more))
        lines = balance.scopes["course", ("c", "b")]
        views, done = lines["views"], lines["lessons done"]
        assert (views.sources, views.target, views.result, views.should) == ({"old": 4}, 6, 6, 10)
        assert (views.short, views.why) == (4, {why: 4})
        assert (done.sources, done.result, done.why) == ({"old": 2}, 1, {why: 2})
        assert balance.lost == [done, views]
        assert [(one.table, one.why, one.rows) for one in balance.behind] == [("user_content_consumption", why, 2)]
        assert not balance.nothing_lost


def test_a_total_is_compared_with_the_sum_and_what_was_handed_on_counts_once(service, learners):
    assert run_merge(service, service.opening.open_merge(learners), publish=False)["state"] == "completed"
    skipped = service.previews.balance(replace(learners, choices=Choices({"user_content_consumption": "target"})))
    views = skipped.scopes["course", ("c", "b")]["views"]
    assert (views.sources, views.target, views.should, views.result, views.short) == ({"old": 4}, 10, 10, 10, 0)


def test_the_command_says_the_same(service, learners, monkeypatch):
    monkeypatch.setattr("account_merge.cli.main.Service", lambda settings: nullcontext(service))
    call = ["preview", "--source", "old", "--target", "new", "--table", "user_enrolments"]
    out = io.StringIO()
    assert main([*call, "--json"], out) == 0
    found = json.loads(out.getvalue())
    balance = service.previews.balance(replace(learners, tables=("user_enrolments",)))
    assert found["balance"] == balance.to_dict()
    assert found["warnings"] == []
    out = io.StringIO()
    assert main(call, out) == 0
    assert "4 less views than the accounts have together: this table is left out" in out.getvalue()
    assert "stays behind 2 rows of user_content_consumption" in out.getvalue()
    assert "nothing is lost" not in out.getvalue()


def test_more_rows_than_are_counted_are_said(service, learners, monkeypatch):
    monkeypatch.setattr("account_merge.reports.balance.MOST", 1)
    assert MOST > 1
    assert not service.previews.balance(learners).complete


def test_merges_are_counted_by_day_state_and_reason(service, learners):
    merge_id = service.opening.open_merge(learners)
    service.failures.fail(merge_id, "by-hand", RuntimeError("no luck"))
    found = by_day(service.journal, 3)
    assert len(found.days) == 3
    today = list(found.days.values())[-1]
    assert sum(today.values()) == 1
    assert sum(found.reasons.values()) <= 1
    assert found.complete
