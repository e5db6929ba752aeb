"""What a merge asks of the servers, step by step, against a table: it fails when somebody adds a request."""

from __future__ import annotations

import pytest

from account_merge.model import MergeRequest
from account_merge.rules import TABLES
from tests.learners import COURSE, account, aggregate, enrolment, lesson, put
from tests.outgoing.counting import counted

#: Three tables with rows; groups and programs are asked for.
ASKED = (
    "user_content_consumption", "user_enrolments", "user_activity_agg", "user_group", "group_member", "program_enrollment",
)  # fmt: skip


def seed(session, keyspace, lessons, courses=1):
    """Two accounts with so many rows of content consumption each, half of them shared; returns them."""
    source, target = account(), account()
    for shift, user in ((0, source), (lessons // 2, target)):
        for number in range(lessons):
            course = {"courseid": f"{COURSE}-{number * courses // lessons:04}", "batchid": "b"}
            row = lesson(user, f"L{number + shift:06}", viewcount=2, status=2, progress=100)
            put(session, keyspace, "user_content_consumption", row | course)
        for number in range(courses):
            course = f"{COURSE}-{number:04}"
            put(
                session,
                keyspace,
                "user_enrolments",
                enrolment(user, status=1, progress=1 + (not shift)) | {"courseid": course, "batchid": "b"},
            )
            row = aggregate(user, aggregates={"completedCount": 1.0 + (not shift)})
            put(session, keyspace, "user_activity_agg", row | {"activity_id": course, "context_id": "cb:b"})
    return source, target


def merged(service, requests, accounts):
    """Does one merge as the command line does, its requests counted by steps."""
    source, target = accounts

    def follow(table):
        requests.at(table)
        return lambda done: None

    def told(answer):
        assert answer["proceed"], answer
        requests.at("complete" if answer["table"] == TABLES[-1] else "between")

    requests.at("open")
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=ASKED))
    requests.at("admit")
    answer = service.merging.run(merge_id, "run", told=told, follow=follow)
    requests.at("")
    assert answer["state"] == "completed"


@pytest.mark.parametrize("lessons", [20])
def test_budget(service, session, settings, lessons):
    with counted() as requests:
        first, second = (seed(session, settings.courses_keyspace, lessons) for _ in range(2))
        merged(service, requests, first)  # what a session asks once
        requests.all.clear()
        requests.in_sequence.clear()
        merged(service, requests, second)
        print("\n".join(requests.table()))
        print(requests.in_sequence, sum(requests.in_sequence.values()))
        print({server: requests.of(server) for server in ("postgres", "cassandra", "kafka")})
