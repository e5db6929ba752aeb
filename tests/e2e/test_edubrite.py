"""EduBrite's API on a running Airflow: its sign-in, its poll, its runs; an old client gets its one answer."""

from __future__ import annotations

import json
import uuid
from xml.etree import ElementTree

import pytest
from airflow_client import wait_for

from account_merge.merge_ids import names_id
from tests.learners import COURSE, enrolment, lesson, put, rows
from tests.old_client import OldClient, strict
from tests.people import lookups, person, user

BASE = "/account-merge"


def name():
    return "u" + uuid.uuid4().hex[:10]


@pytest.fixture
def client(airflow, airflow_stack):
    where = airflow_stack.describe()
    found = OldClient(where["AIRFLOW_URL"], BASE)
    answer = found.connect(where["AIRFLOW_USERNAME"], where["AIRFLOW_PASSWORD"])
    assert (answer.status, answer.code) == (200, "0152")
    yield found
    found.close()


def test_accounts_are_merged_by_user_name_through_airflow(airflow, client, core, session, poll):
    users, courses = core.settings.users_keyspace, core.settings.courses_keyspace
    admin, main, one, two = (name() for _ in range(4))
    person(session, users, admin, roles=("ORG_ADMIN",))
    ids = {n: person(session, users, n, email=f"{n}@x") for n in (main, one, two)}
    for who, progress in ((one, 3), (two, 5)):
        put(session, courses, "user_enrolments", enrolment(ids[who], progress=progress))
        put(session, courses, "user_content_consumption", lesson(ids[who], f"L{progress}", viewcount=progress))

    def call(**more):
        return client.merge(admin, main, f"{one},{two}", deactivate="true", **more)

    # "Not done yet" means: ask again.
    wait_for(lambda: strict(call()).code == "0224", 240, "answer that the accounts are merged")
    merge = core.journal.need(names_id(main, [one, two], True, 0))
    assert merge.state == "completed"
    assert merge.run_ids[0].startswith(f"merge__{merge.merge_id}__")
    assert airflow.succeeded("account_merge", merge.run_ids[-1])
    assert [r["progress"] for r in rows(session, courses, "user_enrolments", ids[main])] == [3]
    lessons = rows(session, courses, "user_content_consumption", ids[main])
    assert [(r["contentid"], r["courseid"]) for r in lessons] == [("L3", COURSE)]
    for who in (one, two):
        assert user(session, users, ids[who])["isdeleted"] is True
        assert lookups(session, users, ids[who]) == []
    answer, again = strict(call()), strict(call())
    assert (answer.status, answer.raw) == (200, again.raw)
    details = ElementTree.fromstring(call(details="true").content).find("details")
    assert details.findtext("mergeId") == str(merge.merge_id)
    assert [o.findtext("skippedTotal") for o in details.findall("other")] == ["0", "1"]
    shown = json.dumps(airflow.get(f"dags/account_merge/dagRuns/{merge.run_ids[-1]}")["conf"])
    assert not any(secret in shown for secret in (admin, main, one, two))
    core.undoing.run(merge.merge_id, publish=False)
    assert rows(session, courses, "user_enrolments", ids[main]) == []
    assert user(session, users, ids[one])["status"] == 1


def test_a_viewer_of_airflow_may_not_merge(airflow_stack, core, session, airflow):
    secret = json.loads((airflow_stack.config.home / "airflow" / "passwords.json").read_text())
    client = OldClient(airflow_stack.describe()["AIRFLOW_URL"], BASE)
    assert client.connect("viewer", secret["viewer"]).code == "0152"
    answer = strict(client.merge(name(), name(), name()))
    assert (answer.status, answer.code) == (401, "0005")
    client.close()
