"""The plugins folder: Airflow imports one file; the others are light, correct, and the triggerer can import them."""

from __future__ import annotations

import asyncio
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


def test_the_sensor_goes_on_with_what_the_trigger_saw():
    assert sensor().execute_complete({}, {"status": "work", "found": {"lag": 2, "due": 1}}) == {"lag": 2, "due": 1}


def test_a_quiet_window_skips():
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException):
        sensor().execute_complete({}, {"status": "quiet"})


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


def test_a_chosen_merge_becomes_a_run():
    from account_merge_airflow.runs import trigger_arguments

    conf = {"merge_id": "m", "source_accounts": ["a"], "target_account": "b"}
    started = trigger_arguments(
        {"merge_id": "m", "trigger_run_id": "merge__m__1", "dag_id": "account_merge", "conf": conf}
    )
    assert started == {"trigger_dag_id": "account_merge", "trigger_run_id": "merge__m__1", "conf": conf,
                       "note": "Merge m: a into b, by the poll."}  # fmt: skip


def test_a_note_is_never_too_long_for_airflow():
    from account_merge_airflow.runs import trigger_arguments

    conf = {"merge_id": "m", "source_accounts": ["a" * 128] * 20, "target_account": "b"}
    assert (
        len(
            trigger_arguments({"merge_id": "m", "trigger_run_id": "r", "dag_id": "account_merge", "conf": conf})["note"]
        )
        <= 1000
    )


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
