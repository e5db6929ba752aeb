"""The three servers below Airflow: how each is prepared and started. All listen on loopback only."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from string import Template

from local import jars, tools
from local.config import LOOPBACK, Config, StackError, free_port
from local.processes import Entry, launch, user_group

HERE = Path(__file__).resolve().parent
#: Cassandra's default is fast, and a SIGKILL loses the writes that it acknowledged in the last moment. A durable node
#: has each write on disk before it acknowledges it.
COMMITLOG_SYNC = {False: "commitlog_sync: periodic\ncommitlog_sync_period: 10000ms", True: "commitlog_sync: batch"}
#: What makes PostgreSQL wait for the disk. The data of a demo may be lost with the machine's power.
WAITS = ("fsync", "synchronous_commit", "full_page_writes")
#: Connections to PostgreSQL: those of Airflow's processes to their database, and of every process to the journal.
CONNECTIONS = 300
#: Everybody may do everything; or a user signs in and may do what was granted (the first user is cassandra, with that
#: password). A grant counts at once.
ACCESS = {
    False: "authenticator: AllowAllAuthenticator\nauthorizer: AllowAllAuthorizer",
    True: "authenticator: PasswordAuthenticator\nauthorizer: CassandraAuthorizer\npermissions_validity: 0ms",
}
CLUSTER_ID = "bG9jYWwtc3RhY2stMDAwMQ"


def _render(config: Config, server: str, name: str, **values: object) -> Path:
    """Write one of the server's own settings files, with its ports and folders filled in, and return its path."""
    target = config.home / server / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(Template((HERE / server / name).read_text()).substitute(values))
    return target


def _java_options(server: str) -> list[str]:
    """Return the server's JVM options; an argument file breaks at a blank in a path."""
    return [line for line in (HERE / server / "jvm.options").read_text().splitlines() if line and line[0] != "#"]


def kafka(config: Config, port: int) -> Entry:
    """Start one broker that is its own controller."""
    lib, home = jars.fetch(config, "kafka"), config.home / "kafka"
    data = home / "data"
    settings = _render(config, "kafka", "server.properties", port=port, controller_port=free_port(), data=data)
    java = [tools.java(), *_java_options("kafka"), f"-Dlog4j2.configurationFile={HERE}/kafka/log4j2.properties",
            "-cp", f"{lib}/*"]  # fmt: skip
    if not (data / "meta.properties").exists():
        command = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(settings)]
        _prepare("kafka", command, cwd=home)
    return launch([*java, "kafka.Kafka", str(settings)], home / "server.log", cwd=home, port=port)


def cassandra(config: Config, port: int) -> Entry:
    """Start one node that knows only itself."""
    lib, home = jars.fetch(config, "cassandra"), config.home / "cassandra"
    data = home / "data"
    settings = _render(
        config, "cassandra", "cassandra.yaml", cql_port=port, storage_port=free_port(), data=data,
        commitlog_sync=COMMITLOG_SYNC[config.durable], access=ACCESS[config.guarded],
    )  # fmt: skip
    agents = [f"-javaagent:{jar}" for jar in lib.glob("jamm-*.jar")]
    command = [tools.java(), *_java_options("cassandra"), *agents, f"-Dcassandra.config={settings.as_uri()}",
               f"-Dcassandra.storagedir={data}", f"-Dlogback.configurationFile={HERE}/cassandra/logback.xml",
               "-Dcassandra-foreground=yes", "-Dcassandra.superuser_setup_delay_ms=0", "-cp", f"{lib}/*",
               "org.apache.cassandra.service.CassandraDaemon"]  # fmt: skip
    return launch(command, home / "server.log", cwd=home, port=port)


def postgres(config: Config, port: int) -> Entry:
    """Start PostgreSQL without sockets or passwords; it refuses to run as root, so root starts it as another user."""
    home, binaries, user = config.home / "postgres", tools.postgres(), None
    if os.geteuid() == 0:
        names = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
        user = next((names[name] for name in ("postgres", "nobody") if name in names), None)
        if user is None:
            raise StackError("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` for it.")
        if not _open_to_all(config.home):
            home = config.side / "postgres"
        if not _open_to_all(binaries):
            binaries = _lend(binaries, config.side)
    data = home / "data"
    home.mkdir(parents=True, exist_ok=True)
    if user is not None:
        shutil.chown(home, user, user_group(user))
    if not (data / "PG_VERSION").exists():
        shutil.rmtree(data, ignore_errors=True)
        command = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8",
                   "--no-locale", "--no-sync"]  # fmt: skip
        _prepare("postgres", command, cwd=home, user=user)
    waits = [f"--{name}={'on' if config.durable else 'off'}" for name in WAITS]
    command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-h", LOOPBACK, "-k", "",
               *waits, f"--max_connections={CONNECTIONS}", "--shared_buffers=64MB"]  # fmt: skip
    return launch(
        command, config.home / "postgres" / "server.log", cwd=home, user=user, port=port, stop="SIGINT", data=str(data)
    )


def _lend(binaries: Path, side: Path) -> Path:
    """Return a copy of the wheel's server outside of a private folder; its libraries keep their place beside it."""
    package = binaries.parents[1]
    if not (side / package.name).exists():
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, side / libraries.name, symlinks=True, dirs_exist_ok=True)
        shutil.copytree(package, side / package.name, symlinks=True)
    return side / package.name / binaries.relative_to(package)


def _open_to_all(path: Path) -> bool:
    """Return whether everybody can enter every folder down to this path."""
    return all(not folder.exists() or folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _prepare(server: str, command: list[str], cwd: Path, user: int | None = None) -> None:
    become = {} if user is None else {"user": user, "group": user_group(user), "extra_groups": []}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, **become)  # type: ignore[call-overload]
    if done.returncode:
        raise StackError(f"{server} could not be prepared ({command[0]}):\n{(done.stdout + done.stderr)[-2000:]}")


START = {"kafka": kafka, "cassandra": cassandra, "postgres": postgres}
