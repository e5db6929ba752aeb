"""The places and ports of the stack: every choice is an environment variable with a default.

STACK_HOME           data, logs, secrets and the state file (default: .local in this folder)
ACCOUNT_MERGE_CACHE  the servers' jars, shared by all stacks (default: .local/lib in this folder)
KAFKA_PORT, CASSANDRA_PORT, POSTGRES_PORT, AIRFLOW_PORT  (0 = any free port)
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
DEFAULT_PORTS = {"kafka": 9092, "cassandra": 9042, "postgres": 5432, "airflow": 8080}
LOOPBACK = "127.0.0.1"


class StackError(Exception):
    """A failure of the stack, told with its remedy to the person at the terminal."""


@dataclass(frozen=True)
class Config:
    """The places of one stack; two stacks with different homes never touch each other's files.

    :param durable: a write that Cassandra or PostgreSQL has acknowledged survives its SIGKILL, as on a cluster whose
        other replicas have it, and on a PostgreSQL with its own defaults.
    :param guarded: Cassandra demands a sign-in, and allows only granted operations.
    :param dags: the folder of Airflow's DAGs.
    """

    home: Path
    cache: Path
    ports: dict[str, int]
    durable: bool = False
    guarded: bool = False
    dags: Path = PROJECT / "dags"

    @classmethod
    def from_env(cls, env: dict[str, str] | None = None) -> Config:
        """Read the environment; a port that is not a number from 0 to 65535 is refused with its name."""
        env = dict(os.environ) if env is None else env
        home = Path(env.get("STACK_HOME") or PROJECT / ".local").resolve()
        cache = Path(env.get("ACCOUNT_MERGE_CACHE") or PROJECT / ".local" / "lib").resolve()
        ports = {}
        for name, default in DEFAULT_PORTS.items():
            variable = f"{name.upper()}_PORT"
            text = env.get(variable) or str(default)
            if not text.isascii() or not text.isdigit() or int(text) > 65535:
                raise StackError(f"{variable}={text} is not a port. Give 1 to 65535, or 0 for any free port.")
            ports[name] = int(text)
        return cls(home, cache, ports)

    @property
    def side(self) -> Path:
        """A folder outside of the home, for a server that may not enter the home (see local/servers.py)."""
        name = "account-merge-" + hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / name

    def port(self, name: str) -> int:
        """Return the port to listen on, free at this moment; the error for a taken one names its variable."""
        wanted = self.ports[name]
        if wanted == 0:
            return free_port()
        if not is_free(wanted):
            variable = f"{name.upper()}_PORT"
            other = wanted + 10000 if wanted < 55000 else 0
            raise StackError(
                f"Port {wanted}, meant for {name}, is taken by another program. Stop that program, or choose another"
                f" port: make up {variable}={other} ({variable}=0 takes any free one)."
            )
        return wanted


def is_free(port: int) -> bool:
    """Return whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a free port below the range that the kernel gives to clients: nobody takes it in the meantime."""
    for _ in range(1000):
        port = random.randint(15000, 32000)  # noqa: S311 - a port, not a secret
        if is_free(port):
            return port
    raise StackError("No free port found between 15000 and 32000. Stop some servers on this machine.")
