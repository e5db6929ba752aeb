"""Creates the topics and learners' tables, which are the platform's on a real cluster, and then our journal.

Run as `python -m local.provision` it takes the servers from the environment, as the containers do. Everything that is
there already stays as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from local import cql, keys, messages
from local.config import PROJECT, StackError

if TYPE_CHECKING:
    from cassandra.cluster import Session


@contextlib.contextmanager
def cassandra_session(hosts: Iterable[str], port: int) -> Iterator[Session]:
    """Open a session of our own, for DDL and sample rows."""
    from cassandra.cluster import Cluster

    patience = {"connect_timeout": 30, "control_connection_timeout": 30}  # the server has only just begun to answer
    nodelay = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    with Cluster(list(hosts), port=port, sockopts=nodelay, **patience) as cluster:
        yield cluster.connect()


def create_tables(session: Session, family: str = "cassandra", keyspace: str = "") -> None:
    """Create the platform's keyspaces and tables with its own DDL.

    :param keyspace: one for all tables, instead of the platform's own.
    """
    for statement in cql.statements(family, keyspace):
        session.execute(statement, timeout=60)


def keyspace_settings(keyspace: str) -> dict[str, str]:
    """Return the variables that tell the product of one keyspace for all of the platform's tables."""
    return {f"ACCOUNT_MERGE_{role}_KEYSPACE": keyspace for role in ("COURSES", "GROUPS", "PROGRAMS")}


def create_indexes(session: Session) -> None:
    """Create the indexes that `python -m account_merge check` offers: they lead to all rows of an account."""
    for table, column in (
        ("sunbird_courses.user_activity_agg", "user_id"),
        ("sunbird_groups.group_member", "userid"),
        ("sunbird_programs.program_enrollment", "user_id"),
    ):
        name = f"{table.split('.')[1]}_by_user"
        session.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {table} ({column}) USING 'sai'", timeout=60)


def create_journal(env: dict[str, str]) -> None:
    """Create the journal's database and tables, by the product's own command."""
    command = [sys.executable, "-m", "account_merge", "create-journal"]
    env = env | {"PYTHONPATH": str(PROJECT / "include")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, cwd=PROJECT)
    if done.returncode:
        raise StackError(f"The journal could not be created:\n{(done.stdout + done.stderr)[-3000:]}")


def topics(env: dict[str, str]) -> list[str]:
    """Return the names of all topics that the product reads or writes under these settings."""
    sys.path.insert(0, str(PROJECT / "include"))
    from account_merge.settings import Settings

    s = Settings.from_env(env)
    return [s.merge_topic, s.sync_topic, s.failed_topic, s.user_sync_topic]


def provision(env: dict[str, str]) -> None:
    """Create topics, tables and journal on the servers that `env` names."""
    messages.create_topics(env["KAFKA_BOOTSTRAP_SERVERS"], topics(env))
    with cassandra_session(env["CASSANDRA_CONTACT_POINTS"].split(","), int(env["CASSANDRA_PORT"])) as session:
        create_tables(session)
        for statement in cql.users():
            session.execute(statement, timeout=60)
        create_indexes(session)
    create_journal(env)


def write_passwords(env: dict[str, str]) -> None:
    """Write the password file of Airflow's simple auth manager, from AIRFLOW_<USER>_PASSWORD of each user."""
    path = Path(env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    keys.write_private(path, json.dumps({user: env[f"AIRFLOW_{user.upper()}_PASSWORD"] for user in keys.USERS}))


if __name__ == "__main__":
    try:
        {"all": provision, "passwords": write_passwords}[(sys.argv[1:] or ["all"])[0]](dict(os.environ))
    except StackError as problem:
        sys.exit(str(problem))
