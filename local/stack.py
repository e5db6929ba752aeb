"""Starts, stops and looks at the local stack: `python -m local.stack up|down|status|logs|env|clean [server ...]`.

`up` starts the servers that do not run yet. It returns when every server answered a real request, and the topics, the
tables and the journal exist. `up` of some of the servers below Airflow starts them bare, for tests. `down` leaves the
data, `clean` leaves nothing. Both touch only processes that `up` started.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from local import airflow_parts, jars, keys, provision, ready, servers
from local.config import LOOPBACK, Config, StackError
from local.processes import Entry, State, alive, stop, tail, wait_ready

SERVERS = ("postgres", "kafka", "cassandra")
AIRFLOW = tuple(airflow_parts.COMPONENTS)
ALL = (*SERVERS, *AIRFLOW)
READY: dict[str, Callable[[Entry], bool]] = {
    "kafka": ready.kafka, "cassandra": ready.cassandra, "postgres": ready.postgres, **airflow_parts.READY,
}  # fmt: skip
SECONDS = {"kafka": 60, "cassandra": 180, "postgres": 60}


class Stack:
    """One stack: its places, its state file and the operations on it."""

    def __init__(self, config: Config, say: Callable[[str], None] = lambda text: None) -> None:
        self.config = config
        self.state = State(config.home)
        self.say = say

    def ports(self) -> dict[str, int]:
        """Return the ports of the servers that run."""
        running = {name: entry for name, entry in self.state.load().items() if alive(entry)}
        found = {name: running[name]["port"] for name in SERVERS if name in running}
        if any(name in running for name in AIRFLOW):
            found["airflow"] = next(running[name]["port"] for name in AIRFLOW if name in running)
        return found

    def up(self, names: Iterable[str] = ALL) -> dict[str, int]:
        """Start the servers that do not run, wait until all are ready, and return the ports."""
        wanted = list(names)
        with self.state.locked():
            begin = time.monotonic()
            with_airflow = any(name in AIRFLOW for name in wanted)
            if with_airflow:
                wanted = list(ALL)
            entries = self.state.load()
            missing = [name for name in wanted if not alive(entries.get(name))]
            if not missing and (self._provisioned().exists() or not with_airflow):
                return self.ports()
            airflow_port = self._airflow_port() if with_airflow else 0
            self._fetch(missing)
            for name in (n for n in SERVERS if n in missing):
                self.state.put(name, servers.START[name](self.config, self.config.port(name)))
                self.say(f"{name}: starting")
            # The metadata database needs only PostgreSQL, and the other two take longer to start.
            for name in (n for n in SERVERS if n in wanted):
                self._await(name, SECONDS[name])
                if name == "postgres" and with_airflow:
                    migration = self._migrate(airflow_port)
            if with_airflow:
                provisioned = ThreadPoolExecutor(1).submit(self._provision)
                migration()
                self._start_airflow(airflow_port)
                provisioned.result()
                for name in AIRFLOW:
                    self._await(name, 300)
            self.say(f"ready in {time.monotonic() - begin:.1f} s")
            return self.ports()

    def _fetch(self, missing: list[str]) -> None:
        """Fetch all jars before the first server starts: a failed download then leaves no server up."""
        absent = [n for n in ("kafka", "cassandra") if n in missing and not jars.folder(self.config, n).exists()]
        if absent:
            self.say(f"fetching the jars of {' and '.join(absent)} (once, about 110 MB)")
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda name: jars.fetch(self.config, name), absent))

    def _airflow_port(self) -> int:
        running = self.ports().get("airflow")
        return running if running else self.config.port("airflow")

    def _migrate(self, airflow_port: int) -> Callable[[], None]:
        """Start the migration beside the other servers; call the result to wait for it."""
        ports = self.ports() | {"airflow": airflow_port}
        ports = {"kafka": 0, "cassandra": 0} | ports
        database = Path(self.state.load()["postgres"]["data"])
        return ThreadPoolExecutor(1).submit(airflow_parts.prepare, self.config, ports, database).result

    def _start_airflow(self, port: int) -> None:
        ports = self.ports() | {"airflow": port}
        for name in AIRFLOW:
            if not alive(self.state.load().get(name)):
                self.state.put(name, airflow_parts.start(self.config, name, ports))
                self.say(f"{name}: starting")

    def _provision(self) -> None:
        self._provisioned().unlink(missing_ok=True)
        provision.provision(os.environ | self.core_settings())
        self._provisioned().touch()

    def _provisioned(self) -> Path:
        """Return the note that topics, tables and journal were created; an `up` that broke off before has left none."""
        return self.config.home / "provisioned"

    def _await(self, name: str, seconds: float) -> None:
        entry = self.state.load()[name]
        wait_ready(name, entry, READY[name], seconds)
        self.say(f"{name}: ready on {LOOPBACK}:{entry['port']}")

    def core_settings(self) -> dict[str, str]:
        """Return the core's variables that point to this stack's servers."""
        return airflow_parts.core_settings(self.ports())

    def down(self, names: Iterable[str] = ALL) -> None:
        """Stop these servers, Airflow first; their data stays."""
        wanted = set(names)
        with self.state.locked():
            for group in (AIRFLOW, SERVERS):
                entries = {n: e for n, e in self.state.load().items() if n in group and n in wanted}
                for name in stop(entries):
                    self.say(f"{name}: did not stop by itself and was killed")
                for name in entries:
                    self.state.put(name, None)
                    self.say(f"{name}: stopped")

    def clean(self) -> None:
        """Stop everything and remove all that this stack ever wrote; shared jars of another place stay."""
        if self.config.home.exists():
            self.down()
            shutil.rmtree(self.config.home)
        shutil.rmtree(self.config.side, ignore_errors=True)

    def describe(self) -> dict[str, str]:
        """Return the addresses and sign-ins of all that runs, as variables for any other client."""
        found: dict[str, str] = {}
        ports = self.ports()
        if set(SERVERS) <= set(ports):
            found |= self.core_settings()
        if "airflow" in ports:
            secret = keys.load(self.config.home)
            found["AIRFLOW_URL"] = f"http://{LOOPBACK}:{ports['airflow']}"
            found |= {"AIRFLOW_USERNAME": "admin", "AIRFLOW_PASSWORD": secret["admin_password"]}
            found |= {f"AIRFLOW_{user.upper()}_PASSWORD": secret[f"{user}_password"] for user in keys.USERS}
        return found

    def status(self) -> list[tuple[str, str, str]]:
        """Return (server, state, place) for each server, by asking it now."""
        rows, entries = [], self.state.load()
        for name in ALL:
            entry = entries.get(name)
            if not entry or not alive(entry):
                rows.append((name, "died" if entry else "down", entry["log"] if entry else ""))
                continue
            try:
                answer = "ready" if READY[name](entry) else "not ready"
            except (OSError, ValueError):
                answer = "no answer"
            rows.append((name, answer, f"{LOOPBACK}:{entry['port']}  pid {entry['pid']}  {entry['log']}"))
        return rows


def logs(stack: Stack, names: list[str], lines: int) -> int:
    """Print the end of each server's log."""
    entries = stack.state.load()
    known = [name for name in names if name in entries]
    for name in known:
        print(f"==> {name}: {entries[name]['log']}\n{tail(entries[name], lines)}\n")
    if not known:
        print("Nothing runs, so there is no log. Start the stack: make up")
    return 0


