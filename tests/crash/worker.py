"""The process of one lane: brings labels to where work begins, interrupts work around a request, and resumes it.

usage: worker.py   one line of JSON on standard input asks: [command, jobs, mutation]; a line of JSON answers each job,
and `null` says that these were all.

    prepare, count, resume   jobs [work, label]; all in one forked process; `count` answers the kinds of requests
    interrupt                jobs [work, label, action, at, "before"|"after", meanwhile], each in a forked process; the
                             action is kill, stop, cut (see `leaving`), or twice: two processes at once, neither of which
                             is interrupted

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
from contextlib import ExitStack
from functools import partial
from typing import Any

from sqlalchemy import make_url

from account_merge.errors import MergeError
from account_merge.service import Service
from account_merge.settings import Settings
from tests.crash import mutations, scenes
from tests.crash.leaving import Leaving
from tests.outgoing.counting import whatever_the_time
from tests.proxy import Proxy

#: What goes on while a process is stopped.
MEANWHILE: dict[str, Callable[[Service, str, str], Any]] = {
    "nothing": lambda service, work, label: "nothing",
    "second": lambda service, work, label: scenes.DO[work](service, label),
    "undo": scenes.take_back,
    "other": scenes.other_merge,
    "pause": scenes.stop_merging,
    "onward": scenes.merge_onward,
}
#: What is done once the process that was stopped has ended.
AFTERWARDS: dict[str, Callable[[Service], Any]] = {"pause": scenes.let_merging_go_on}
#: How many sessions wait for a lock that another one has.
WAITING = """SELECT count(*) AS number FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'"""
#: s between two looks whether a process waits for a lock.
LOOKS = 0.25


def opened() -> Service:
    """The core on this lane's keyspaces and topics."""
    return Service(Settings.from_env(os.environ))


def at_work(work: str, label: str, at: int, after: bool, action: str) -> list[str]:
    """Does the work in this process, interrupted around that request; answers the kinds of all requests."""
    whatever_the_time()
    settings = Settings.from_env(os.environ)
    with ExitStack() as kept:
        proxy = None
        if action == "cut":
            url = make_url(settings.journal_url)
            proxy = kept.enter_context(Proxy(url.port or 5432))
            there = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
            settings = settings.replace(journal_url=there)
        leaving = Leaving(at, after, action, proxy=proxy)
        service = kept.enter_context(Service(settings))
        leaving.start()
        try:
            scenes.DO[work](service, label)
        finally:
            leaving.stop()
            assert proxy is None or len(proxy.lost) == 1, "no answer was lost"
    assert len(leaving.kinds) >= at, f"only {len(leaving.kinds)} requests, none was interrupted"
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
    """One interruption; for a stop also what goes on meanwhile, and how the stopped process ends.

    Who meanwhile needs rows that the stopped process has locked can only wait: the process is then woken before. Of two
    at once either may be refused for the other's sake, and asks again.
    """
    pid, reader = forked(mutation, lambda: at_work(work, label, at, when == "after", action))
    if action == "twice":
        other = ended(*forked(mutation, lambda: at_work(work, label, 0, False, action)))
        return {"label": label, "other": other, **ended(pid, reader)}
    if action in ("kill", "cut"):
        return {"label": label, **ended(pid, reader)}
    _, status = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        os.close(reader)
        return {"label": label, "fault": "did not stop"}
    second = forked(mutation, lambda: in_another(meanwhile, work, label))
    blocked = not ended_alone(second[0])
    other = {} if blocked else ended(*second)
    os.kill(pid, signal.SIGCONT)
    done = ended(pid, reader)
    other = other or ended(*second)
    if blocked and "error" in other:
        other = ended(*forked(mutation, lambda: in_another(meanwhile, work, label)))
    left = ended(*forked(mutation, lambda: afterwards(meanwhile, work, label)))
    return {"label": label, "stopped": True, "blocked": blocked, "meanwhile": other, "afterwards": left, **done}


def ended_alone(pid: int) -> bool:
    """Waits until the child has ended, or waits for a lock, which nobody but the stopped process can have."""
    looked = time.monotonic()
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() - looked > LOOKS:
            with opened() as service:
                if scenes.journal_rows(service, WAITING)[0].number:
                    return False
            looked = time.monotonic()
        time.sleep(0.002)
    return True


def in_another(meanwhile: str, work: str, label: str) -> Any:
    """What goes on while the process is stopped, and how the label's rows stood before it woke."""
    from tests.crash import outcome

    with opened() as service:
        did = MEANWHILE[meanwhile](service, work, label)
        rows = outcome.rows_of(service, label) if did in ("taken back", "gone round") else None
        return {"did": did, "rows": rows, "entries": scenes.entries(service, work, label)}


def afterwards(meanwhile: str, work: str, label: str) -> Any:
    """How many entries there are when the process that was stopped has ended; and what was done meanwhile ends."""
    with opened() as service:
        found = scenes.entries(service, work, label)
        AFTERWARDS.get(meanwhile, lambda service: None)(service)
        return {"entries": found}


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
