"""Start, find and stop processes: a process is known by its id *and* its start time, so no stranger is ever killed."""

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

from local.config import StackError

Entry = dict[str, Any]


def started_at(pid: int) -> str | None:
    """Kernel start time of a live process, None when there is none (a zombie counts as none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def alive(entry: Entry | None) -> bool:
    """Whether the process that this entry was written for still runs."""
    if not entry:
        return False
    with contextlib.suppress(ChildProcessError):  # reap our own child, which would look alive as a zombie
        os.waitpid(entry["pid"], os.WNOHANG)
    return bool(started_at(entry["pid"]) == entry["start"])


class State:
    """The state file of one stack: which process serves what, on which port."""

    def __init__(self, home: Path) -> None:
        self.path = home / "state.json"

    def load(self) -> dict[str, Entry]:
        """All entries; a stack that was never up has none."""
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
        """One `up`, `down` or `clean` of this stack at a time; a second one waits."""
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
    """Stop these processes together: politely, then after their own `patience` by force. Returns who needed force."""
    begin = time.monotonic()
    for entry in entries.values():
        if alive(entry):
            with contextlib.suppress(ProcessLookupError):
                os.kill(entry["pid"], getattr(signal, entry.get("stop", "SIGTERM")))
    waiting, forced = dict(entries), []
    while waiting:
        for name, entry in list(waiting.items()):
            if not alive(entry):
                _kill_group(entry)  # what the server itself had started and left behind
                del waiting[name]
            elif time.monotonic() - begin > min(seconds, entry.get("patience", seconds)):
                _kill_group(entry)
                forced.append(name)
                del waiting[name]
        time.sleep(0.05)
    return forced


def _kill_group(entry: Entry) -> None:
    """SIGKILL what is left of the session that `launch` opened for this entry: its group id is the entry's pid."""
    end = time.monotonic() + 5
    while (members := session_members(entry["pid"])) and time.monotonic() < end:
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        alive(entry)
        time.sleep(0.02)


def session_members(session: int) -> list[int]:
    """Return the live processes of one session."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z" and int(fields[3]) == session:
                found.append(int(process.name))
    return found
