"""The command line's entry, and the commands that ask for a merge. They call the same parts of the service as the DAGs.

Exit status: 0 done (also "nothing to merge"), 1 a merge or check failed or a person did not confirm, 2 the call itself was
wrong, 3 the merge waits.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, NotRequired, TypedDict

from account_merge.acting import Actor, act_as
from account_merge.choices import Choices
from account_merge.cli import cutover, looking, operations
from account_merge.cli.confirming import WILL, confirmed
from account_merge.cli.output import print_preview, print_report
from account_merge.engine.resources import untold
from account_merge.errors import InvalidRequest, MergeError
from account_merge.intake.opening import choices_of
from account_merge.lifecycle.answers import TableAnswer
from account_merge.lifecycle.requests import request_of
from account_merge.merge_ids import request_id
from account_merge.model import MergeRequest
from account_merge.rules import TABLES
from account_merge.service import Service
from account_merge.settings import Settings
from account_merge.states import BY_COMMAND, Origin, State
from account_merge.sunbird.events import Position, merge_id_for, parse


def parser() -> argparse.ArgumentParser:
    """Return the commands and their options."""
    top = argparse.ArgumentParser(
        prog="account_merge", description="Merge a learner's accounts: nothing lost, nothing counted twice."
    )
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, words: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=words, description=words)
        made.add_argument("--json", action="store_true", help="print JSON instead of tables")
        if name in WILL:
            made.add_argument(
                "--yes", action="store_true", help="do not ask first (only a person at a terminal is asked)"
            )
        return made

    looking.add_commands(command)
    _add_request(command("preview", "show what a merge would do; writes nothing"))
    _add_merge(command("merge", "merge accounts"))
    _add_propose(command("propose", "ask a second person to approve a merge"))
    operations.add_commands(command)
    cutover.add_commands(command)
    return top


def _add_request(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--source", action="append", default=[], metavar="ACCOUNT", help="account merged away; may be repeated"
    )
    made.add_argument("--target", default="", metavar="ACCOUNT", help="account that stays")
    made.add_argument("--table", action="append", default=[], choices=TABLES, help="only this table; may be repeated")
    made.add_argument("--on-conflict", default="combine", choices=("combine", "skip"))
    made.add_argument(
        "--choices", type=_choices, default=Choices(), metavar="FILE",
        help="whose rows stand (JSON, as the API takes them): combine, target or source, by table and by row",
    )  # fmt: skip


def _add_written_request(made: argparse.ArgumentParser) -> None:
    _add_request(made)
    made.add_argument("--source-rows", default="keep", choices=("keep", "deactivate"))
    made.add_argument("--deactivate-sources", action="store_true", help="deactivate the source accounts afterwards")
    made.add_argument("--reason", default="", help="why; kept in the journal")


def _add_merge(made: argparse.ArgumentParser) -> None:
    _add_written_request(made)
    made.add_argument(
        "--events", metavar="FILE", help="merge the raw events of a file, one a line; - for standard input"
    )
    made.add_argument("--go-on", type=uuid.UUID, metavar="MERGE_ID", help="go on with a merge that was opened before")
    made.add_argument("--no-publish", action="store_true", help="do not publish sync events")


def _add_propose(made: argparse.ArgumentParser) -> None:
    _add_written_request(made)
    made.add_argument("--by", default=os.environ.get("USER", ""), help="who asks")


def main(argv: Sequence[str] | None = None, out: IO[str] | None = None) -> int:
    """Run one command and return its exit status."""
    out = out or sys.stdout
    arguments = parser().parse_args(argv)
    try:
        with Service(Settings.from_env(os.environ)) as service:
            act_as(Actor(getattr(arguments, "by", "") or os.environ.get("USER", "")))
            if not confirmed(service, arguments, out):
                print("account_merge: not confirmed, nothing was done", file=sys.stderr)
                return 1
            status = int(_COMMANDS[arguments.command](service, arguments, out))
            out.flush()
            return status
    except BrokenPipeError:  # the reader has seen enough: `list --json | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        return 0
    except InvalidRequest as error:
        print(f"account_merge: {error}", file=sys.stderr)
        return 2
    except MergeError as error:
        print(f"account_merge: {error}", file=sys.stderr)
        return 1


def _choices(path: str) -> Choices:
    try:
        return choices_of(json.loads(Path(path).read_text()))
    except (OSError, ValueError, AttributeError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from error
    except InvalidRequest as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.message}. {error.remedy}") from error


def _request(arguments: argparse.Namespace) -> MergeRequest:
    return MergeRequest(
        tuple(arguments.source),
        arguments.target,
        tuple(arguments.table),
        arguments.on_conflict,
        getattr(arguments, "source_rows", "keep"),
        reason=getattr(arguments, "reason", ""),
        requested_by=os.environ.get("USER", ""),
        origin=Origin.CLI,
        deactivate_sources=getattr(arguments, "deactivate_sources", False),
        choices=arguments.choices,
    )


def _preview(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    request = _request(arguments)
    balance = service.previews.balance(request)
    print_preview(
        service.previews.preview(request), balance, service.previews.notices(request, balance), arguments.json, out
    )
    return 0


def _propose(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    request = replace(_request(arguments), requested_by=arguments.by)
    merge_id = request_id(str(uuid.uuid4()), request.sources, request.target)
    return operations.told(service.proposals.propose(request, merge_id), arguments, out)


def _merge(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    publish = not arguments.no_publish
    if arguments.events:
        return _merge_events(
            service, arguments.events, publish and bool(os.environ.get("KAFKA_BOOTSTRAP_SERVERS")), out
        )
    merge_id = arguments.go_on or service.opening.open_merge(_request(arguments))
    result = run_merge(service, merge_id, publish, progress=not arguments.json)
    if arguments.json:
        print(json.dumps(result), file=out)
    else:
        print_report(service.reader.report(merge_id), False, out)
    statuses: dict[str, int] = {State.COMPLETED: 0, State.WAITING: 3, State.REQUESTED: 3, State.PAUSED: 3}
    return statuses.get(result["state"], 1)


class CommandAnswer(TypedDict):
    """Result of one merge by command."""

    id: str | None
    state: str
    seconds: float
    counts: dict[str, dict[str, int]]
    error: dict[str, str] | None
    note: NotRequired[str]


def run_merge(service: Service, merge_id: uuid.UUID, publish: bool, progress: bool = False) -> CommandAnswer:
    """Run one merge from admission to completion, as the per-merge DAG does it; never raises, the answer has the error."""
    begun = time.monotonic()
    answer: CommandAnswer = {"id": str(merge_id), "state": "", "seconds": 0.0, "counts": {}, "error": None}

    def told(done: TableAnswer) -> None:
        answer["counts"][done["table"]] = {
            "created": done["created"], "changed": done["changed"], "same": done["same"], "folded": done["folded"],
        }  # fmt: skip

    follow = _Progress if progress else lambda table: untold
    try:
        answer["note"] = service.merging.run(merge_id, f"{BY_COMMAND}{merge_id}", publish, told, follow)["note"]
    except MergeError as error:
        answer["error"] = _told(error)
    try:
        merge = service.journal.need(merge_id)
        answer |= {"state": merge.state, "note": answer.get("note", merge.note or "")}
    except MergeError as error:  # the journal does not answer: the result of the merge is unknown here
        answer |= {"state": "unknown", "error": answer["error"] or _told(error)}
    answer["seconds"] = round(time.monotonic() - begun, 3)
    return answer


def _told(error: MergeError) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "remedy": error.remedy}


class _Progress:
    """Says on standard error how many rows of a long merge are done, at most once a second."""

    def __init__(self, table: str) -> None:
        self._table, self._last = table, time.monotonic()

    def __call__(self, done: int) -> None:
        if time.monotonic() - self._last >= 1:
            self._last = time.monotonic()
            print(f"{self._table}: {done} rows", file=sys.stderr)


def _lines(name: str) -> Iterator[bytes]:
    stream = sys.stdin.buffer if name == "-" else open(name, "rb")  # noqa: SIM115 - closed below
    try:
        yield from (line.rstrip(b"\r\n") for line in stream if line.strip())
    finally:
        if name != "-":
            stream.close()


def _merge_events(service: Service, name: str, publish: bool, out: IO[str]) -> int:
    worst = 0
    for number, raw in enumerate(_lines(name)):
        answer = _merge_event(service, raw, Position("cli", 0, number, 0, raw), publish)
        print(json.dumps(answer), file=out, flush=True)
        failed = answer["error"] is not None
        worst = max(
            worst, 0 if answer["state"] in (State.COMPLETED, "ignored") else 1 if failed else 3, key=_WORSE.index
        )
    return worst


#: Exit statuses of several merges, the worst one last.
_WORSE = (0, 3, 1)


def _merge_event(service: Service, raw: bytes, position: Position, publish: bool) -> CommandAnswer:
    """Merge one raw event; never raises, so that the next event is merged as well."""
    answer: CommandAnswer = {"id": None, "state": "ignored", "seconds": 0.0, "counts": {}, "error": None}
    try:
        event = parse(raw, service.settings)
        if event is None:
            return answer
        merge_id = merge_id_for(event.sources, event.target, event.mid, position)
        answer["id"] = str(merge_id)
        service.opening.open_merge(request_of(event, raw, service.settings, Origin.CLI), merge_id)
        return run_merge(service, merge_id, publish)
    except MergeError as error:
        return {
            **answer,
            "state": State.REFUSED if isinstance(error, InvalidRequest) else State.FAILED,
            "error": _told(error),
        }


_COMMANDS = {
    **looking.COMMANDS,
    "preview": _preview,
    "merge": _merge,
    "propose": _propose,
    **operations.COMMANDS,
    **cutover.COMMANDS,
}
