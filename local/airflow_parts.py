"""Airflow's components on this machine: all settings in one place, so that every component gets the same ones."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from local import keys, ready, tools
from local.config import LOOPBACK, PROJECT, Config, StackError
from local.processes import Entry, launch

#: Component -> arguments of `airflow`. Logs are read from the shared folder, so no component serves its own.
COMPONENTS = {
    "api-server": ["api-server", "--workers", "1"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
READY = {"api-server": ready.api_server} | {name: partial(ready.component, name) for name in ready.COMPONENTS}
POOL = ("account_merge", 16, "Tasks of account merges that work on learners' tables at the same time.")

#: The same in every local stack; docker-compose.yaml sets the same values (tests/unit/local/test_compose.py).
SETTINGS = {
    "AIRFLOW__CORE__EXECUTOR": "account_merge_airflow.executor.WarmLocalExecutor",
    "AIRFLOW__CORE__PARALLELISM": "32",
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in keys.USERS.items()),
    # The default of 1 s is most of the time that a short chain of tasks takes; 0.25 s takes a sixth of a core when idle.
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    # The default of 300 s hides a killed task from the person who looks at the demo.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
    # A changed DAG file is parsed when it is found; the default of 30 s parses those that stay as they were as well.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
    # The API server asks the database on its event loop, too. With fewer connections than threads for requests
    # (Airflow's 40, ours 16 and 8), a burst of requests makes it wait 30 s for itself and answer 500.
    "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "20",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_MAX_OVERFLOW": "44",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
}


def journal_url(port: int) -> str:
    """Return the address of the journal on the PostgreSQL that listens there."""
    return f"postgresql://postgres@{LOOPBACK}:{port}/account_merge"


def core_settings(ports: dict[str, int]) -> dict[str, str]:
    """Return the core's own variables, for Airflow's components and for any client of this stack."""
    return {
        "ACCOUNT_MERGE_ENV": "dev",
        "KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{ports['kafka']}",
        "CASSANDRA_CONTACT_POINTS": LOOPBACK,
        "CASSANDRA_PORT": str(ports["cassandra"]),
        "ACCOUNT_MERGE_JOURNAL_URL": journal_url(ports["postgres"]),
    }


def connections(ports: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Return Airflow's connections, by id."""
    return {
        "cassandra_account_merge": {"conn_type": "cassandra", "host": LOOPBACK, "port": ports["cassandra"]},
        "kafka_account_merge": {
            "conn_type": "kafka",
            "extra": {"bootstrap.servers": f"{LOOPBACK}:{ports['kafka']}"},
        },
    }


def environment(config: Config, ports: dict[str, int]) -> dict[str, str]:
    """Return the whole environment of Airflow's components in this stack."""
    home, secret = config.home / "airflow", keys.load(config.home)
    url = f"http://{LOOPBACK}:{ports['airflow']}"
    own = {
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": str(PROJECT / "include"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(config.dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": secret["fernet_key"],
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://postgres@{LOOPBACK}:{ports['postgres']}/postgres",
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(ports["airflow"]),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": secret["secret_key"],
        "AIRFLOW__API_AUTH__JWT_SECRET": secret["jwt_secret"],
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
    }
    conn = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections(ports).items()}
    # Settings that the caller exported for another Airflow must not leak into this one; settings of the core may.
    alien = ("AIRFLOW__", "AIRFLOW_CONN_")
    inherited = {k: v for k, v in tools.python_environment().items() if not k.startswith(alien)}
    return inherited | core_settings(ports) | SETTINGS | own | conn


def prepare(config: Config, ports: dict[str, int], database: Path) -> None:
    """Write the passwords and bring the metadata database to this Airflow's version (once per version).

    :param database: PostgreSQL's data folder; the note of the migrated version lies beside it and goes when it goes.
    """
    secret, env = keys.load(config.home), environment(config, ports)
    passwords = {user: secret[f"{user}_password"] for user in keys.USERS}
    keys.write_private(config.home / "airflow" / "passwords.json", json.dumps(passwords))
    from importlib.metadata import version

    note, wanted = database.with_name("migrated"), version("apache-airflow-core")
    if note.exists() and note.read_text() == wanted:
        return
    run(["db", "migrate"], env, "The metadata database could not be prepared")
    name, slots, text = POOL
    run(["pools", "set", name, str(slots), text], env, "The pool could not be created")
    note.write_text(wanted)


def run(arguments: list[str], env: dict[str, str], problem: str) -> str:
    """Run one `airflow` command to its end; a failure is an error that starts with `problem`."""
    command = [sys.executable, "-m", "airflow", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    if done.returncode:
        raise StackError(f"{problem} (airflow {' '.join(arguments)}):\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def start(config: Config, name: str, ports: dict[str, int]) -> Entry:
    """Launch one component."""
    home = config.home / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    # The api-server waits for its last client before it stops; the others finish their work.
    return launch(
        [sys.executable, "-m", "airflow", *COMPONENTS[name]], home / f"{name}.log", cwd=home,
        env=environment(config, ports), port=ports["airflow"], patience=3 if name == "api-server" else 15,
    )  # fmt: skip
