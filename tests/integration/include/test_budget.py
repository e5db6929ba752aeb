"""What a merge asks of the servers, step by step, against a table: a request more anywhere fails.

What a session asks once (statements prepared, the cluster's tables) or every few seconds (its clock) is not a merge's: each
count is of the second merge of its kind.
"""

from __future__ import annotations

import pytest

from account_merge.model import MergeRequest
from account_merge.rules import TABLES
from account_merge.sunbird import store
from tests.learners import COURSE, account, aggregate, enrolment, lesson, put
from tests.outgoing.counting import counted, whatever_the_time

CC, ENR, AGG = "user_content_consumption", "user_enrolments", "user_activity_agg"
#: Three tables with rows; groups and programs are asked for.
ASKED = (CC, ENR, AGG, "user_group", "group_member", "program_enrollment")
#: Step -> requests to PostgreSQL and to Cassandra, at most, of a merge of 20 rows in one process.
WHOLE = {
    "open": (1, 0),
    # The merge with the switches; started; one transaction for the leases; running.
    "admit": (11, 0),
    # For all tables the history of the accounts, their few rows, and which columns there are.
    AGG: (3, 9),
    ENR: (1, 2),
    CC: (1, 2),
    # The ends of all logs; the merge with the switches; completed.
    "complete": (3, 1),
}
MOST, MOST_IN_SEQUENCE = 34, 12
#: The same, each table a task of its own, as Airflow does it: what a process must find out for itself comes on top.
ALONE = {
    "open": (1, 0),
    # Also whether the sources have rows, for all tables together, and the ends of the logs of those that have none.
    "admit": (13, 8),
    AGG: (6, 8),
    ENR: (5, 4),
    CC: (5, 4),
    "complete": (3, 1),
}
#: Of 2,000 rows an account, in 40 courses: requests for a hundred rows of content consumption; for a course of aggregates.
LARGE, COURSES = 2_000, 40
FOR_A_HUNDRED_ROWS, FOR_A_COURSE = 3.0, 1.75


def seed(session, keyspace, lessons, courses=1):
    """Two accounts with so many rows of content consumption each, half of them shared; returns them."""
    source, target = account(), account()
    for shift, user in ((0, source), (lessons // 2, target)):
        for number in range(lessons):
            course = {"courseid": f"{COURSE}-{number * courses // lessons:04}", "batchid": "b"}
            row = lesson(user, f"L{number + shift:06}", viewcount=2, status=2, progress=100)
            put(session, keyspace, CC, row | course)
        for number in range(courses):
            course = {"courseid": f"{COURSE}-{number:04}", "batchid": "b"}
            put(session, keyspace, ENR, enrolment(user, status=1, progress=2 if user == source else 1) | course)
            row = aggregate(user, aggregates={"completedCount": 1.0 + (user == source)})
            put(session, keyspace, AGG, row | {"activity_id": course["courseid"], "context_id": "cb:b"})
    return source, target


def whole(service, requests, source, target):
    """Does a merge as the command line does, its requests counted by steps."""
    steps = iter([*[table for table in TABLES if table in ASKED][1:], "complete"])

    def told(answer):
        assert answer["proceed"], answer
        if answer["table"] in ASKED:
            requests.at(next(steps))

    requests.at("open")
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=ASKED))
    requests.at("admit")
    answer = service.merging.run(
        merge_id, "run", told=told, follow=lambda table: requests.at(AGG) if table == AGG else None
    )
    assert answer["state"] == "completed"


def alone(service, requests, source, target):
    """Does a merge as the tasks of its DAG do."""
    requests.at("open")
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=ASKED))
    requests.at("admit")
    answer = service.admission.admit(merge_id, "run")
    assert answer["proceed"]
    for table in TABLES:
        if table in ASKED and table not in answer["idle"]:  # those are skipped
            requests.at(table)
            assert service.merging.merge_table(merge_id, table)["proceed"]
    requests.at("complete")
    assert service.merging.publish_sync(merge_id)["state"] == "completed"


@pytest.mark.parametrize(("merging", "budget"), [(whole, WHOLE), (alone, ALONE)], ids=["whole", "alone"])
def test_a_small_merge_asks_no_more_than_its_budget(merging, budget, service, session, settings, monkeypatch):
    whatever_the_time(monkeypatch.setattr)
    if merging is alone:
        monkeypatch.setattr(store, "_MOMENT", -1.0)  # each process asks for itself which columns there are
    with counted() as requests:
        for _ in range(2):
            accounts = seed(session, settings.courses_keyspace, 20)
            requests.clear()
            merging(service, requests, *accounts)
            requests.at("")
    found = {step: (requests.of(step, "postgres"), requests.of(step, "cassandra")) for step in budget}
    over = [step for step in budget if any(n > most for n, most in zip(found[step], budget[step], strict=True))]
    assert not over, f"{over}: {found}\n{requests.table()}"
    print(f"{found}\n{sum(map(sum, found.values()))} in all; in sequence {requests.in_sequence}")
    assert {one.step for one in requests.all} == budget.keys()
    if merging is whole:
        assert sum(map(sum, found.values())) <= MOST
        assert sum(requests.in_sequence.values()) <= MOST_IN_SEQUENCE, requests.in_sequence


def test_a_large_merge_asks_for_rows_by_hundreds(service, session, settings, monkeypatch):
    whatever_the_time(monkeypatch.setattr)
    with counted() as requests:
        for lessons, courses in ((20, 1), (LARGE, COURSES)):
            accounts = seed(session, settings.courses_keyspace, lessons, courses)
            requests.clear()
            whole(service, requests, *accounts)
            requests.at("")
    found = {step: requests.of(step, "postgres") + requests.of(step, "cassandra") for step in WHOLE}
    assert found[CC] / (LARGE / 100) <= FOR_A_HUNDRED_ROWS, requests.table()
    assert found[AGG] / COURSES <= FOR_A_COURSE, requests.table()
    assert {step: found[step] for step in WHOLE if step not in (CC, AGG)} == {
        "open": 1, "admit": 11, ENR: 3, "complete": 4
    }  # fmt: skip
