"""The DAGs are exactly what operators were promised: tasks, order, retries, time-outs, pool, params, docs."""

from __future__ import annotations

import contextlib
import copy
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

POLL_EDGES = {
    "wait_for_work": {"claim_events", "start_merges", "report_failures"},
    "claim_events": {"claimed", "start_merges", "report_failures"},
    "claimed": set(),
    "start_merges": set(),
    "report_failures": set(),
}
FIRST = ["user_activity_agg", "user_enrolments", "assessment_aggregator", "user_entity_enrolments", "user_group",
         "group_member", "program_enrollment"]  # fmt: skip
MERGE_EDGES = {
    "admit": {f"merge_{table}" for table in FIRST},
    # The last table may be skipped while the first ones still run: what publishes waits for all of them.
    **{f"merge_{table}": {"merge_user_content_consumption", "publish_sync_events"} for table in FIRST},
    "merge_user_content_consumption": {"publish_sync_events"},
    "publish_sync_events": set(),
}
DAGS = [
    "account_merge",
    "account_merge_approve",
    "account_merge_bulk",
    "account_merge_erase",
    "account_merge_expire",
    "account_merge_poll",
    "account_merge_replay",
    "account_merge_rescue",
    "account_merge_settle",
    "account_merge_switch",
    "account_merge_undo",
]
#: The DAGs that operators trigger by hand, with their tasks.
BY_HAND = {
    "account_merge_switch": "turn_switch",
    "account_merge_replay": "replay_events",
    "account_merge_rescue": "rescue",
    "account_merge_erase": "erase_person",
}
TABLES = [*FIRST, "user_content_consumption"]
MERGE_ID = "f9f25bc9-fb1d-5408-bcbd-b2003dcbcd4e"
GOOD = {"source_accounts": ["a"], "target_account": "b"}


def resolve(dag, conf):
    """Check conf as Airflow does when a run is triggered."""
    for name in dag.params:
        param = copy.copy(dag.params.get_param(name))  # resolving leaves its value in the param
        param.resolve(value=conf[name]) if name in conf else param.resolve()


def edges(dag):
    return {task.task_id: set(task.downstream_task_ids) for task in dag.tasks}


def test_the_project_has_exactly_these_dags(dagbag):
    assert set(dagbag.dags) == set(DAGS)


def test_the_poll_has_exactly_these_tasks_in_this_order(poll_dag):
    assert edges(poll_dag) == POLL_EDGES


def test_a_merge_has_exactly_these_tasks_in_this_order(merge_dag):
    assert edges(merge_dag) == MERGE_EDGES


def test_a_skipped_table_holds_nothing_up_and_a_failed_one_does(merge_dag):
    rules = {task.task_id: task.trigger_rule.value for task in merge_dag.tasks}
    assert rules.pop("admit") == "all_success"
    assert set(rules.values()) == {"none_failed"}


def test_the_tables_are_one_group_under_their_own_names(merge_dag):
    assert set(merge_dag.task_group.children) == {"admit", "tables", "publish_sync_events"}
    assert set(merge_dag.task_group.children["tables"].children) == {f"merge_{table}" for table in TABLES}


def test_one_hung_poll_cannot_stop_all(poll_dag):
    assert poll_dag.max_active_runs == 1
    assert poll_dag.catchup is False
    assert poll_dag.dagrun_timeout == timedelta(minutes=20)
    chain = ["wait_for_work", "claim_events", "start_merges"]
    slowest = sum((poll_dag.task_dict[name].execution_timeout for name in chain), timedelta())
    assert slowest < poll_dag.dagrun_timeout


def test_merges_that_fill_their_pool_do_not_hold_up_the_poll(poll_dag):
    assert {(task.pool, task.priority_weight) for task in poll_dag.tasks} == {("default_pool", 1000)}
    assert all("absolute" in str(task.weight_rule).lower() for task in poll_dag.tasks)


