"""Approval by a second person on a running Airflow: the DAG asks, somebody answers by Airflow's own API, the poll merges."""

from __future__ import annotations

import json
import uuid

import pytest
from airflow_client import wait_for
from platform_world import Learner
from steps import conf_of
from web import Caller, as_role

from local import keys

MERGE, APPROVE = "account_merge", "account_merge_approve"


@pytest.fixture(scope="module")
def second(airflow_stack, airflow):
    """Another person: `op` may start runs and answer."""
    secret = keys.load(airflow_stack.config.home)["jwt_secret"]
    caller = Caller(airflow_stack.describe()["AIRFLOW_URL"], as_role(airflow.token, "op", secret))
    yield caller
    caller.http.close()


@pytest.fixture(scope="module")
def first(airflow_stack, airflow):
    """The administrator, who asks in these tests."""
    caller = Caller(airflow_stack.describe()["AIRFLOW_URL"], airflow.token)
    yield caller
    caller.http.close()


def asked(airflow, run, seconds=180):
    """Wait until a person is asked, without a worker; answers what is asked."""

    def look():
        state = airflow.states(APPROVE, run).get("approve")
        ended = airflow.run(APPROVE, run)["state"] in ("success", "failed")
        assert not ended, f"{run} ended unasked: {airflow.states(APPROVE, run)}\n{airflow.log_tail(APPROVE, run)}"
        return state == "awaiting_input"

    wait_for(look, seconds, f"question of {run}")
    return airflow.get(f"dags/{APPROVE}/dagRuns/{run}/taskInstances/approve/-1/hitlDetails")


def answer(who, airflow, run, option, seconds=180):
    """Answer, until the answer has arrived.

    Airflow asks again when somebody answers before the process that asked has ended: faster than people are.
    """
    path = f"/api/v2/dags/{APPROVE}/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"

    def look():
        if airflow.states(APPROVE, run).get("approve") == "awaiting_input":
            found = who.http.patch(path, json={"chosen_options": [option], "params_input": {}})
            assert found.status_code in (200, 409), found.text  # 409: answered, not yet taken in
        return airflow.states(APPROVE, run).get("approve") == "success"

    wait_for(look, seconds, f"answer to {run}", pause=2)


def merge_of(airflow, run):
    return uuid.UUID(airflow.xcom(APPROVE, run, "propose")["merge_id"])


def pair(world):
    source = world.study(Learner(), views=2)
    return source, world.study(Learner(course=source.course), views=5)


def test_another_person_approves_and_the_poll_merges(world, airflow, core, poll, in_state, second):
    source, target = pair(world)
    before = world.history(target.account, source.course)
    run = airflow.trigger(APPROVE, conf_of(source, target, reason="{{ 7 * 6 }} one person"))
    question = asked(airflow, run)
    merge_id = merge_of(airflow, run)
    for words in (source.account, target.account, "admin", "{{ 7 * 6 }} one person", f"/account-merge/merges/{merge_id}",
                  "user_content_consumption"):  # fmt: skip
        assert words in question["body"]
    assert target.account in question["subject"]
    assert core.journal.holder(target.account) is None
    assert source.course not in json.dumps(airflow.xcom(APPROVE, run, "propose"))
    poll()
    assert core.journal.need(merge_id).state == "proposed"
    assert world.history(target.account, source.course) == before

    answer(second, airflow, run, "Approve")
    airflow.succeeded(APPROVE, run)
    assert core.journal.need(merge_id).approved_by == "op"
    poll()
    in_state(merge_id, "completed")
    assert world.history(target.account, source.course) != before
    airflow.clear(APPROVE, run, "decide")  # a cleared decision is the same decision
    airflow.succeeded(APPROVE, run)
    assert core.journal.need(merge_id).state == "completed"


def test_who_asked_cannot_approve_and_another_person_answers_after_a_clear(world, airflow, core, first, second):
    run = airflow.trigger(APPROVE, conf_of(*pair(world)))
    asked(airflow, run)
    answer(first, airflow, run, "Approve")
    assert airflow.ended(APPROVE, run) == "failed"
    assert airflow.tasks(APPROVE, run)["decide"]["try_number"] == 1
    log = airflow.log_tail(APPROVE, run, 60)
    assert "SAME_PERSON" in log
    assert "Clear the task `approve`" in log
    merge_id = merge_of(airflow, run)
    assert core.journal.need(merge_id).state == "proposed"

    airflow.clear(APPROVE, run, "approve", downstream=True)
    asked(airflow, run)
    answer(second, airflow, run, "Reject")
    airflow.succeeded(APPROVE, run)
    merge = core.journal.need(merge_id)
    assert (merge.state, merge.note, merge.plan) == ("rejected", "rejected by op", None)
    airflow.clear(APPROVE, run)  # what is decided is not asked again
    assert airflow.succeeded(APPROVE, run)["approve"] == "skipped"


