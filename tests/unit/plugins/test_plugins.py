"""The plugins folder: Airflow imports one file; the others are light, correct, and the triggerer can import them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PLUGINS = ROOT / "plugins"


def test_the_ignore_file_admits_only_the_plugin():
    """Airflow imports every admitted file in every process, each task's too."""
    from airflow._shared.module_loading import find_path_from_directory
    from airflow.configuration import conf

    assert conf.get("core", "dag_ignore_file_syntax") == "glob"
    admitted = [os.path.relpath(path, PLUGINS) for path in find_path_from_directory(str(PLUGINS), ".airflowignore")]
    assert admitted == ["account_merge_plugin.py"]


def test_the_plugin_registers():
    from airflow.plugins_manager import AirflowPlugin

    from account_merge_plugin import AccountMergePlugin

    assert issubclass(AccountMergePlugin, AirflowPlugin)
    assert AccountMergePlugin.name == "account_merge"


def test_importing_is_light(tmp_path):
    modules = [
        "account_merge_plugin",
        *(f"account_merge_airflow.{name}" for name in ("sensors", "callbacks", "policies")),
    ]
    script = (
        f"import sys, {', '.join(modules)}; "
        "print(sorted(m for m in ('cassandra', 'confluent_kafka', 'account_merge.service') if m in sys.modules))"
    )
    path = os.pathsep.join([str(ROOT / "include"), str(PLUGINS)])
    env = os.environ | {"PYTHONPATH": path, "AIRFLOW_HOME": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_the_triggerer_can_make_the_trigger_again():
    from airflow.sdk.module_loading import import_string

    from account_merge_airflow.triggers import WorkTrigger

    path, arguments = WorkTrigger(window=50, interval=2).serialize()
    again = import_string(path)(**arguments)
    assert isinstance(again, WorkTrigger)
    assert arguments == {"window": 50, "interval": 2}  # no address, no password


def sensor():
    from account_merge_airflow.sensors import WaitForWorkSensor

    return WaitForWorkSensor(task_id="wait_for_work", window=50, interval=2)


class Looks:
    """A service whose looks find these, one after the other."""

    def __init__(self, *found, pause=0.0):
        self.inbox = self.pace = self
        self.found, self.asked, self.pause = list(found), [], lambda: pause

    def has_work(self, runs):
        self.asked.append(runs)
        found = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if isinstance(found, Exception):
            raise found
        return found

    def close(self):
        pass


def end_of(monkeypatch, looks, window=0.2):
    """How the trigger ends its task."""
    from account_merge_airflow import triggers

    async def settings():
        return None

    monkeypatch.setattr(triggers, "aload_settings", settings)
    monkeypatch.setattr(triggers, "_make_service", lambda settings: looks)

    async def run():
        trigger = triggers.WorkTrigger(window=window, interval=0.02)
        (event,) = [event async for event in trigger.run()]
        await trigger.cleanup()
        return event

    return asyncio.run(run())


def test_a_look_that_finds_work_ends_the_task_with_what_it_saw(monkeypatch):
    from airflow.triggers.base import TaskSuccessEvent

    looks = Looks({"lag": 0, "due": 0}, {"lag": 2, "due": 1})
    event = end_of(monkeypatch, looks, window=20)
    assert isinstance(event, TaskSuccessEvent)
    assert event.xcoms == {"return_value": {"lag": 2, "due": 1}}
    assert looks.asked == [False, False]  # which runs Airflow has is asked for once a minute


def test_a_quiet_window_skips_after_a_look_for_lost_runs(monkeypatch):
    from airflow.triggers.base import TaskSkippedEvent

    looks = Looks({"lag": 0, "due": 0})
    assert isinstance(end_of(monkeypatch, looks), TaskSkippedEvent)
    assert len(looks.asked) > 2
    assert looks.asked == [False] * (len(looks.asked) - 1) + [True]


def test_after_a_failed_poll_nothing_is_looked_for_until_the_pause_is_over(monkeypatch):
    from airflow.triggers.base import TaskSkippedEvent

    looks = Looks({"lag": 2, "due": 1}, pause=3.0)
    assert isinstance(end_of(monkeypatch, looks), TaskSkippedEvent)
    assert looks.asked == []


def test_an_outage_inside_the_window_is_no_error_and_one_to_its_end_is(monkeypatch):
    from airflow.triggers.base import TaskSkippedEvent, TaskSuccessEvent

    from account_merge.errors import TransientError

    away = TransientError("KAFKA_AWAY", "no broker", "wait")
    assert isinstance(end_of(monkeypatch, Looks(away, {"lag": 1, "due": 0})), TaskSuccessEvent)
    event = end_of(monkeypatch, Looks(away))
    assert not isinstance(event, TaskSkippedEvent)
    assert event.payload["status"] == "unreachable"
    assert "no broker" in event.payload["error"]


def test_a_window_that_could_not_look_fails_and_says_what_to_do():
    from account_merge.errors import TransientError

    with pytest.raises(TransientError, match="Nothing is lost"):
        sensor().execute_complete({}, {"status": "unreachable", "error": "NO_CASSANDRA"})


def connection(**fields):
    from airflow.sdk import Connection

    return Connection(conn_id="given", conn_type="generic", **fields)


def test_without_connections_the_environment_decides(monkeypatch):
    from account_merge_airflow.connections import settings_from

    monkeypatch.setenv("CASSANDRA_PORT", "9999")
    assert settings_from(None, None).cassandra_port == 9999


def test_connections_win_over_the_environment(monkeypatch):
    from account_merge_airflow.connections import settings_from

    monkeypatch.setenv("CASSANDRA_PORT", "9999")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "elsewhere:1")
    cassandra = connection(host="one, two", port=9043, login="reader", password="secret", schema="courses")
    kafka = connection(extra='{"bootstrap.servers": "broker:9093", "security.protocol": "SSL", "group.id": "other"}')
    settings = settings_from(cassandra, kafka)
    assert settings.cassandra_contact_points == ("one", "two")
    assert (settings.cassandra_port, settings.courses_keyspace) == (9043, "courses")
    assert (settings.cassandra_username, settings.cassandra_password) == ("reader", "secret")
    assert settings.kafka_bootstrap_servers == "broker:9093"
    assert settings.kafka_config == {
        "security.protocol": "SSL"
    }  # a connection cannot change options that delivery needs
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    "extra", ['{"local_dc": "west"}', '{"load_balancing_policy_args": {"local_dc": "west"}}', '{"local_dc": ""}', "{}"]
)
def test_a_connection_names_the_data_centre(monkeypatch, extra):
    from account_merge_airflow.connections import settings_from

    monkeypatch.setenv("CASSANDRA_LOCAL_DC", "east")
    found = settings_from(connection(host="one", extra=extra), None).cassandra_local_dc
    assert found == ("west" if "west" in extra else "east")