def test_one_poll_follows_the_other(poll_dag):
    assert poll_dag.schedule == "@continuous"
    assert (
        timedelta(minutes=2) <= timedelta(seconds=poll_dag.task_dict["wait_for_work"].window) < poll_dag.dagrun_timeout
    )


def test_a_look_that_finds_nothing_costs_no_process(poll_dag):
    wait = poll_dag.task_dict["wait_for_work"]
    assert wait.start_from_trigger is True
    assert wait.start_trigger_args.trigger_cls == "account_merge_airflow.triggers.WorkTrigger"
    assert wait.start_trigger_args.trigger_kwargs == {"window": wait.window, "interval": wait.interval}


def test_failures_are_reported_and_merges_started_whatever_became_of_the_claim(poll_dag):
    rules = {task.task_id: task.trigger_rule.value for task in poll_dag.tasks}
    after_work = {"start_merges", "report_failures"}
    assert {name for name, rule in rules.items() if rule == "all_done_min_one_success"} == after_work
    assert {rule for name, rule in rules.items() if name not in after_work} == {"all_success"}


def test_a_claim_is_not_retried_inside_its_run(poll_dag):
    assert poll_dag.task_dict["claim_events"].retries == 0


def test_a_merge_runs_beside_a_thousand_others_in_its_own_pool(merge_dag):
    assert merge_dag.max_active_runs == 1000
    assert {task.pool for task in merge_dag.tasks} == {"account_merge"}


def test_a_merge_that_has_begun_goes_before_one_that_has_not(merge_dag):
    assert all(task.weight_rule == "upstream" for task in merge_dag.tasks)


def test_every_task_of_a_merge_is_retried_by_the_policy(merge_dag):
    for task in merge_dag.tasks:
        assert task.retries == 3
        assert task.retry_exponential_backoff > 1
        assert task.max_retry_delay == timedelta(minutes=5)
        assert task.retry_policy is not None


@pytest.mark.parametrize(("code", "action"), [("InvalidRequest", "fail"), ("InvalidEvent", "fail"),
                                              ("NeedsAttention", "fail"), ("TransientError", "retry")])  # fmt: skip
def test_the_policy_knows_every_error_of_the_core(merge_dag, code, action):
    from account_merge import errors

    error = getattr(errors, code)("CODE", "what happened", "what to do")
    decision = merge_dag.task_dict["admit"].retry_policy.evaluate(error, try_number=1, max_tries=3)
    assert decision.action.value == action
    assert decision.reason


def test_an_unforeseen_error_is_retried_as_usual(merge_dag):
    policy = merge_dag.task_dict["admit"].retry_policy
    assert policy.evaluate(RuntimeError("bug"), try_number=1, max_tries=3).action.value == "default"


def test_every_task_has_a_time_out_and_a_text(dagbag):
    for dag in dagbag.dags.values():
        for task in dag.tasks:
            assert task.execution_timeout, task.task_id
            assert task.doc_md, task.task_id


def test_a_failed_run_calls_back(merge_dag):
    assert merge_dag.on_failure_callback.__name__ == "publish_failed_event"


def test_every_dag_explains_itself(dagbag):
    for dag in dagbag.dags.values():
        assert dag.doc_md.lstrip().startswith("# Account merge")
        assert "uarantee" in dag.doc_md
        assert "**When it fails:**" in dag.doc_md
        assert "account-merge" in dag.tags
        assert dag.is_paused_upon_creation is False


def test_the_trigger_form_describes_every_param(merge_dag):
    schemas = {name: merge_dag.params.get_param(name).schema for name in merge_dag.params}
    assert set(schemas) == {"source_accounts", "target_account", "tables", "on_conflict", "source_rows", "deactivate_sources", "dry_run",
                            "reason", "choices"}  # fmt: skip
    for name, schema in schemas.items():
        assert schema.get("type"), name
        assert schema.get("title"), name
        assert merge_dag.params.get_param(name).description, name


