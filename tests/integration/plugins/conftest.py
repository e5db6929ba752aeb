"""The web app on real servers: one API server process for the tests of a module, which play the poll themselves."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from account_merge.cli.main import run_merge
from account_merge.service import Service
from account_merge.settings import Settings
from local.config import free_port
from tests.integration.plugins.serving import SERVER, environment_in, wait_until_up
from tests.keyspaces import own_keyspaces


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
        """Return its log so far."""
        return self.log.read_text()


def _poll(server: Server, settings: Settings) -> None:
    """Do the DAGs' work: start the merges that can start, and merge each to its end."""
    with Service(settings) as service:
        while not server.stopped.wait(0.1):
            for merge in service.journal.find("state", "requested"):
                run_merge(service, merge.merge_id, publish=False)


@pytest.fixture(scope="module")
def environment_of_server() -> dict[str, str]:
    """Return variables over the usual ones; a module may have its own."""
    return {}


@pytest.fixture(scope="module")
def server(
    stack: Any, session: Any, tmp_path_factory: pytest.TempPathFactory, environment_of_server: dict[str, str]
) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("airflow")
    with own_keyspaces(stack, session, users=True) as own:
        env = environment_in(own, home) | environment_of_server
        settings, port, log = Settings.from_env(env), free_port(), home / "server.log"
        with Service(settings) as service, log.open("wb") as out:
            service.journal.create()
            process = subprocess.Popen([sys.executable, str(SERVER), str(port)], env=env, stdout=out, stderr=out)
            found = Server(f"http://127.0.0.1:{port}", log, service, settings.courses_keyspace, settings.users_keyspace)
            try:
                wait_until_up(found.url, process, log)
                yield found
            finally:
                process.terminate()
                process.wait(30)


@pytest.fixture
def poll(server: Server) -> Iterator[threading.Event]:
    """Run merges while the test runs; setting the event stops them."""
    server.stopped = threading.Event()
    thread = threading.Thread(target=_poll, args=(server, server.service.settings))
    thread.start()
    yield server.stopped
    server.stopped.set()
    thread.join(60)