def test_what_a_connection_leaves_blank_stays(monkeypatch):
    from account_merge_airflow.connections import settings_from

    monkeypatch.setenv("CASSANDRA_PORT", "9999")
    monkeypatch.setenv("CASSANDRA_USERNAME", "from-environment")
    settings = settings_from(connection(host="one"), connection())
    assert (settings.cassandra_port, settings.cassandra_username) == (9999, "from-environment")


JOURNAL = {"host": "db", "port": 5433, "login": "journal", "password": "word", "schema": "account_merge"}


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        (JOURNAL, "postgresql://journal:word@db:5433/account_merge"),
        (JOURNAL | {"extra": '{"sslmode": "require", "options": "-c a=b"}'},
         "postgresql://journal:word@db:5433/account_merge?sslmode=require&options=-c%20a%3Db"),
        (JOURNAL | {"host": "::1"}, "postgresql://journal:word@[::1]:5433/account_merge"),
        ({"host": "db", "schema": "account_merge"}, "postgresql://db/account_merge"),
        ({"schema": "account_merge", "extra": '{"host": "/run/postgresql"}'},
         "postgresql:///account_merge?host=%2Frun%2Fpostgresql"),
        ({}, ""),
    ],
)  # fmt: skip
def test_a_connection_is_the_journal_s_address(monkeypatch, fields, url):
    from account_merge_airflow.connections import settings_from

    monkeypatch.delenv("ACCOUNT_MERGE_JOURNAL_URL", raising=False)
    assert settings_from(None, None, connection(**fields)).journal_url == url


