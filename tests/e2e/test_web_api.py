"""The JSON API on a running Airflow: what a program does from preview to undo, and what it is told when it errs."""

from __future__ import annotations

import uuid

import pytest
from airflow_client import wait_for
from platform_world import Learner
from web import APP, Caller


@pytest.fixture(scope="module")
def api(airflow_stack, airflow):
    caller = Caller(airflow_stack.describe()["AIRFLOW_URL"], airflow.token)
    yield caller
    caller.http.close()


def body_of(source, target, **more):
    return {"source_accounts": [source.account], "target_account": target.account} | more


def until(api, url, *states):
    """Ask a status URL, as the 202 gave it, until the merge or run is in one of these states."""

    def look():
        found = api.http.get(url).json()
        found = found.get("merge", found)
        return found if found.get("state") in states else None

    return wait_for(look, 300, f"{url} in {states}")


def problem(answer, status, code):
    found = answer.json()
    assert (answer.status_code, found["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert found["status"] == status
    assert found["remedy"]
    return found


def test_a_program_previews_merges_reads_the_report_and_undoes(world, api):
    source = world.study(Learner(), lessons=130)
    target = world.study(Learner(course=source.course), views=5)
    before = world.history(target.account, source.course)

    preview = api.post("/previews?rows=2", body_of(source, target)).json()
    lessons = next(t for t in preview["tables"] if t["table"] == "user_content_consumption")
    assert (sum(lessons["counts"].values()), len(lessons["rows"]), lessons["complete"]) == (130, 2, True)
    assert world.history(target.account, source.course) == before

    key = uuid.uuid4().hex
    answer = api.post("/merges", body_of(source, target, reason="one person"), key)
    assert answer.status_code == 202, answer.text
    accepted = answer.json()
    assert answer.headers["location"] == accepted["status_url"]
    assert accepted["run"]["run_id"] == f"merge__{accepted['merge_id']}__1"  # not left to the poll
    again = api.post("/merges", body_of(source, target, reason="one person"), key)
    assert again.json()["merge_id"] == accepted["merge_id"]
    problem(api.post("/merges", body_of(source, target, reason="another"), key), 422, "KEY_REUSED")

    merge = until(api, accepted["status_url"], "completed")
    assert (merge["origin"], merge["reason"], len(merge["run_ids"])) == ("api", "one person", 1)
    assert until(api, accepted["run"]["status_url"], "success")["dag_id"] == "account_merge"
    after = world.history(target.account, source.course)
    assert after != before

    chosen = {"table": "user_content_consumption", "key": lessons["rows"][0]["key"], "choice": "target"}
    row = api.post("/previews?rows=2", body_of(source, target, choices={"rows": [chosen]})).json()
    row = next(t for t in row["tables"] if t["table"] == "user_content_consumption")["rows"][0]
    assert (row["choice"], row["what"], row["after"]) == ("target", "same", row["before"])
    chosen["key"] = {"courseid": "c"}
    problem(api.post("/previews", body_of(source, target, choices={"rows": [chosen]})), 422, "BAD_KEY")

    tables = api.get(f"/merges/{merge['merge_id']}/report").json()["tables"]
    url = next(t["rows_url"] for t in tables if t["table"] == "user_content_consumption")
    rows, cursor, pages = [], "", 0
    while cursor is not None:
        page = api.http.get(url, params={"cursor": cursor, "limit": 47}).json()
        rows, cursor, pages = rows + page["rows"], page["next"], pages + 1
    assert (len(rows), pages) == (130, 3)
    assert len({str(row["key"]) for row in rows}) == 130

    status = api.get(f"/merges/{merge['merge_id']}").json()
    assert (status["actions"]["undo"]["possible"], status["actions"]["redo"]["code"]) == (True, "CANNOT_REDO")
    checked = api.post(f"/merges/{merge['merge_id']}/undo", {"dry_run": True})
    assert checked.status_code == 200
    assert world.history(target.account, source.course) == after

    doing = {"reason": "two persons", "dry_run": False}
    undo = api.post(f"/merges/{merge['merge_id']}/undo", doing, key)
    assert undo.status_code == 202, undo.text
    repeated = api.post(f"/merges/{merge['merge_id']}/undo", doing, key)
    until(api, undo.json()["status_url"], "success")
    assert until(api, accepted["status_url"], "undone")["note"] == "undo by admin: two persons"
    assert world.history(target.account, source.course) == before
    # The repeated call came while the first was under way: it is the same run, or was refused because it was over.
    assert repeated.status_code == 409 or repeated.json()["run"] | {"state": None} == undo.json()["run"] | {
        "state": None
    }
    problem(api.post(f"/merges/{merge['merge_id']}/undo", {"dry_run": False}), 409, "CANNOT_UNDO")

    story = api.get(f"/accounts/{source.account}").json()
    assert (story["gave"], story["survivor"], story["held_by"]) == ([merge["merge_id"]], source.account, None)
    assert [m["merge_id"] for m in story["merges"]] == [merge["merge_id"]]


def test_merges_are_found_newest_first_page_by_page(world, api):
    target = Learner()
    made = [api.post("/merges", body_of(Learner(), target), uuid.uuid4().hex).json()["merge_id"] for _ in range(3)]

    def listed(**query):
        found, cursor = [], ""
        while cursor is not None:
            page = api.get("/merges", params={"cursor": cursor, "limit": 1} | query).json()
            assert len(page["merges"]) <= 1
            found, cursor = found + [m["merge_id"] for m in page["merges"]], page["next"]
        return found

    assert listed(account=target.account) == made[::-1]
    assert listed(merge_id=made[0]) == made[:1]
    first = api.get("/merges", params={"origin": "api", "limit": 500}).json()["merges"]
    assert [m["merge_id"] for m in first if m["merge_id"] in made] == made[::-1]
    assert api.get("/merges", params={"account": target.account, "origin": "event"}).json() == {
        "merges": [],
        "next": None,
    }
    old = {"account": target.account, "until": "2025-01-01T00:00:00Z"}
    assert api.get("/merges", params=old).json()["merges"] == []


def test_what_cannot_be_is_refused_and_leaves_nothing(world, api, core):
    one = Learner()
    key = uuid.uuid4().hex
    problem(api.post("/merges", body_of(one, one), key), 422, "SAME_ACCOUNT")
    problem(api.post("/previews", body_of(one, one)), 422, "SAME_ACCOUNT")
    assert core.journal.find("accounts", one.account) == []
    wrong = problem(
        api.post("/merges", {"source_accounts": [one.account], "secret": "learner"}, key), 422, "BAD_REQUEST"
    )
    assert {e["where"] for e in wrong["errors"]} == {"body.target_account", "body.secret"}
    assert "learner" not in str(wrong)
    assert problem(api.post("/merges", body_of(one, Learner())), 422, "BAD_REQUEST")["errors"][0]["where"].startswith(
        "header"
    )
    problem(api.get(f"/merges/{uuid.uuid4()}"), 404, "UNKNOWN_MERGE")
    problem(api.get(f"/accounts/{uuid.uuid4()}"), 404, "UNKNOWN_ACCOUNT")
    problem(api.get("/merges", params={"cursor": "x"}), 422, "BAD_CURSOR")
    problem(api.get("/nothing"), 404, "NOT_FOUND")
    problem(api.post(f"/merges/{uuid.uuid4()}/retry", {}), 404, "UNKNOWN_MERGE")


@pytest.mark.alone
def test_a_merge_behind_a_switch_waits_for_the_poll(world, api, core, poll, airflow):
    core.switch.pause("", "tests", "a pause")
    try:
        source = world.study(Learner())
        accepted = api.post("/merges", body_of(source, Learner()), uuid.uuid4().hex).json()
        assert (accepted["state"], accepted["run"]) == ("requested", None)
        assert api.get("/status").json()["switches"]
    finally:
        core.switch.resume("", "tests")
    poll()
    until(api, accepted["status_url"], "completed")


def test_the_rules_and_the_document_are_served(api):
    rules = api.get("/rules").json()
    assert rules["rules"][0]["examples"]
    assert {t["state"] for t in api.get("/coverage").json()} >= {"covered"}
    document = api.http.get(f"{APP}/api/v1/openapi.json").json()
    answers = document["paths"]["/api/v1/merges"]["post"]["responses"]
    assert set(answers["422"]["content"]) == {"application/problem+json"}
    assert "Location" in answers["202"]["headers"]


def test_a_list_of_pairs_is_checked_line_by_line_then_merged(world, api, poll):
    one, two = world.study(Learner()), world.study(Learner())
    body = {"lines": f"from,to\n{one.account},{Learner().account}\nsame,same\n{two.account},{Learner().account}\n"}
    checked = api.post("/uploads", body)
    assert (checked.status_code, [line["code"] for line in checked.json()["lines"]]) == (
        200, ["WOULD_OPEN", "SAME_ACCOUNT", "WOULD_OPEN"],
    )  # fmt: skip
    assert checked.json()["lines"][0]["counts"]["user_content_consumption"]
    done = api.post("/uploads", body | {"dry_run": False})
    assert (done.status_code, done.json()["codes"]) == (202, {"OPENED": 2, "SAME_ACCOUNT": 1})
    assert api.post("/uploads", body | {"dry_run": False}).json()["codes"] == {"ALREADY_KNOWN": 2, "SAME_ACCOUNT": 1}
    poll()
    for line in done.json()["lines"]:
        if line["status_url"]:
            until(api, line["status_url"], "completed")
