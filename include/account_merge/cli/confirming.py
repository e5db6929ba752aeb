"""The question before a command that changes learners' rows or erases: asked of a person only, it names what will happen.

A program is never asked: where standard input or output is not a terminal the command runs at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import IO

from account_merge.cli.operations import replayed
from account_merge.model import Merge
from account_merge.service import Service

Will = Callable[[Service, argparse.Namespace], str]

_ACTS = {
    "undo": "every row of {target} becomes what it is without this merge; what came later stays",
    "redo": "what this merge had brought to {target} is written there once more",
    "abandon": "it is given up; the rows that it wrote to {target} stay, its accounts are free",
    "repair": "a merge of the same accounts is opened, which moves what came since to {target}",
    "approve": "it is done as it was planned: rows of {target} are written",
}


def confirmed(service: Service, arguments: argparse.Namespace, out: IO[str]) -> bool:
    """Whether the command may run: it changes nothing, nobody is there to ask, or a person says yes.

    :raises InvalidRequest: what the command names cannot be.
    """
    if getattr(arguments, "yes", True) or out is not sys.stdout or not (sys.stdin.isatty() and out.isatty()):
        return True
    words = WILL[arguments.command](service, arguments)
    if not words:
        return True
    print(words, file=out)
    try:
        return input("Go on? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _merge(service: Service, arguments: argparse.Namespace) -> str:
    if arguments.events:
        return "" if arguments.events == "-" else f"Each event of {arguments.events} is merged now."
    if arguments.go_on:
        return f"Merge {_named(service.journal.need(arguments.go_on))} goes on."
    what = ", ".join(arguments.table) or "every table"
    words = f"Rows of {arguments.target} are written with what {', '.join(arguments.source)} has ({what})."
    return words + (" Then the source accounts are deactivated." if arguments.deactivate_sources else "")


def _act(service: Service, arguments: argparse.Namespace) -> str:
    if getattr(arguments, "dry_run", False):
        return ""
    merge = service.journal.need(arguments.merge_id)
    target = merge.target
    words = _ACTS[arguments.command].format(target=target)
    return f"{arguments.command.capitalize()} of merge {_named(merge)}: {words}."


def _named(merge: Merge) -> str:
    since = f" since {merge.state_at:%Y-%m-%d %H:%M}" if merge.state_at else ""
    into = merge.target
    return f"{merge.merge_id} ({', '.join(merge.request.sources)} → {into}, {merge.state.replace('_', ' ')}{since})"


def _replay(service: Service, arguments: argparse.Namespace) -> str:
    if arguments.dry_run:
        return ""
    answer = replayed(service, arguments, dry_run=True)
    return (
        f"{answer['replayed']} merges are opened again and started by the poll; {answer['left_alone']} are left alone."
    )


def _expire(service: Service, arguments: argparse.Namespace) -> str:
    if arguments.dry_run:
        return ""
    return "The images of every merge past its retention are blanked, for good: those merges cannot be undone any more."


def _erase(service: Service, arguments: argparse.Namespace) -> str:
    if arguments.dry_run or not arguments.account:
        return ""
    answer = service.erasure.erase(arguments.account, arguments.by, arguments.reason, dry_run=True)
    names = ", ".join(answer.get("account_ids", ())) or f"{answer['accounts']} accounts"
    return f"{len(answer['merges'])} merges of {names} are erased from the journal, for good. Is that one person?"


def _rescue(service: Service, arguments: argparse.Namespace) -> str:
    return f"A merge is opened for each pair that {arguments.file} names; the poll starts them." if arguments.go else ""


#: Command -> what will happen, in words; empty where the call changes nothing.
WILL: Mapping[str, Will] = {
    "merge": _merge,
    **dict.fromkeys(_ACTS, _act),
    "replay": _replay,
    "expire": _expire,
    "erase": _erase,
    "rescue": _rescue,
}
