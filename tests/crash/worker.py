"""A process that merges one pair and SIGKILLs itself around its n-th request to Cassandra; a parent that does so for all n.

usage: worker.py FIRST LAST   accounts source-N and target-N exist for each N; prints one JSON line for each.
Requests are counted in the driver, where they leave for the socket, not in the code under test.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import uuid
from typing import Any

from cassandra.connection import Connection

from account_merge.cli import run_merge
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.settings import Settings

#: A table with totals, one with lists and maps, one that is found through these; and two that must agree.
TABLES = ("user_content_consumption", "user_enrolments", "user_activity_agg", "user_group", "group_member")
NAMES = uuid.UUID("7d1c2c1e-51c0-4f4a-8a08-6c3f7b9b6d11")


def merge(label: str, kill_at: int = 0, after: bool = False) -> int:
    """Merges source-label into target-label; answers how many requests it made."""
    sent = 0
    original = Connection.send_msg

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal sent
        sent += 1
        if sent == kill_at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(self, *arguments, **named)
        if sent == kill_at:
            time.sleep(0.02)  # lets the request reach the server before the process dies
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    with Service(Settings.from_env(os.environ)) as service:
        merge_id = uuid.uuid5(NAMES, label)
        service.open_merge(MergeRequest((f"source-{label}",), f"target-{label}", TABLES), merge_id)
        Connection.send_msg = counted
        answer = run_merge(service, merge_id, publish=False)
        Connection.send_msg = original
    if answer["state"] != "completed":
        raise SystemExit(f"{label}: {answer}")
    return sent


def child(label: str, kill_at: int = 0, after: bool = False) -> tuple[int, int]:
    """Runs `merge` in a forked process; answers the signal that ended it and the number of requests."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.write(writer, str(merge(label, kill_at, after)).encode())
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
    """`count`: one uninterrupted merge. Else kill at each request of the range, before and after, and resume."""
    if sys.argv[1] == "count":
        print(json.dumps({"label": "whole", "requests": child("whole")[1]}))
        return
    for label in sys.argv[1:]:
        number, when = label.split("-")
        died, _ = child(label, int(number), after=when == "after")
        child(label)
        print(json.dumps({"label": label, "died": died}), flush=True)


if __name__ == "__main__":
    main()
