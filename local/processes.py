"""Starts, finds and stops processes. Id *and* start time identify a process, so no stranger is ever signalled."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from local.config import StackError

Entry = dict[str, Any]

#: Two readings of one start time may differ by this many seconds: the time of the boot is kept in whole seconds. No
#: process id is given away again so soon.
SAME_START = 2.0


def started_at(pid: int) -> float | None:
    """Return how many seconds after the boot a live process started; None when no process has this id, or only a zombie.

    The time of day would not do: it jumps when the clock is set or the machine wakes up.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return float(round(process.create_time() - psutil.boot_time(), 2))
    except psutil.NoSuchProcess:
        return None


def still_runs(pid: int, start: float | str | None) -> bool:
    """Return whether the process that had this id and start time still runs."""
    found = started_at(pid)
    return found is not None and start is not None and abs(found - float(start)) < SAME_START


def alive(entry: Entry | None) -> bool:
    """Return whether the process that this entry was written for still runs."""
    if not entry:
        return False
    with contextlib.suppress(ChildProcessError):  # reap our own child, which would look alive as a zombie
        os.waitpid(entry["pid"], os.WNOHANG)
    return still_runs(entry["pid"], entry["start"])


class State:
    """The state file of one stack: the process and the port of each server."""

    def __init__(self, home: Path) -> None:
        self.path = home / "state.json"

    def load(self) -> dict[str, Entry]:
        """Return all entries; a stack that was never up has none."""
        try:
            entries: dict[str, Entry] = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        return entries

    def put(self, name: str, entry: Entry | None) -> None:
        """Write one entry (None: remove it), replacing the file as a whole."""
        entries = self.load()
        entries.pop(name, None)
        if entry is not None:
            entries[name] = entry
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(entries, indent=2) + "\n")
        part.replace(self.path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the stack's lock: one `up`, `down` or `clean` at a time, a second one waits."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (self.path.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def launch(
    argv: list[str],
    log: Path,
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    user: int | None = None,
    **extra: Any,
) -> Entry:
    """Start a server in a session of its own, with its output appended to `log`.

    :param user: id of the user (and group) to become; only root may.
    :param extra: kept in the entry as it is (port, stop signal, ...).
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    become: dict[str, Any] = {} if user is None else {"user": user, "group": user_group(user), "extra_groups": []}
    with log.open("ab") as out:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=cwd,
            env=dict(env) if env is not None else None, start_new_session=True, **become,
        )  # fmt: skip
    return {"pid": process.pid, "start": started_at(process.pid), "launched": time.time(), "log": str(log), **extra}


def user_group(user: int) -> int:
    """Return the main group of a user id."""
    import pwd

    return pwd.getpwuid(user).pw_gid


def tail(entry: Entry, lines: int = 25) -> str:
    """Return the last lines of a server's log."""
    try:
        text = Path(entry["log"]).read_text(errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:])


def wait_ready(name: str, entry: Entry, ready: Callable[[Entry], bool], seconds: float) -> None:
    """Return once `ready` says so; a dead process or the deadline is an error with the end of the log."""
    end, pause = time.monotonic() + seconds, 0.1
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            if ready(entry):
                return
        if not alive(entry):
            raise StackError(f"{name} ended while it was starting. End of {entry['log']}:\n{tail(entry)}")
        time.sleep(pause)
        pause = min(pause * 1.2, 0.5)  # asking costs the starting servers time
    raise StackError(f"{name} was not ready within {seconds:.0f} s. End of {entry['log']}:\n{tail(entry)}")


def stop(entries: Mapping[str, Entry], seconds: float = 25) -> list[str]:
    """Stop these processes together, after their own `patience` by force; return those that needed force."""
    begin = time.monotonic()
    for entry in entries.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(entry["pid"])  # from here on psutil refuses another process with this id
            if alive(entry):
                process.send_signal(getattr(signal, entry.get("stop", "SIGTERM")))
    waiting, forced = dict(entries), []
    while waiting:
        for name, entry in list(waiting.items()):
            if not alive(entry):
                _kill_group(entry)  # processes that the server had started and left behind
                del waiting[name]
            elif time.monotonic() - begin > min(seconds, entry.get("patience", seconds)):
                _kill_group(entry)
                forced.append(name)
                del waiting[name]
        time.sleep(0.05)
    return forced


def _kill_group(entry: Entry) -> None:
    """Kill the rest of the session that `launch` opened for this entry: its session id is the entry's pid."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if not alive(entry) and started_at(entry["pid"]) is not None:
            return  # a stranger has the id: the system gives no id away while a session of that id has members
        members = _session(entry["pid"])
        if not members:
            return
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.02)


def _session(session: int) -> list[psutil.Process]:
    """Return the live processes of one session."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def session_members(session: int) -> list[int]:
    """Return the ids of the live processes of one session."""
    return [process.pid for process in _session(session)]
