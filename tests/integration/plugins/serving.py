"""The start of the web app's API server: its environment, its two users, and the wait until it is up."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import httpx

from local.config import PROJECT

SERVER = Path(__file__).with_name("api_server.py")
ROBOT, VIEWER = ("robot", "robot-secret-1"), ("viewer", "viewer-secret-1")


def environment_in(own: dict[str, str], home: Path) -> dict[str, str]:
    """Return the environment of a server whose files are in `home`; `own` are the variables of the core."""
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


def wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server answers; fail with the end of its log when it ends instead."""
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
