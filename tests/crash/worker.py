"""The process of one lane: brings labels to where work begins, interrupts work around a request, and resumes it.

usage: worker.py prepare|count|interrupt|resume   jobs come as JSON on standard input; one line of JSON answers each.

    prepare, count, resume   [[work, label], ...]   in this process; `count` answers the kinds of requests
    interrupt                [[work, label, action, at, "before"|"after", meanwhile], ...]   each in a forked process

`MUTATION` may name one of the mutations: it is applied to the code under test before anything else.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
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
_ENDS = 120.0  # s that a process may take to end


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


def forked(work: Callable[[], Any]) -> tuple[int, int]:
    """(process, pipe) of a child that writes what `work` answers, or the error that it ended with, as JSON."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    status = 1
    try:
        answer = told(work)
        os.write(writer, json.dumps(answer).encode()[:60000])
        status = 0
    finally:
        os._exit(status)


def told(work: Callable[[], Any]) -> dict[str, Any]:
    """What came of it; an error of ours is an answer, any other is a fault."""
    try:
        return {"answer": work()}
    except MergeError as error:
        return {"error": error.code}


def ended(pid: int, reader: int) -> dict[str, Any]:
    """Waits for the child's end: its answer, and the signal that ended it."""
    deadline, status = time.monotonic() + _ENDS, 0
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return {"signal": 0, "fault": f"did not end within {_ENDS:g} s"}
        time.sleep(0.002)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        return {"signal": 0, "fault": "ended with an error that is none of ours"}
    return {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, **json.loads(text or "{}")}


def interrupt(work: str, label: str, action: str, at: int, when: str, meanwhile: str) -> dict[str, Any]:
    """One interruption; for a stop also what goes on meanwhile, and how the stopped process ends."""
    pid, reader = forked(lambda: at_work(work, label, at, when == "after", action))
    if action == "kill":
        return {"label": label, **ended(pid, reader)}
    _, status = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        os.close(reader)
        return {"label": label, "fault": "did not stop"}
    other = ended(*forked(lambda: in_another(meanwhile, work, label)))
    os.kill(pid, signal.SIGCONT)
    done = ended(pid, reader)
    return {"label": label, "stopped": True, "meanwhile": other, **done}


def in_another(meanwhile: str, work: str, label: str) -> Any:
    """What goes on while the process is stopped, and how the label's rows stood before it woke."""
    from tests.crash import outcome

    with opened() as service:
        did = MEANWHILE[meanwhile](service, work, label)
        return {"did": did, "rows": outcome.rows_of(service, label) if did == "taken back" else None}


def main() -> None:
    """See the module's own words."""
    command, jobs = sys.argv[1], json.load(sys.stdin)
    mutations.apply(os.environ.get("MUTATION", ""))
    if command == "interrupt":
        for job in jobs:
            print(json.dumps(interrupt(*job)), flush=True)
        return
    if command == "count":
        for work, label in jobs:
            print(json.dumps({"label": label, "kinds": at_work(work, label, 0, False, "kill")}), flush=True)
        return
    with opened() as service:
        if command == "prepare":
            service.create_journal()
        for work, label in jobs:
            step = scenes.prepare if command == "prepare" else scenes.resume
            print(json.dumps({"label": label, **told(partial(step, service, work, label))}), flush=True)
        if command == "prepare":
            scenes.due(service, [label for work, label in jobs if work == "settle"])


if __name__ == "__main__":
    main()