def test_the_defaults_are_the_careful_ones(merge_dag):
    defaults = {name: merge_dag.params.get_param(name).value for name in
                ("tables", "on_conflict", "source_rows", "deactivate_sources", "dry_run")}  # fmt: skip
    assert defaults == {"tables": TABLES, "on_conflict": "combine", "source_rows": "keep",
                        "deactivate_sources": False, "dry_run": False}  # fmt: skip


def test_a_second_person_is_asked_between_the_proposal_and_the_decision(dagbag, merge_dag):
    dag = dagbag.dags["account_merge_approve"]
    assert edges(dag) == {"propose": {"approve"}, "approve": {"decide"}, "decide": set()}
    assert (dag.schedule, dag.catchup, dag.max_active_runs) == (None, False, 1000)
    assert {*dag.params} == {*merge_dag.params} - {"dry_run"} | {"answer_within_days"}
    ask = dag.task_dict["approve"]
    assert (list(ask.options), ask.defaults, list(ask.template_fields)) == (["Approve", "Reject"], ["Reject"], [])
    assert ask.response_timeout == timedelta(days=7)
    for task in dag.tasks:
        assert (task.pool, task.priority_weight, task.retries) == ("default_pool", 1000, 3)
        assert task.retry_policy is not None


@pytest.mark.parametrize(("conf", "good"), [
    (GOOD, True), (GOOD | {"answer_within_days": 30, "on_conflict": "skip", "deactivate_sources": True}, True),
    ({}, False), (GOOD | {"answer_within_days": 0}, False), (GOOD | {"answer_within_days": 91}, False),
    (GOOD | {"answer_within_days": 1.5}, False), (GOOD | {"tables": []}, False),
])  # fmt: skip
def test_a_proposal_takes_good_params_only(dagbag, conf, good):
    from airflow.sdk.exceptions import ParamValidationError

    with contextlib.nullcontext() if good else pytest.raises(ParamValidationError):
        resolve(dagbag.dags["account_merge_approve"], conf)


def test_what_a_second_person_reads_is_text_and_never_a_template_or_markdown():
    import uuid

    from account_merge.model import Merge, MergeRequest
    from account_merge_airflow.proposing import code, words_of

    request = MergeRequest(("{{ var.value.secret }}",), "b`](http://evil)", reason="*x*\n# Approve", requested_by="ann")
    merge = Merge.unopened(uuid.UUID(MERGE_ID), request, "proposed")
    subject, body = words_of(merge, {"user_enrolments": {"created": 1200, "changed": 1}}, 7)
    assert subject == "Merge 1 account into b`](http://evil)?"
    for words in ("`{{ var.value.secret }}`", "``b`](http://evil)``", "`*x* # Approve`", "`ann`", f"/account-merge/merges/{MERGE_ID}",
                  "| user_enrolments | 1,200 created, 1 changed |", "in 7 days"):  # fmt: skip
        assert words in body
    assert (code("`a"), code(" "), code("a``b")) == ("`` `a ``", "", "```a``b```")
    assert "nothing would be written" in words_of(merge, {}, 7)[1]


@pytest.mark.parametrize(("name", "task"), BY_HAND.items())
def test_what_operators_trigger_acts_while_merges_fill_their_pool(dagbag, name, task):
    dag = dagbag.dags[name]
    assert edges(dag) == {task: set()}
    assert dag.schedule is None
    assert dag.catchup is False
    assert dag.task_dict[task].pool == "default_pool"
    assert dag.task_dict[task].priority_weight == 1000
    assert dag.task_dict[task].retry_policy is not None
    for param in map(dag.params.get_param, dag.params):
        assert param.schema.get("type")
        assert param.schema.get("title")
        assert param.description


def test_settles_run_by_the_clock_one_run_at_a_time(dagbag):
    dag = dagbag.dags["account_merge_settle"]
    assert edges(dag) == {"settle_merges": set()}
    assert (dag.max_active_runs, dag.catchup, dag.timetable.expression) == (1, False, "*/5 * * * *")
    task = dag.task_dict["settle_merges"]
    assert (task.pool, task.retries) == ("account_merge", 0)
    assert task.execution_timeout < dag.dagrun_timeout


