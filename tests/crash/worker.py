"""The process of one lane: brings labels to where work begins, interrupts work around a request, and resumes it.

usage: worker.py   one line of JSON on standard input asks: [command, jobs, mutation]; a line of JSON answers each job,
and `null` says that these were all.

    prepare, count, resume   jobs [work, label]; all in one forked process; `count` answers the kinds of requests
    interrupt                jobs [work, label, action, at, "before"|"after", meanwhile], each in a forked process; the
                             action is kill, stop, or twice: two processes at once, neither of which is interrupted

The mutation, if one is named, is applied to the code under test in each forked process before anything else.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from account_merge.errors import MergeError
from account_merge.service import Service
from account_merge.settings import Settings
from tests.crash import mutations, scenes
from tests.crash.leaving import Leaving

#: What goes on while a process is stopped.
MEANWHILE: dict[str, Callable[[Service, str, str], Any]] = {
    "nothing": lambda service, work, label: "nothing",
    "second": lambda service, work, label: scenes.DO[work](service, label),
    "undo": scenes.take_back,
    "other": scenes.other_merge,
}


def opened() -> Service:
    """The core on this lane's keyspaces and topics."""
    return Service(Settings.from_env(os.environ))


def at_work(work: str, label: str, at: int, after: bool, action: str) -> list[str]:
    """Does the work in this process, interrupted around that request; answers the kinds of all requests."""
    leaving = Leaving(at, after, action)
    with opened() as service:
        leaving.start()
        try:
            scenes.DO[work](service, label)
        finally:
            leaving.stop()
    return leaving.kinds


def forked(mutation: str, work: Callable[[], Any]) -> tuple[int, int]:
    """(process, pipe) of a child that writes what `work` answers, or the error that it ended with, as JSON."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    status = 1
    try:
        mutations.apply(mutation)
        answer = told(work)
        os.write(writer, json.dumps(answer).encode())
        status = 0
    finally:
        traceback.print_exc() if status else None
        os._exit(status)


def told(work: Callable[[], Any]) -> dict[str, Any]:
    """What came of it; an error of ours is an answer, any other is a fault."""
    try:
        return {"answer": work()}
    except MergeError as error:
        return {"error": error.code}


def ended(pid: int, reader: int, seconds: float = 120.0) -> dict[str, Any]:
    """Waits for the child's end: its answer, and the signal that ended it."""
    deadline, status = time.monotonic() + seconds, 0
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return {"signal": 0, "fault": f"did not end within {seconds:g} s"}
        time.sleep(0.002)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        return {"signal": 0, "fault": "ended with an error that is none of ours"}
    return {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, **json.loads(text or "{}")}


def interrupt(
    mutation: str, work: str, label: str, action: str, at: int, when: str, meanwhile: str
) -> dict[str, Any]:  # fmt: skip
    """One interruption; for a stop also what goes on meanwhile, and how the stopped process ends."""
    pid, reader = forked(mutation, lambda: at_work(work, label, at, when == "after", action))
    if action == "twice":
        other = ended(*forked(mutation, lambda: at_work(work, label, 0, False, action)))
        return {"label": label, "other": other, **ended(pid, reader)}
    if action == "kill":
        return {"label": label, **ended(pid, reader)}
    _, status = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        os.close(reader)
        return {"label": label, "fault": "did not stop"}
    other = ended(*forked(mutation, lambda: in_another(meanwhile, work, label)))
    os.kill(pid, signal.SIGCONT)
    done = ended(pid, reader)
    return {"label": label, "stopped": True, "meanwhile": other, **done}


def in_another(meanwhile: str, work: str, label: str) -> Any:
    """What goes on while the process is stopped, and how the label's rows stood before it woke."""
    from tests.crash import outcome

    with opened() as service:
        did = MEANWHILE[meanwhile](service, work, label)
        return {"did": did, "rows": outcome.rows_of(service, label) if did == "taken back" else None}


def together(command: str, jobs: list[Any]) -> None:
    """All jobs in this process, one after the other."""
    if command == "count":
        for work, label in jobs:
            say({"label": label, "kinds": at_work(work, label, 0, False, "kill")})
        return
    step = scenes.prepare if command == "prepare" else scenes.resume
    with opened() as service:
        for work, label in jobs:
            say({"label": label, **told(partial(step, service, work, label))})
        if command == "prepare":
            scenes.due(service, [label for work, label in jobs if work == "settle"])


def say(answer: Any) -> None:
    """One line to the one who asked."""
    print(json.dumps(answer), flush=True)


def main() -> None:
    """See the module's own words."""
    for line in sys.stdin:
        command, jobs, mutation = json.loads(line)
        if command == "interrupt":
            for job in jobs:
                say(interrupt(mutation, *job))
        else:
            done = ended(*forked(mutation, partial(together, command, jobs)), seconds=14000)
            if "fault" in done:
                raise SystemExit(f"{command}: {done}")
        say(None)


if __name__ == "__main__":
    main()