def show_status(stack: Stack) -> int:
    """Print a line for each server; return 0 when all are ready."""
    rows = stack.status()
    for name, answer, where in rows:
        print(f"{name:14s} {answer:10s} {where}".rstrip())
    return 0 if all(answer == "ready" for _, answer, _ in rows) else 1


def show_environment(stack: Stack) -> int:
    """Print KEY=VALUE lines; a stack that is down is an error, so that a script does not go on without them."""
    found = stack.describe()
    if not found:
        print("The stack does not run. Start it: make up", file=sys.stderr)
        return 1
    print("\n".join(f"{key}={value}" for key, value in found.items()))
    return 0


def main(argv: list[str]) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m local.stack", description=__doc__.split("\n\n")[0])
    parser.add_argument("command", choices=("up", "down", "status", "logs", "env", "clean"))
    parser.add_argument("names", nargs="*", metavar="server", help=f"of: {', '.join(ALL)} (default: all)")
    parser.add_argument("--lines", type=int, default=25, help="logs: how many lines of each (default 25)")
    chosen = parser.parse_args(argv)
    names = chosen.names or list(ALL)
    if unknown := set(names) - set(ALL):
        parser.error(f"unknown server: {', '.join(sorted(unknown))}")
    try:
        stack = Stack(Config.from_env(), lambda text: print(text, flush=True))
        if chosen.command == "up":
            stack.up(names)
        elif chosen.command == "down":
            stack.down(names)
        elif chosen.command == "clean":
            stack.clean()
        elif chosen.command == "logs":
            return logs(stack, names, chosen.lines)
        else:
            return show_status(stack) if chosen.command == "status" else show_environment(stack)
    except StackError as problem:
        print(problem, file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader has seen enough: make logs | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as problem:
        print(f"{chosen.command} could not go on: {problem}. What runs: make status", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
