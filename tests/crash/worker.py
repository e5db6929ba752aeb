"""A process that merges one pair and SIGKILLs itself around its n-th request to Cassandra; a parent that does so for all n.

usage: worker.py merge|undo count|LABEL...   accounts source-LABEL and target-LABEL exist; prints one JSON line for each.
Requests are counted in the driver, where they leave for the socket, not in the code under test.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from cassandra.connection import Connection

from account_merge.cli import run_merge
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.settings import Settings

#: A table with totals, one with lists and maps, one that is found through these; and two that must agree.
TABLES = ("user_content_consumption", "user_enrolments", "user_activity_agg", "user_group", "group_member")
Work = Callable[[str, int, bool], int]
NAMES = uuid.UUID("7d1c2c1e-51c0-4f4a-8a08-6c3f7b9b6d11")


class Counter:
    """Counts the requests that leave for the socket, and ends the process around one of them."""

    def __init__(self, kill_at: int, after: bool) -> None:
        self.sent, self._kill_at, self._after = 0, kill_at, after
        self._original = Connection.send_msg

    def __enter__(self) -> Counter:
        def counted(connection: Any, *arguments: Any, **named: Any) -> Any:
            self.sent += 1
            if self.sent == self._kill_at and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = self._original(connection, *arguments, **named)
            if self.sent == self._kill_at:
                time.sleep(0.02)  # lets the request reach the server before the process dies
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        Connection.send_msg = counted
        return self

    def __exit__(self, *_: object) -> None:
        Connection.send_msg = self._original


def merge(label: str, kill_at: int = 0, after: bool = False) -> int:
    """Merges source-label into target-label; answers how many requests it made."""
    with Service(Settings.from_env(os.environ)) as service:
        merge_id = uuid.uuid5(NAMES, label)
        service.open_merge(MergeRequest((f"source-{label}",), f"target-{label}", TABLES), merge_id)
        with Counter(kill_at, after) as counter:
            answer = run_merge(service, merge_id, publish=False)
    if answer["state"] != "completed":
        raise SystemExit(f"{label}: {answer}")
    return counter.sent


def undo(label: str, kill_at: int = 0, after: bool = False) -> int:
    """Undoes the merge of source-label into target-label; answers how many requests it made."""
    with Service(Settings.from_env(os.environ)) as service, Counter(kill_at, after) as counter:
        service.undo(uuid.uuid5(NAMES, label), publish=False)
    return counter.sent


def child(work: Work, label: str, kill_at: int = 0, after: bool = False) -> tuple[int, int]:
    """Runs `work` in a forked process; answers the signal that ended it and the number of requests."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.write(writer, str(work(label, kill_at, after)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    count = os.read(reader, 32)
    os.close(reader)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"{label} failed")
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), int(count or 0)


def main() -> None:
    """`count` or labels, after `merge` or `undo`: one uninterrupted; else kill around the label's request and resume."""
    work = {"merge": merge, "undo": undo}[sys.argv[1]]
    if sys.argv[2] == "count":
        if work is undo:
            child(merge, "whole")
        print(json.dumps({"label": "whole", "requests": child(work, "whole")[1]}))
        return
    for label in sys.argv[2:]:
        number, when = label.split("-")
        if work is undo:
            child(merge, label)
        died, _ = child(work, label, int(number), after=when == "after")
        child(work, label)
        print(json.dumps({"label": label, "died": died}), flush=True)


if __name__ == "__main__":
    main()
