"""The operator's commands: pause, resume, status. `cli` adds them to its own."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from typing import IO

from account_merge.render import print_status
from account_merge.service import Service


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """The commands and their options."""
    for name, words in (
        ("pause", "stop all merging, or that of one tenant, before the next rows are written"),
        ("resume", "let merges go on that pause stopped"),
    ):
        made = command(name, words)
        made.add_argument("--tenant", default="", metavar="ROOT_ORG_ID", help="only merges that came for this tenant")
        made.add_argument("--reason", required=name == "pause", default="", help="why; the notes show it")
    command("status", "show switches, how many merges are in which state, and what waits for whom")


def _pause(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    answer = service.pause(arguments.tenant, os.environ.get("USER", ""), arguments.reason)
    return _say(answer, arguments, out, "already so")


def _resume(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    answer = service.resume(arguments.tenant, os.environ.get("USER", ""), arguments.reason)
    return _say(answer, arguments, out, "nothing of the kind was stopped")


def _say(answer: dict[str, object], arguments: argparse.Namespace, out: IO[str], unchanged: str) -> int:
    if arguments.json:
        print(json.dumps(answer), file=out)
        return 0
    stopped = answer["stopped"]
    assert isinstance(stopped, list)
    print("done" if answer["changed"] else unchanged, file=out)
    print("\n".join(stopped) or "no merging is stopped", file=out)
    return 0


def _status(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    print_status(service.status(), arguments.json, out)
    return 0


COMMANDS = {"pause": _pause, "resume": _resume, "status": _status}