def test_images_expire_by_the_clock_one_run_at_a_time(dagbag):
    dag = dagbag.dags["account_merge_expire"]
    assert edges(dag) == {"expire_merges": set()}
    assert (dag.max_active_runs, dag.catchup, dag.timetable.expression) == (1, False, "17 2 * * *")
    task = dag.task_dict["expire_merges"]
    assert (task.pool, task.retries) == ("account_merge", 3)
    assert task.execution_timeout < dag.dagrun_timeout


@pytest.mark.parametrize(("conf", "good"), [
    ({"account": "a"}, True), ({"account": "a", "reason": "request 4711", "dry_run": False}, True),
    ({}, False), ({"account": ""}, False), ({"account": " "}, False), ({"account": ["a"]}, False),
    ({"account": "a", "dry_run": "no"}, False), ({"account": "a", "reason": "x" * 501}, False),
])  # fmt: skip
def test_an_erasure_takes_good_params_only(dagbag, conf, good):
    from airflow.sdk.exceptions import ParamValidationError

    with contextlib.nullcontext() if good else pytest.raises(ParamValidationError):
        resolve(dagbag.dags["account_merge_erase"], conf)
    assert dagbag.dags["account_merge_erase"].params["dry_run"] is True


def test_an_undo_goes_through_the_tables_in_reverse_order_aggregates_last(dagbag):
    order = ["begin", *(f"undo_{table}" for table in reversed(TABLES)), "end"]
    assert order[-2] == "undo_user_activity_agg"
    dag = dagbag.dags["account_merge_undo"]
    assert edges(dag) == {task: {following} for task, following in zip(order, order[1:], strict=False)} | {"end": set()}
    assert dag.schedule is None
    for task in dag.tasks:
        assert (task.pool, task.retries) == ("account_merge", 3)
        assert task.retry_policy is not None
        assert task.execution_timeout


@pytest.mark.parametrize(("conf", "good"), [
    ({"merge_id": MERGE_ID}, True), ({"merge_id": f" {MERGE_ID}\n", "action": "redo", "dry_run": False}, True),
    ({}, False), ({"merge_id": "all"}, False), ({"merge_id": MERGE_ID, "action": "erase"}, False),
    ({"merge_id": MERGE_ID, "dry_run": "no"}, False),
])  # fmt: skip
def test_an_undo_takes_good_params_only(dagbag, conf, good):
    from airflow.sdk.exceptions import ParamValidationError

    with contextlib.nullcontext() if good else pytest.raises(ParamValidationError):
        resolve(dagbag.dags["account_merge_undo"], conf)
    assert dagbag.dags["account_merge_undo"].params["dry_run"] is True


@pytest.mark.parametrize(("conf", "good"), [
    ({"reason": "restore"}, True), ({"action": "resume", "tenant": "org-1"}, True), ({"tenant": None}, True),
    ({"action": "stop"}, False), ({"tenant": ["org-1"]}, False), ({"reason": "x" * 1001}, False),
])  # fmt: skip
def test_the_switch_takes_good_params_only(dagbag, conf, good):
    from airflow.sdk.exceptions import ParamValidationError

    with contextlib.nullcontext() if good else pytest.raises(ParamValidationError):
        resolve(dagbag.dags["account_merge_switch"], conf)


@pytest.mark.parametrize(("conf", "good"), [
    ({}, True), ({"merge_ids": [MERGE_ID], "dry_run": False, "reason": "repaired"}, True),
    ({"states": ["undeliverable"], "since": "2026-03-01T10:00:00Z", "until": None, "limit": 1000}, True),
    ({"corrected": {MERGE_ID: {"edata": {}}}, "codes": ["RUN_FAILED"], "account": "a"}, True),
    ({"merge_ids": ["x"]}, False), ({"states": []}, False), ({"states": ["completed"]}, False),
    ({"since": 5}, False), ({"limit": 0}, False), ({"limit": 1001}, False), ({"corrected": []}, False),
    ({"dry_run": "no"}, False),
])  # fmt: skip
def test_the_replay_takes_good_params_only(dagbag, conf, good):
    from airflow.sdk.exceptions import ParamValidationError

    with contextlib.nullcontext() if good else pytest.raises(ParamValidationError):
        resolve(dagbag.dags["account_merge_replay"], conf)


