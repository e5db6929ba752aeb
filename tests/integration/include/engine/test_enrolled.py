"""Under `skip` the target's rows stay where it is enrolled, a member or subscribed: a row alone does not say so."""

from __future__ import annotations

import itertools
from datetime import datetime

import pytest

from account_merge.cli.main import run_merge
from account_merge.model import MergeRequest
from account_merge.rules import RULES, rule_for
from tests.learners import BATCH, COURSE, account, enrolment, lesson, put, rows

CC, ENR, MEMBER, LIST = "user_content_consumption", "user_enrolments", "group_member", "user_group"
DATE = datetime(2022, 3, 1)
#: What a row says, and whether its learner is enrolled by it.
SAYS = [
    ({}, False),
    ({"lastreadcontentid": "x", "lastreadcontentstatus": 1}, False),
    ({"contentstatus": {"x": 1}}, False),
    ({"active": False}, False),
    ({"active": False, "status": 0, "progress": 0, "enrolled_date": DATE}, False),
    ({"active": False, "status": 2, "enrolleddate": "2022-03-01"}, False),
    ({"active": True}, True),
    ({"active": True, "status": 0}, True),
    ({"enrolled_date": DATE}, True),
    ({"enrolleddate": "2022-03-01 00:00:00:000+0000"}, True),
    ({"status": 1}, True),
    ({"progress": 1}, True),
]


def skip(service, *accounts, tables=()):
    merge_id = service.opening.open_merge(MergeRequest(accounts[:-1], accounts[-1], on_conflict="skip", tables=tables))
    answer = run_merge(service, merge_id, publish=False)
    assert answer["state"] == "completed", answer


@pytest.mark.parametrize(("says", "enrolled"), SAYS, ids=[str(n) for n in range(len(SAYS))])
def test_only_an_enrolment_of_the_target_keeps_the_source_s_out(session, shared_service, says, enrolled):
    keyspace, (source, target) = shared_service.settings.courses_keyspace, (account(), account())
    done = enrolment(source, active=True, status=2, progress=3, issued_certificates=[{"identifier": "c1"}])
    put(session, keyspace, ENR, done)
    put(session, keyspace, CC, lesson(source, status=2, viewcount=3))
    put(session, keyspace, ENR, enrolment(target, **says))
    skip(shared_service, source, target, tables=(ENR, CC))
    found = rows(session, keyspace, ENR, target)[0]
    lessons = rows(session, keyspace, CC, target)
    if enrolled:
        assert not lessons
        assert "issued_certificates" not in found
        return
    assert (found["active"], found["status"], found["issued_certificates"]) == (True, 2, [{"identifier": "c1"}])
    assert lessons[0]["viewcount"] == 3
    assert found.get("lastreadcontentid") == says.get("lastreadcontentid")  # what the target has besides stays


def test_of_several_sources_the_first_that_is_enrolled_stands(session, shared_service):
    keyspace, (phantom, enrolled, target) = shared_service.settings.courses_keyspace, (account(), account(), account())
    put(session, keyspace, ENR, enrolment(phantom, lastreadcontentid="x"))
    put(session, keyspace, ENR, enrolment(enrolled, active=True, status=2, progress=1))
    put(session, keyspace, CC, lesson(enrolled, viewcount=2))
    skip(shared_service, phantom, enrolled, target, tables=(ENR, CC))
    assert rows(session, keyspace, ENR, target)[0]["status"] == 2
    assert rows(session, keyspace, CC, target)[0]["viewcount"] == 2


@pytest.mark.parametrize("status", ["active", "inactive"])
def test_who_was_removed_from_a_group_does_not_come_back_by_another_account(session, shared_service, status):
    keyspace, (source, target) = shared_service.settings.groups_keyspace, (account(), account())
    group = account()
    put(session, keyspace, MEMBER, {"groupid": group, "userid": source, "role": "admin", "status": "active"})
    put(session, keyspace, LIST, {"userid": source, "groupid": {group}})
    put(session, keyspace, MEMBER, {"groupid": group, "userid": target, "role": "member", "status": status})
    skip(shared_service, source, target, tables=(LIST, MEMBER))
    found = rows(session, keyspace, MEMBER, target)[0]
    assert (found["status"], found["role"]) == (status, "member")


def test_each_rule_that_decides_says_why_and_names_columns_that_it_has():
    deciding = [rule for rule in RULES if rule.decides_skip]
    assert {rule.scope.kind for rule in deciding} == {rule.scope.kind for rule in RULES}
    for rule in deciding:
        named = {*rule.decides_skip.has, *([rule.decides_skip.shows[0]] if rule.decides_skip.shows else [])}
        assert rule.decides_skip.why
        assert len(named & set(rule.columns)) >= min(1, len(named))
    pairs = itertools.product([True, False, None], [DATE, None])
    said = [rule_for(ENR).decides_skip.of({"active": a, "enrolled_date": d, "x": COURSE + BATCH}) for a, d in pairs]
    assert said == [True, True, False, False, True, False]
