"""The commands of the cut-over: rescue merges of the past, and look for accounts that have none."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable
from typing import IO

from account_merge.cli.output import print_rescued
from account_merge.intake.rescue import SEEDED, RescueAnswer, RescuedLine, RescueOptions
from account_merge.intake.rescue_lines import FORMATS, opened
from account_merge.intake.stranded import Pace, SearchNumbers
from account_merge.service import Service


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the commands and their options."""
    made = command(
        "rescue", "preview the merges that a file names (CSV, merge events, the user service's log); --go opens"
    )
    made.add_argument("file", help="a line for each merge; - for standard input")
    made.add_argument(
        "--go", action="store_true", help="open them: the poll starts them. Without: only say what would be"
    )
    made.add_argument("--format", default="auto", choices=FORMATS, help="of a whole log: log (auto)")
    made.add_argument("--seeded", default="by_date", choices=SEEDED, help="whether the retired job did them (by_date)")
    made.add_argument("--previews", type=int, default=1000, help="merges to preview table by table, at most (1000)")
    made.add_argument("--reason", default="", help="why; kept in the journal")
    made = command("stranded", "list accounts that are switched off, own learning rows and have no merge, as CSV")
    made.add_argument("--restart", action="store_true", help="forget what was found and begin anew")
    made.add_argument("--list", action="store_true", help="only list what was found so far")
    made.add_argument("--page", type=int, default=Pace.page, help=f"accounts of one page ({Pace.page})")
    made.add_argument("--pause", type=float, default=Pace.pause, help=f"seconds between pages ({Pace.pause})")
    made.add_argument(
        "--every", type=int, default=Pace.every, help=f"pages between two notes in the journal ({Pace.every})"
    )
    made.add_argument("--seconds", type=float, default=0.0, help="stop after so long; the next call goes on (0: never)")


def _rescue(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    """Return 1 when a line was bad."""

    def told(item: RescuedLine) -> None:
        print_rescued(item, arguments.json, out)

    with opened(arguments.file) as lines:
        answer = service.rescue.run(
            lines, arguments.format, told,
            RescueOptions(not arguments.go, arguments.seeded, os.environ.get("USER", ""), arguments.reason, arguments.previews),
        )  # fmt: skip
    print(json.dumps(answer) if arguments.json else summary(answer), file=out)
    return 1 if answer["bad"] else 0


def summary(answer: RescueAnswer) -> str:
    """Return the numbers of a rescue in words."""
    codes = ", ".join(f"{number} {code}" for code, number in answer["codes"].items()) or "no line names a merge"
    rows = ", ".join(f"{number} rows {kind}" for kind, number in answer["rows"].items())
    bad = f"; {answer['bad']} lines need mending" if answer["bad"] else ""
    ends = " Nothing was written: --go opens them." if answer["dry_run"] else " The next poll starts them."
    return f"{codes}{bad}.{f' Would be: {rows}.' if rows else ''}{ends}"


def _stranded(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    """Return 3 when the search has not come to its end."""
    done = True
    if not arguments.list:
        pace = Pace(arguments.page, arguments.pause, arguments.every, arguments.seconds)
        done = service.stranded.run(pace, arguments.restart, _progress)["done"]
    if arguments.json:
        for one in service.stranded.found():
            print(json.dumps(one), file=out)
        return 0 if done else 3
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("account_id", "deactivated_on", "tables"))
    for one in service.stranded.found():
        writer.writerow((one["account_id"], one["deactivated_on"], " ".join(one["tables"])))
    return 0 if done else 3


def _progress(state: SearchNumbers) -> None:
    words = f"{state['percent']}%: {state['scanned']} accounts read, {state['stranded']} stranded"
    print(words, file=sys.stderr, flush=True)


COMMANDS = {"rescue": _rescue, "stranded": _stranded}
