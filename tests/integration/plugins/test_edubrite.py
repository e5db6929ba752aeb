"""EduBrite's API over HTTP: a real server process, Airflow's own sign-in, a real Cassandra, an old client."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest

from account_merge.cli.main import run_merge
from account_merge.merge_ids import names_id
from tests.learners import COURSE, enrolment, lesson, put, rows
from tests.old_client import SITE, OldClient, strict
from tests.people import lookups, person, user

BASE = "/account-merge"
GOLDEN = Path(__file__).with_name("golden")
ROBOT, VIEWER = ("robot", "robot-secret-1"), ("viewer", "viewer-secret-1")
MERGED, UNKNOWN, NOT_ALLOWED, GENERIC, NO_SESSION = "0224", "0004", "0005", "0026", "0174"


def name():
    return "u" + uuid.uuid4().hex[:10]


@pytest.fixture(scope="module")
def client(server):
    found = OldClient(server.url, BASE)
    assert found.connect(*ROBOT).code == "0152"
    yield found
    found.close()


@pytest.fixture
def people(server, session):
    """An administrator, a main user and two others, by name; `people.ids` has the accounts."""

    class People:
        admin, main, one, two = (name() for _ in range(4))

    found = People()
    found.ids = {n: person(session, server.users, n, email=f"{n}@x") for n in (found.main, found.one, found.two)}
    person(session, server.users, found.admin, roles=("ORG_ADMIN",))
    return found


def golden(case, response):
    assert response.content == (GOLDEN / f"{case}.xml").read_bytes()


def study(session, server, found, progress, course=COURSE):
    put(session, server.keyspace, "user_enrolments", enrolment(found, progress=progress) | {"courseid": course})
    put(session, server.keyspace, "user_content_consumption", lesson(found, f"L{progress}") | {"courseid": course})


def enrolled(session, server, found):
    return {r["courseid"]: r["progress"] for r in rows(session, server.keyspace, "user_enrolments", found)}


# --- the handshake ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_two_calls_give_two_cookies_and_the_documents_answers(server, method):
    client = OldClient(server.url, BASE)
    first = client.http.request(method, f"{client.base}/connect.do", params={"ignored": "yes"})
    golden("session", first)
    cookie = first.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("session_id=", "httponly", "path=/", "samesite=strict"))
    answer = client.connect(*ROBOT, method=method)
    assert (answer.status, answer.code) == (200, "0152")
    assert answer.raw == (GOLDEN / "connected.xml").read_bytes()
    assert set(client.cookies) == {"SESSION_ID", "SESSION_INFO"}
    client.close()


def test_a_wrong_password_a_foreign_session_and_no_session_open_nothing(server, people):
    client = OldClient(server.url, BASE)
    refused = client.connect(ROBOT[0], "wrong")
    assert (refused.status, refused.code, set(client.cookies)) == (401, "0154", {"SESSION_ID"})
    assert refused.raw == (GOLDEN / "not_connected.xml").read_bytes()
    assert client.connect("nobody", "wrong").code == "0154"
    response = client.merge(people.admin, people.main, people.one)
    golden("no_session", response)
    assert strict(response).status == 401
    good, other = OldClient(server.url, BASE), OldClient(server.url, BASE)
    good.connect(*ROBOT)
    other.connect(*ROBOT)
    mixed = [
        {"SESSION_ID": good.cookies["SESSION_ID"]},
        {"SESSION_INFO": good.cookies["SESSION_INFO"]},
        {"SESSION_ID": other.cookies["SESSION_ID"], "SESSION_INFO": good.cookies["SESSION_INFO"]},
        good.cookies | {"SESSION_INFO": good.cookies["SESSION_INFO"][:-2] + "AA"},
        good.cookies | {"SESSION_ID": "x" + good.cookies["SESSION_ID"]},
        good.cookies | {"SESSION_INFO": "\xe9!=", "SESSION_ID": "..."},
    ]
    for cookies in mixed:
        client.cookies = cookies
        assert strict(client.merge(people.admin, people.main, people.one)).code == NO_SESSION
    client.cookies = {"SESSION_ID": "made.up.one"}
    given = {"username": ROBOT[0], "password": ROBOT[1]}
    response = client.http.post(f"{client.base}/connect.do", data=given, headers=client._headers())
    assert strict(response).code == NO_SESSION
    for one in (client, good, other):
        one.close()


def test_without_the_first_cookie_name_and_password_are_ignored(server):
    answer = httpx.post(f"{server.url}{BASE}{SITE}/connect.do", data={"username": ROBOT[0], "password": ROBOT[1]})
    assert strict(answer).code == "0"
    assert set(answer.cookies) == {"SESSION_ID"}


def test_an_api_user_without_the_right_to_merge_is_not_allowed(server, people):
    client = OldClient(server.url, BASE)
    assert client.connect(*VIEWER).code == "0152"
    response = client.merge(people.admin, people.main, people.one)
    golden("not_allowed", response)
    assert strict(response).status == 401
    client.close()


def test_only_the_two_paths_are_open_and_to_the_letter(server):
    for path in ("/connect.do/", "/CONNECT.DO", "/userService.do/x", "", "/other.do"):
        assert httpx.get(f"{server.url}{BASE}{SITE}{path}").status_code == 401, path
    assert httpx.delete(f"{server.url}{BASE}{SITE}/connect.do").status_code == 405


# --- merging ------------------------------------------------------------------------------------------------------
def test_several_accounts_in_one_merge_skipping_what_main_has(server, session, client, people, poll):
    main, one, two = (people.ids[n] for n in (people.main, people.one, people.two))
    study(session, server, main, 1, "do_all")
    study(session, server, one, 2, "do_all")
    study(session, server, one, 3, "do_others")
    study(session, server, two, 4, "do_others")
    study(session, server, two, 5, "do_two")
    response = client.merge(people.admin, people.main, f" {people.one.upper()} ,{people.two},,{people.one}")
    golden("merged", response)
    assert strict(response).status == 200
    assert enrolled(session, server, main) == {"do_all": 1, "do_others": 3, "do_two": 5}
    merges = server.service.journal.find("accounts", main)
    assert [(m.request.sources, m.request.on_conflict) for m in merges] == [((one, two), "skip")]
    assert user(session, server.users, one)["status"] == 1
    # The answer was lost: the same call has the same answer, and no second merge.
    assert client.merge(people.admin, people.main, f"{people.one},{people.two}").content == response.content
    assert len(server.service.journal.find("accounts", main)) == 1


@pytest.mark.parametrize("sent", [
    {"method": "GET"}, {"multipart": True}, {"otherUserName": True}, {"parameter": True},
])  # fmt: skip
def test_every_form_of_the_call_is_understood(server, session, client, people, poll, sent):
    study(session, server, people.ids[people.one], 2)
    others = "otherUserName" if sent.get("otherUserName") else "otherUserNames"
    parameters = {"dispatch": "mergeAccounts", "mainUserName": people.main, others: people.one}
    acting = f"{people.admin}|a@b.c|A B"
    if sent.get("parameter"):
        parameters["realUserName"], acting = people.admin, ""
    options = {k: v for k, v in sent.items() if k in ("method", "multipart")}
    answer = strict(client.call(acting, **options, **parameters))
    assert (answer.status, answer.code) == (200, MERGED)
    assert enrolled(session, server, people.ids[people.main]) == {COURSE: 2}


def test_deactivated_only_after_success_and_asked_again_the_same(server, session, client, people, poll):
    one = people.ids[people.one]
    study(session, server, one, 2)
    first = client.merge(people.admin, people.main, people.one, deactivate="true")
    assert strict(first).code == MERGED
    assert user(session, server.users, one)["isdeleted"] is True
    assert lookups(session, server.users, one) == []
    again = client.merge(people.admin, people.main, people.one, deactivate="true")
    assert again.content == first.content
    # Another user has the name by now: that account was not merged, so the answer does not name it.
    person(session, server.users, people.one, roles=("ORG_ADMIN",))
    assert strict(client.merge(people.admin, people.main, people.one, deactivate="true")).code == NOT_ALLOWED


def test_a_merge_that_stops_deactivates_nobody_and_the_answer_is_generic(server, session, client, people, poll):
    poll.set()
    one, service = people.ids[people.one], server.service
    merge_id = names_id(people.main, [people.one], True, 0)
    answers = []
    call = threading.Thread(target=lambda: answers.append(
        client.merge(people.admin, people.main, people.one, deactivate="true")))  # fmt: skip
    call.start()
    while service.journal.get(merge_id) is None:
        call.join(0.1)
    service.admission.admit(merge_id)
    service.failures.fail(merge_id, "", "the run failed")
    call.join(60)
    assert (strict(answers[0]).status, strict(answers[0]).code) == (403, GENERIC)
    golden("generic", answers[0])
    assert user(session, server.users, one)["status"] == 1
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert strict(client.merge(people.admin, people.main, people.one, deactivate="true")).code == MERGED


def test_after_an_undo_the_same_call_is_a_new_merge(server, session, client, people, poll):
    study(session, server, people.ids[people.one], 2)
    assert strict(client.merge(people.admin, people.main, people.one)).code == MERGED
    server.service.undoing.run(names_id(people.main, [people.one], False, 0), publish=False)
    assert enrolled(session, server, people.ids[people.main]) == {}
    assert strict(client.merge(people.admin, people.main, people.one)).code == MERGED
    assert enrolled(session, server, people.ids[people.main]) == {COURSE: 2}


def test_two_equal_calls_at_once_are_one_merge(server, session, client, people, poll):
    answers = []
    calls = [threading.Thread(target=lambda: answers.append(client.merge(people.admin, people.main, people.one)))
             for _ in range(3)]  # fmt: skip
    for call in calls:
        call.start()
    for call in calls:
        call.join(60)
    assert [strict(answer).code for answer in answers] == [MERGED] * 3
    assert len(server.service.journal.find("accounts", people.ids[people.main])) == 1


# --- refusals -----------------------------------------------------------------------------------------------------
def refused(server, session, client, people, case):
    """Return (response, message code, HTTP status) of each refused call."""
    other_admin, off = name(), name()
    person(session, server.users, other_admin, roles=("SYSTEM_ADMINISTRATION",))
    person(session, server.users, off, status=0, isdeleted=True, roles=("ORG_ADMIN",))
    merge = {"dispatch": "mergeAccounts", "mainUserName": people.main, "otherUserNames": people.one}
    admin = people.admin
    many = ",".join(name() for _ in range(21))
    return {
        "unknown main": lambda: (client.merge(admin, name(), people.one), UNKNOWN, 404),
        "unknown other": lambda: (client.merge(admin, people.main, f"{people.one},{name()}"), UNKNOWN, 404),
        "acting user is none": lambda: (client.call("", **merge), NOT_ALLOWED, 401),
        "acting user unknown": lambda: (client.merge(name(), people.main, people.one), NOT_ALLOWED, 401),
        "acting user no admin": lambda: (client.merge(people.two, people.main, people.one), NOT_ALLOWED, 401),
        "acting admin deactivated": lambda: (client.merge(off, people.main, people.one), NOT_ALLOWED, 401),
        "two acting users": lambda: (client.call(admin, realUserName=other_admin, **merge), NOT_ALLOWED, 401),
        "an admin among the others": lambda: (
            client.merge(admin, people.main, f"{people.one},{other_admin}"), NOT_ALLOWED, 401),
        "unknown names by no admin": lambda: (client.merge(people.two, name(), name()), NOT_ALLOWED, 401),
        "main among the others": lambda: (
            client.merge(admin, people.main, f"{people.one},{people.main.upper()}"), GENERIC, 403),
        "no others": lambda: (client.merge(admin, people.main, " , "), GENERIC, 403),
        "no main": lambda: (client.merge(admin, "", people.one), GENERIC, 403),
        "too many": lambda: (client.merge(admin, people.main, many), GENERIC, 403),
        "main deactivated": lambda: (client.merge(admin, off, people.one), GENERIC, 403),
        "deactivate neither": lambda: (client.call(admin, **merge, deactivate="yes"), GENERIC, 403),
        "other dispatch": lambda: (client.call(admin, **merge | {"dispatch": "deleteAll"}), GENERIC, 403),
        "no dispatch": lambda: (client.call(admin, mainUserName=people.main), GENERIC, 403),
        "too long": lambda: (client.call(admin, **merge, junk="x" * 70_000), GENERIC, 403),
        "too many fields": lambda: (client.call(admin, **merge, **{f"f{i}": "1" for i in range(60)}), GENERIC, 403),
        "too many parts": lambda: (
            client.call(admin, multipart=True, **merge, **{f"f{i}": "1" for i in range(60)}), GENERIC, 403),
    }[case]()  # fmt: skip


@pytest.mark.parametrize("case", [
    "unknown main", "unknown other", "acting user is none", "acting user unknown", "acting user no admin",
    "acting admin deactivated", "two acting users", "an admin among the others", "unknown names by no admin",
    "main among the others", "no others", "no main", "too many", "main deactivated", "deactivate neither",
    "other dispatch", "no dispatch", "too long", "too many fields", "too many parts",
])  # fmt: skip
def test_each_refusal_has_its_code_and_opens_no_merge(server, session, client, people, case):
    response, code, status = refused(server, session, client, people, case)
    answer = strict(response)
    assert (answer.code, answer.status) == (code, status)
    golden({UNKNOWN: "unknown_user", NOT_ALLOWED: "not_allowed", GENERIC: "generic"}[code], response)
    for found in people.ids.values():
        assert server.service.journal.find("accounts", found) == []


def test_what_the_merge_itself_would_refuse_is_refused_without_a_trace(server, session, client, people, poll):
    assert strict(client.merge(people.admin, people.main, people.one)).code == MERGED
    third = name()
    person(session, server.users, third)
    for _ in range(2):  # `one` lives in `main` by now
        assert strict(client.merge(people.admin, third, people.one)).code == GENERIC
        assert strict(client.merge(people.admin, people.one, people.main)).code == GENERIC
    assert len(server.service.journal.find("accounts", people.ids[people.one])) == 1


HOSTILE = ["]]>", "<a href='x'>&amp;", "\x00\x01\x0b", "a\x85\u2028b", "'; DROP TABLE user; --", "\ufffe\U0001f600\U0010ffff",
           "%00%ff", "../../etc", "{{7*7}}", "é" * 200, "x" * 5000]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_are_unknown_users_in_well_formed_xml(client, people, hostile):
    response = client.merge(people.admin, people.main, hostile)
    golden("unknown_user", response)
    shown = client.merge(people.admin, people.main, hostile, details="true")
    assert shown.status_code == 404
    ElementTree.fromstring(shown.content)
    assert client.merge(people.admin, hostile, people.one).status_code == 404


def test_bytes_that_are_no_text_are_answered_in_xml(server, client, people):
    body = b"dispatch=mergeAccounts&mainUserName=%ff%fe&otherUserNames=\xff\xc3\x28"
    headers = client._headers() | {"REAL_UNAME": people.admin, "Content-Type": "application/x-www-form-urlencoded"}
    response = client.http.post(f"{client.base}/userService.do", content=body, headers=headers)
    assert strict(response).code == UNKNOWN
    headers["Content-Type"] = "multipart/form-data; boundary=x"
    assert strict(client.http.post(f"{client.base}/userService.do", content=body, headers=headers)).code == GENERIC
    headers["Content-Type"] = "multipart/form-data"
    assert strict(client.http.post(f"{client.base}/userService.do", content=body, headers=headers)).code == GENERIC


# --- on request ---------------------------------------------------------------------------------------------------
def test_details_come_on_request_and_beside_the_old_shape(server, session, client, people, poll):
    main, one, two = (people.ids[n] for n in (people.main, people.one, people.two))
    study(session, server, main, 1, "do_all")
    study(session, server, one, 2, "do_all")
    study(session, server, one, 3, "do_others")
    study(session, server, two, 4, "do_others")
    plain = client.merge(people.admin, people.main, f"{people.one},{people.two}", deactivate="true")
    response = client.merge(people.admin, people.main, f"{people.one},{people.two}", deactivate="true", details="true")
    root = ElementTree.fromstring(response.content)
    assert [child.tag for child in root] == ["msgs", "details"]
    assert response.content.startswith(plain.content.removesuffix(b"</response>\n"))
    details = root.find("details")
    assert uuid.UUID(details.findtext("mergeId")) == names_id(people.main, [people.one, people.two], True, 0)
    assert details.findtext("state") == "completed"
    assert details.findtext("main/accountId") == main
    found = {o.findtext("userName"): o for o in details.findall("other")}
    assert {n: (o.findtext("accountId"), o.findtext("result"), o.findtext("deactivated")) for n, o in found.items()} == {
        people.one: (one, "merged", "true"), people.two: (two, "merged", "true"),
    }  # fmt: skip
    skipped = {n: [(s.findtext("kind"), s.findtext("id").split("/")[0], s.findtext("keptFrom"))
                   for s in o.findall("skipped")] for n, o in found.items()}  # fmt: skip
    assert skipped == {
        people.one: [("course", "do_all", people.main)],
        people.two: [("course", "do_others", people.one)],
    }


def test_details_of_a_refusal_name_our_code(client, people):
    root = ElementTree.fromstring(client.merge(people.two, people.main, people.one, details="true").content)
    assert root.findtext("details/error/code") == "NOT_ADMIN"
    assert root.findtext("msgs/msg/code") == NOT_ALLOWED


def test_no_secret_is_in_the_servers_log(server, client, people, poll):
    fresh = OldClient(server.url, BASE)
    assert fresh.connect(*ROBOT, method="GET").code == "0152"
    assert strict(fresh.merge(people.admin, people.main, people.one)).code == MERGED
    text = server.text()
    assert f"{SITE}/connect.do" in text
    for secret in (ROBOT[1], *fresh.cookies.values()):
        assert secret not in text
    assert "Traceback" not in text
    fresh.close()