def test_any_password_reaches_the_journal_s_driver(monkeypatch):
    from psycopg.conninfo import conninfo_to_dict
    from sqlalchemy import make_url

    from account_merge_airflow.connections import settings_from

    monkeypatch.delenv("ACCOUNT_MERGE_JOURNAL_URL", raising=False)
    login, password = "who@where:1", "p@:/%?# +é&=x"
    url = settings_from(None, None, connection(**JOURNAL | {"login": login, "password": password})).journal_url
    assert (make_url(url).username, make_url(url).password, make_url(url).host) == (login, password, "db")
    told = conninfo_to_dict(url)
    assert (told["user"], told["password"], told["host"], told["port"]) == (login, password, "db", "5433")


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "postgresql+psycopg://theirs:s%40lt@env:1/journal?sslmode=prefer&connect_timeout=3"),
        ({"host": "db"}, "postgresql+psycopg://theirs:s%40lt@db:1/journal?sslmode=prefer&connect_timeout=3"),
        ({"password": "a b"}, "postgresql+psycopg://theirs:a%20b@env:1/journal?sslmode=prefer&connect_timeout=3"),
        ({"port": 2, "extra": '{"sslmode": "require"}'},
         "postgresql+psycopg://theirs:s%40lt@env:2/journal?connect_timeout=3&sslmode=require"),
        (JOURNAL, "postgresql+psycopg://journal:word@db:5433/account_merge?sslmode=prefer&connect_timeout=3"),
    ],
)  # fmt: skip
def test_what_the_journal_s_connection_leaves_blank_stays(monkeypatch, fields, url):
    from account_merge_airflow.connections import settings_from

    given = "postgresql+psycopg://theirs:s%40lt@env:1/journal?sslmode=prefer&connect_timeout=3"
    monkeypatch.setenv("ACCOUNT_MERGE_JOURNAL_URL", given)
    assert settings_from(None, None, connection(**fields)).journal_url == url


def test_a_connection_without_a_database_is_refused_without_its_password(monkeypatch):
    from account_merge.errors import InvalidRequest
    from account_merge_airflow.connections import settings_from

    monkeypatch.delenv("ACCOUNT_MERGE_JOURNAL_URL", raising=False)
    with pytest.raises(InvalidRequest, match="ACCOUNT_MERGE_JOURNAL_URL") as refused:
        settings_from(None, None, connection(**JOURNAL | {"schema": None, "password": "hush"}))
    assert "hush" not in str(refused.value)


def test_tasks_and_the_triggerer_ask_for_the_journal_s_connection(monkeypatch):
    from account_merge_airflow import connections

    found = {"account_merge_journal": connection(**JOURNAL)}

    async def afound(conn_id):
        return found.get(conn_id)

    monkeypatch.setattr(connections, "_connection", found.get)
    monkeypatch.setattr(connections, "_aconnection", afound)
    url = "postgresql://journal:word@db:5433/account_merge"
    assert connections.load_settings().journal_url == url
    assert asyncio.run(connections.aload_settings()).journal_url == url