@pytest.mark.parametrize(("conf", "good"), [
    ({}, True), ({"lines": "from,to\na,b", "dry_run": False, "seeded": "yes"}, True),
    ({"path": "/data/userorg.log", "format": "log", "lines": None, "reason": None}, True),
    ({"what": "stranded", "restart": True}, True), ({"what": "all"}, False), ({"format": "xml"}, False),
    ({"seeded": True}, False), ({"lines": ["a,b"]}, False), ({"lines": "x" * 1048577}, False), ({"dry_run": "no"}, False),
])  # fmt: skip
def test_a_rescue_takes_good_params_only_and_only_says_what_it_would_do(dagbag, conf, good):
    from airflow.sdk.exceptions import ParamValidationError

    with contextlib.nullcontext() if good else pytest.raises(ParamValidationError):
        resolve(dagbag.dags["account_merge_rescue"], conf)
    assert dagbag.dags["account_merge_rescue"].params.get_param("dry_run").value is True


def test_the_rescue_s_form_offers_what_the_core_knows(dagbag):
    from account_merge.intake.rescue import SEEDED
    from account_merge.intake.rescue_lines import FORMATS
    from account_merge_airflow.tasks import STRANDED_SECONDS

    dag = dagbag.dags["account_merge_rescue"]
    assert dag.params.get_param("seeded").schema["enum"] == list(SEEDED)
    assert dag.params.get_param("format").schema["enum"] == list(FORMATS)
    assert timedelta(seconds=STRANDED_SECONDS) < dag.task_dict["rescue"].execution_timeout


def test_a_replay_only_says_what_it_would_do_unless_told(dagbag):
    """The default also leaves out failed events: they are replayed on demand, not with their merges."""
    params = dagbag.dags["account_merge_replay"].params
    assert params.get_param("dry_run").value is True
    assert params.get_param("states").value == ["refused", "failed", "needs_attention"]


@pytest.mark.parametrize("conf", [
    {"target_account": "b"}, {"source_accounts": ["a"]}, {"source_accounts": [], "target_account": "b"},
    {"source_accounts": "a", "target_account": "b"}, {"source_accounts": ["  "], "target_account": "b"},
    {"source_accounts": [1], "target_account": "b"}, {"source_accounts": ["a"], "target_account": ""},
    {"source_accounts": [str(n) for n in range(21)], "target_account": "b"}, GOOD | {"tables": ["users"]},
    GOOD | {"tables": []}, GOOD | {"on_conflict": "overwrite"}, GOOD | {"source_rows": "delete"},
    GOOD | {"dry_run": "yes"},
])  # fmt: skip
def test_bad_params_are_refused(merge_dag, conf):
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        resolve(merge_dag, conf)


def test_good_params_are_taken(merge_dag):
    for conf in (GOOD, GOOD | {"tables": TABLES[:1], "on_conflict": "skip", "reason": None}):
        resolve(merge_dag, conf)


def test_nothing_heavy_is_imported_when_a_dag_is_parsed(tmp_path):
    files = [str(ROOT / "dags" / f"{name}.py") for name in DAGS]
    script = (
        f"import sys, runpy\nfor file in {files!r}: runpy.run_path(file)\n"
        "print(sorted(m for m in ('cassandra', 'confluent_kafka', 'account_merge.service') if m in sys.modules))"
    )
    path = os.pathsep.join(str(ROOT / folder) for folder in ("include", "plugins"))
    env = os.environ | {"PYTHONPATH": path, "AIRFLOW_HOME": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", DAGS)
def test_a_dag_file_stays_thin(name):
    assert len((ROOT / "dags" / f"{name}.py").read_text().splitlines()) <= 100
