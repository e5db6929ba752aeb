"""The operator's commands on existing merges: stop, look, replay, undo, approve, redact, erase."""

from __future__ import annotations

import argparse
import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from account_merge.cli.output import print_failed, print_replay, print_report, print_status
from account_merge.errors import InvalidRequest, NeedsAttention
from account_merge.failed_search import KINDS, MOST, FailedMergeFilter
from account_merge.intake.replay import ReplayAnswer
from account_merge.lifecycle.pause_switch import Turned
from account_merge.service import Service
from account_merge.states import ACTIONS


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the commands and their options."""
    for name, words in (
        ("pause", "stop all merging, or that of one tenant, before the next rows are written"),
        ("resume", "let merges go on that pause stopped"),
    ):
        made = command(name, words)
        made.add_argument("--tenant", default="", metavar="ROOT_ORG_ID", help="only merges that came for this tenant")
        made.add_argument("--reason", required=name == "pause", default="", help="why; the notes show it")
    _add_drain(command)
    command("status", "show switches, how many merges are in which state, and what waits for whom")
    for name, words in (
        ("failed", "list failed merges, refused events and undeliverable failed events, oldest first"),
        ("replay", "open them again: the next poll starts them"),
    ):
        _add_search(command(name, words), name)
    for name, words in (
        ("undo", "bring every row back to what it is without the merge; what came later stays"),
        ("redo", "let an undone merge stand again"),
        ("abandon", "give a merge up without restoring: its rows stay, its accounts are free"),
        ("repair", "open a merge of the same accounts that moves what came since"),
    ):
        made = command(name, words)
        made.add_argument("merge_id", type=uuid.UUID)
        made.add_argument("--dry-run", action="store_true", help="show what would be done; write nothing")
        made.add_argument("--reason", default="", help="why; kept in the journal")
        if name in ACTIONS:
            made.add_argument("--no-publish", action="store_true", help="do not publish sync events")
    for name, words in (
        ("approve", "let a proposed merge be done, as a second person"),
        ("reject", "end a proposal; nothing is merged"),
    ):
        made = command(name, words)
        made.add_argument("merge_id", type=uuid.UUID)
        made.add_argument("--by", default=os.environ.get("USER", ""), help="who decides")
        made.add_argument("--reason", default="", help="why; kept in the journal")
    _add_retention(command)


def _add_drain(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    made = command("drain", "start nothing new and wait until nothing is under way, before an upgrade")
    made.add_argument("--reason", default="", help="why; the status shows it")
    made.add_argument("--wait", type=float, default=600.0, metavar="SECONDS", help="how long to wait, at most")
    made.add_argument("--end", action="store_true", help="let merges start again")


def _add_retention(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    made = command("expire", "blank the images of merges past the retention; counts and totals stay")
    made.add_argument("--dry-run", action="store_true", help="count what would be done; write nothing")
    made.add_argument("--limit", type=int, default=100_000, help="merges, at most")
    made.add_argument("--seconds", type=float, default=3600.0, help="how long it may take; the rest stays due")
    made = command("erase", "erase a person from the journal, for good; without an account: every erasure there was")
    made.add_argument("account", nargs="?", default="", help="one of the person's accounts")
    made.add_argument("--dry-run", action="store_true", help="show what would be erased; write nothing")
    made.add_argument("--by", default=os.environ.get("USER", ""), help="who erases; kept for ever")
    made.add_argument("--reason", default="", help="why; kept for ever, so no names here")


def _add_search(made: argparse.ArgumentParser, name: str) -> None:
    made.add_argument("--state", action="append", default=[], choices=KINDS, help="only these; may be repeated")
    made.add_argument("--code", action="append", default=[], help="only with this error code; may be repeated")
    made.add_argument("--account", default="", help="only merges with this account")
    made.add_argument("--since", metavar="TIME", help="failed at or after this time (UTC)")
    made.add_argument("--until", metavar="TIME", help="failed before this time (UTC)")
    made.add_argument("--limit", type=int, default=100, help=f"at most so many (100), up to {MOST}")
    if name == "replay":
        made.add_argument("merge_id", nargs="*", help="these merges, whatever the filters say")
        made.add_argument(
            "--corrected", metavar="FILE", help="JSON object: merge id -> the event as it should have been"
        )
        made.add_argument("--dry-run", action="store_true", help="say what would be done; write nothing")
        made.add_argument("--reason", default="", help="why; kept in the notes")


def _pause(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    answer = service.switch.pause(arguments.tenant, os.environ.get("USER", ""), arguments.reason)
    return _say(answer, arguments, out, "already so")


def _resume(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    answer = service.switch.resume(arguments.tenant, os.environ.get("USER", ""), arguments.reason)
    return _say(answer, arguments, out, "nothing of the kind was stopped")


def _drain(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    """Drain, or end it; the exit status is 3 while something is under way."""
    user = os.environ.get("USER", "")
    answer = service.draining.end() if arguments.end else service.draining.begin(user, arguments.reason, arguments.wait)
    if arguments.json:
        print(json.dumps(answer), file=out)
    else:
        print(answer["note"] or "merges start as usual", file=out)
        print(f"{answer['under_way'] or 'nothing'} under way", file=out)
    return 3 if answer["draining"] and answer["under_way"] else 0


def _say(answer: Turned, arguments: argparse.Namespace, out: IO[str], unchanged: str) -> int:
    if arguments.json:
        print(json.dumps(answer), file=out)
        return 0
    print("done" if answer["changed"] else unchanged, file=out)
    print("\n".join(answer["stopped"]) or "no merging is stopped", file=out)
    return 0


def _status(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    print_status(service.queries.status(), arguments.json, out)
    return 0


def _search(arguments: argparse.Namespace) -> FailedMergeFilter:
    kinds = arguments.state or (KINDS if arguments.command == "failed" else None)
    return FailedMergeFilter.of(
        merge_ids=getattr(arguments, "merge_id", ()), kinds=kinds, codes=arguments.code, account=arguments.account,
        since=arguments.since, until=arguments.until, limit=arguments.limit,
    )  # fmt: skip


def _failed(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    print_failed(service.replays.find(_search(arguments)), arguments.json, out)
    return 0


def _corrected(name: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(name).read_text())
        if isinstance(found, dict):
            return found
        problem = "is not a JSON object"
    except (OSError, ValueError) as error:
        problem = str(error)
    raise InvalidRequest("BAD_FILE", f"{name}: {problem}", "Write {merge id: event, …} into it.")


def replayed(service: Service, arguments: argparse.Namespace, dry_run: bool) -> ReplayAnswer:
    """Replay the merges that the command names, or say what a replay would do.

    :raises InvalidRequest: the command names nothing, or a file that cannot be read.
    """
    corrected = _corrected(arguments.corrected) if arguments.corrected else {}
    filters = (arguments.state, arguments.code, arguments.account, arguments.since, arguments.until)
    if not (arguments.merge_id or corrected or any(filters)):
        raise InvalidRequest("NOTHING_NAMED", "a replay names merges or filters", "All failed ones: --state failed.")
    return service.replays.replay(_search(arguments), os.environ.get("USER", ""), arguments.reason, dry_run, corrected)


def _replay(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    """Return 1 when something was left alone."""
    answer = replayed(service, arguments, arguments.dry_run)
    print_replay(answer, arguments.json, out)
    return 1 if answer["left_alone"] else 0


def _undo(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    merge_id, action, by = arguments.merge_id, arguments.command, os.environ.get("USER", "")
    if action in ACTIONS and arguments.dry_run:
        print_report(service.previews.preview_undo(merge_id, action), arguments.json, out)
        return 0
    if arguments.dry_run:
        service.undoing.check(service.journal.need(merge_id), action)
        answer: Mapping[str, Any] = {"merge_id": str(merge_id), "note": f"{action} is possible; nothing was written"}
    elif action in ACTIONS:
        answer = service.undoing.run(merge_id, action, not arguments.no_publish, by, arguments.reason)
    elif action == "abandon":
        answer = service.undoing.abandon(merge_id, arguments.reason)
    else:
        answer = service.repairing.repair(merge_id, by, arguments.reason)
    if action in ACTIONS and not arguments.json:
        print_report(service.reader.report(merge_id), False, out)
        return 0
    return told(answer, arguments, out)


def told(answer: Mapping[str, Any], arguments: argparse.Namespace, out: IO[str]) -> int:
    """Print the state and the note of a merge."""
    words = f"merge {answer['merge_id']}: {answer.get('state', '')} {answer['note']}".rstrip()
    print(json.dumps(answer) if arguments.json else words, file=out)
    return 0


def _decide(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    """Without Airflow; a changed plan is named row by row."""
    decide = service.proposals.approve if arguments.command == "approve" else service.proposals.reject
    try:
        return told(decide(arguments.merge_id, arguments.by, arguments.reason), arguments, out)
    except NeedsAttention:
        for row in service.proposals.changes(arguments.merge_id)["rows"]:
            print(f"{row['what']}: {row['table']} {json.dumps(row['key'])}", file=out)
        raise


def _expire(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    counts = service.retention.run(arguments.limit, arguments.seconds, arguments.dry_run)
    would = "would expire" if arguments.dry_run else "expired"
    words = f"{counts['expired']} {would}, {counts['needed']} are needed by a younger undo, {counts['held']} are held"
    print(json.dumps(counts) if arguments.json else words, file=out)
    return 0


def _erase(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    if not arguments.account:
        history = service.erasure.history()
        lines = [f"{item['at']} {item['what']}: {item['note']}" for item in history] or ["nobody was erased"]
        print(json.dumps(history) if arguments.json else "\n".join(lines), file=out)
        return 0
    answer = service.erasure.erase(arguments.account, arguments.by, arguments.reason, arguments.dry_run)
    if arguments.json:
        print(json.dumps(answer), file=out)
        return 0
    for account in answer.get("account_ids", ()):
        print(f"account {account}", file=out)
    for merge_id in answer["merges"]:
        print(f"merge {merge_id}", file=out)
    would = "would be erased; is that one person?" if arguments.dry_run else "erased"
    print(f"{len(answer['merges'])} merges of {answer['accounts']} accounts {would}", file=out)
    return 0


COMMANDS = {
    "pause": _pause,
    "resume": _resume,
    "drain": _drain,
    "status": _status,
    "failed": _failed,
    "replay": _replay,
    "expire": _expire,
    "erase": _erase,
    "approve": _decide,
    "reject": _decide,
    **dict.fromkeys(("undo", "redo", "abandon", "repair"), _undo),
}