@pytest.fixture
def asked(monkeypatch):
    """Answers what Airflow is asked for; a run id that begins with `there` exists, one with `broken` raises."""
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, OKResponse

    sent = []

    class Comms:
        def send(self, message):
            sent.append(message)
            if message.run_id.startswith("broken"):
                raise RuntimeError("API down")
            exists = message.run_id.startswith("there")
            return ErrorResponse(error=ErrorType.DAGRUN_ALREADY_EXISTS) if exists else OKResponse(ok=True)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(), raising=False)
    return sent


def chosen(run_id, **more):
    conf = {"merge_id": "m", "source_accounts": ["a"], "target_account": "b"}
    return {"merge_id": "m", "trigger_run_id": run_id, "dag_id": "account_merge", "conf": conf, **more}


def test_a_chosen_merge_becomes_a_run(asked):
    from account_merge_airflow.runs import start_run

    assert start_run(chosen("merge__m__1"))
    (message,) = asked
    assert (message.dag_id, message.run_id, message.conf) == ("account_merge", "merge__m__1", chosen("")["conf"])
    assert (message.logical_date, message.reset_dag_run) == (None, False)
    assert message.note == "Merge m: a into b, by the poll."
    assert start_run(chosen("there", reset_dag_run=True)) is False
    assert asked[-1].reset_dag_run is True


def test_what_an_event_says_is_never_read_as_a_template(asked):
    from account_merge_airflow.runs import start_run

    odd = chosen("merge__m__1")
    odd["conf"]["target_account"] = "{{ 7 * 7 }}"
    start_run(odd)
    assert asked[0].conf["target_account"] == "{{ 7 * 7 }}"
    assert "{{ 7 * 7 }}" in asked[0].note


def test_a_note_is_never_too_long_for_airflow(asked):
    from account_merge_airflow.runs import start_run

    long = chosen("r")
    long["conf"]["source_accounts"] = ["a" * 128] * 20
    start_run(long)
    assert len(asked[0].note) <= 1000


class Journalled:
    """A service whose journal chose these runs."""

    def __init__(self, *runs):
        self.inbox = self.pace = self.settings = self
        self.bulk_from = 0
        self.next_runs = lambda life, begin: [chosen(run) for run in runs]
        self.failures = 0

    def failed(self):
        self.failures += 1


def test_one_task_starts_all_and_one_that_fails_stops_no_other(asked, monkeypatch):
    from account_merge_airflow import polling

    service = Journalled("merge__1", "there__2", "broken__3", "merge__4")
    monkeypatch.setattr(polling, "open_service", lambda: contextlib.nullcontext(service))
    with pytest.raises(RuntimeError, match="API down"):
        polling.start_chosen({})
    assert [message.run_id for message in asked] == ["merge__1", "there__2", "broken__3", "merge__4"]
    assert service.failures == 1  # the next look waits
    service.next_runs = lambda life, begin: [chosen("merge__5"), chosen("there__6")]
    assert polling.start_chosen({}) == {"started": 1, "there": 1, "failed": 0}


def test_a_run_of_the_poll_names_its_merge():
    from account_merge_airflow.callbacks import RUN_ID

    merge_id = str(uuid.uuid4())
    assert RUN_ID.fullmatch(f"merge__{merge_id}__12")[1] == merge_id
    assert RUN_ID.fullmatch("manual__2026-01-01T00:00:00+00:00") is None


def test_params_become_a_request():
    from account_merge_airflow.params import request_from

    request = request_from({"source_accounts": ["a", "a", "c"], "target_account": "b", "tables": ["user_enrolments"],
                            "on_conflict": "skip", "reason": None}, requested_by="admin")  # fmt: skip
    assert (request.sources, request.target, request.tables) == (("a", "c"), "b", ("user_enrolments",))
    assert (request.on_conflict, request.source_rows, request.reason) == ("skip", "keep", "")
    assert request.requested_by == "admin"


def test_all_tables_means_all_also_later():
    from account_merge.rules import RULES
    from account_merge_airflow.params import request_from

    params = {"source_accounts": ["a"], "target_account": "b", "tables": [rule.table for rule in RULES]}
    assert request_from(params).tables == ()
