"""The web app on real servers: one API server process for the tests of a module, which play the poll themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from account_merge.cli import run_merge
from account_merge.service import Service
from account_merge.settings import Settings
from local.config import PROJECT, free_port
from tests.keyspaces import own_keyspaces

SERVER = Path(__file__).with_name("api_server.py")
ROBOT, VIEWER = ("robot", "robot-secret-1"), ("viewer", "viewer-secret-1")


@dataclass
class Server:
    """A running API server."""

    url: str
    log: Path
    service: Service
    keyspace: str
    users: str
    stopped: threading.Event = field(default_factory=threading.Event)

    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text()


def _environment(own: dict[str, str], home: Path) -> dict[str, str]:
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps(dict((ROBOT, VIEWER))))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ACCOUNT_MERGE_"))}
    return kept | own | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "robot:op,viewer:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__API__SECRET_KEY": "a" * 40,
        "AIRFLOW__API_AUTH__JWT_SECRET": "b" * 40,
        "AIRFLOW_CONN_CASSANDRA_ACCOUNT_MERGE": json.dumps({"conn_type": "cassandra"}),
        "AIRFLOW_CONN_KAFKA_ACCOUNT_MERGE": json.dumps({"conn_type": "kafka", "extra": {}}),
        "ACCOUNT_MERGE_ANSWER_SECONDS": "20",
        "ACCOUNT_MERGE_CONNECTS_PER_MINUTE": "60",
        "ACCOUNT_MERGE_SCAN_TABLES": "group_member,program_enrollment,user_activity_agg",
        "PYTHONPATH": f"{PROJECT}/include:{PROJECT}/plugins",
    }  # fmt: skip


def _wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            httpx.get(f"{url}/account-merge/", timeout=5)
        except httpx.TransportError:
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        else:
            return


def _poll(server: Server, settings: Settings) -> None:
    """What the DAGs do: start what can start, and merge it to its end."""
    with Service(settings) as service:
        while not server.stopped.wait(0.1):
            for merge in service.journal.find("state", "requested"):
                run_merge(service, merge.merge_id, publish=False)


@pytest.fixture(scope="module")
def environment_of_server() -> dict[str, str]:
    """Variables over the usual ones; a module may have its own."""
    return {}


@pytest.fixture(scope="module")
def server(
    stack: Any, session: Any, tmp_path_factory: pytest.TempPathFactory, environment_of_server: dict[str, str]
) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("airflow")
    with own_keyspaces(stack, session, users=True) as own:
        env = _environment(own, home) | environment_of_server
        settings, port, log = Settings.from_env(env), free_port(), home / "server.log"
        with Service(settings) as service, log.open("wb") as out:
            service.create_journal()
            process = subprocess.Popen([sys.executable, str(SERVER), str(port)], env=env, stdout=out, stderr=out)
            found = Server(f"http://127.0.0.1:{port}", log, service, settings.courses_keyspace, settings.users_keyspace)
            try:
                _wait_until_up(found.url, process, log)
                yield found
            finally:
                process.terminate()
                process.wait(30)


@pytest.fixture
def poll(server: Server) -> Iterator[threading.Event]:
    """Merges run while the test does; setting the event stops them."""
    server.stopped = threading.Event()
    thread = threading.Thread(target=_poll, args=(server, server.service.settings))
    thread.start()
    yield server.stopped
    server.stopped.set()
    thread.join(60)