def test_a_program_asks_a_second_person_and_proposes_anew_what_changed(
    world, airflow, core, poll, in_state, first, second
):
    source, target = pair(world)
    body = {
        "source_accounts": [source.account],
        "target_account": target.account,
        "choices": {"rows": [{"table": "user_content_consumption", "choice": "target",
                              "key": {"courseid": source.course, "batchid": source.batch, "contentid": "do_lesson_000000"}}]},
    }  # fmt: skip
    key = uuid.uuid4().hex
    accepted = first.post("/proposals", body, key)
    assert accepted.status_code == 202, accepted.text
    again = first.post("/proposals", body, key)
    assert again.json()["run"]["run_id"] == accepted.json()["run"]["run_id"]
    other = first.post("/proposals", body | {"on_conflict": "skip"}, key)
    assert (other.status_code, other.json()["code"]) == (422, "KEY_REUSED")
    merge_id, run = uuid.UUID(accepted.json()["merge_id"]), accepted.json()["run"]["run_id"]
    assert source.course not in json.dumps(airflow.get(f"dags/{APPROVE}/dagRuns/{run}")["conf"])
    asked(airflow, run)
    status = first.get(f"/merges/{merge_id}").json()
    assert (status["merge"]["state"], status["approval"]["run_id"]) == ("proposed", run)
    assert first.get(f"/merges/{merge_id}/changes").json()["tables"] == {}

    world.study(source, views=9)
    answer(second, airflow, run, "Approve")
    assert airflow.ended(APPROVE, run) == "failed"
    assert source.course not in airflow.log_tail(APPROVE, run, 200)
    status = first.get(f"/merges/{merge_id}").json()["merge"]
    assert (status["state"], status["error"]["code"]) == ("proposed", "PLAN_CHANGED")
    found = second.get(f"/merges/{merge_id}/changes").json()
    assert set(found["tables"]["user_content_consumption"]) == {"changed"}
    assert {row["key"]["courseid"] for row in found["rows"]} == {source.course}
    page = second.http.get(f"/account-merge/merges/{merge_id}", headers={"Accept": "text/html"}).text
    assert "Waits for approval by another person than admin" in page
    assert "Propose anew" in page

    renewed = first.post(f"/merges/{merge_id}/propose", {}).json()["run"]["run_id"]
    asked(airflow, renewed)
    page = second.http.get(f"/account-merge/merges/{merge_id}", headers={"Accept": "text/html"}).text
    assert f"/dags/{APPROVE}/runs/{renewed}/tasks/approve/required_actions" in page
    answer(second, airflow, renewed, "Approve")
    airflow.succeeded(APPROVE, renewed)
    poll()
    in_state(merge_id, "completed")
    views = world.views(target.account, source.course)
    assert views["do_lesson_000000"] == 5
    assert {count for name, count in views.items() if name != "do_lesson_000000"} == {14}
    refused = first.post(f"/merges/{merge_id}/propose", {})
    assert (refused.status_code, refused.json()["code"]) == (409, "NOT_PROPOSED")


def test_nobody_answers_in_time_and_the_proposal_expires(world, airflow, core, airflow_stack):
    run = airflow.trigger(APPROVE, conf_of(*pair(world), answer_within_days=1))
    asked(airflow, run)
    merge_id = merge_of(airflow, run)
    time_goes_by(airflow_stack, run)
    airflow.succeeded(APPROVE, run)
    assert core.journal.need(merge_id).state == "expired"


def time_goes_by(stack, run):
    """The deadline that Airflow's scheduler looks at is in its database only."""
    import sqlalchemy

    from local import airflow_parts

    env = airflow_parts.environment(stack.config, stack.ports())
    engine = sqlalchemy.create_engine(env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    with engine.begin() as connection:
        done = connection.execute(
            sqlalchemy.text(
                "UPDATE task_instance SET trigger_timeout = now() - interval '1 minute' "
                "WHERE run_id = :run AND task_id = 'approve' AND state = 'awaiting_input'"
            ),
            {"run": run},
        )
    assert done.rowcount == 1
    engine.dispose()
