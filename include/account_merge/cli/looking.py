"""The commands that look: at the servers, at the tables of this cluster, and at merges. `create-journal` makes ours first."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Callable
from typing import IO

from account_merge.cli.checks import run_checks
from account_merge.cli.output import print_check, print_coverage, print_differences, print_list, print_report
from account_merge.errors import InvalidRequest
from account_merge.reports.audit import read_report
from account_merge.service import Service
from account_merge.states import STATES


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the commands and their options."""
    command(
        "create-journal",
        "create the journal's database and tables where they are missing, or bring them up to this program",
    )
    made = command("check", "check connections, topics and what this Cassandra can do; or a merge against its log")
    made.add_argument("merge_id", nargs="?", type=uuid.UUID, help="a merge: name each difference of log and tables")
    made.add_argument(
        "--report", metavar="FILE", help="a report of that merge from `show --json`: name what is otherwise"
    )
    command("coverage", "list the tables with user ids: merged, left alone, or unknown (exit status 1)")
    made = command("list", "list merges, oldest first")
    made.add_argument(
        "--state", choices=STATES, metavar="STATE", help=f"only merges in this state: {', '.join(STATES)}"
    )
    made.add_argument("--account", help="only merges with this account")
    command("show", "show what a merge did").add_argument("merge_id", type=uuid.UUID)


def _create_journal(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    service.journal.create()
    print(f"journal ready in {service.journal.where}", file=out)
    return 0


def _check(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    if arguments.report and not arguments.merge_id:
        raise InvalidRequest("NO_MERGE", "a report is checked against a merge", "Call check MERGE_ID --report FILE.")
    if arguments.merge_id:
        exported = read_report(arguments.report) if arguments.report else None
        differences = list(service.audit.differences(arguments.merge_id, exported))
        print_differences(differences, arguments.json, out)
        return 1 if any(d.fault for d in differences) else 0
    found = run_checks(service)
    print_check(found, arguments.json, out)
    return 0 if all(c.ok for c in found) else 1


def _coverage(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    found = service.coverage()
    print_coverage(found, arguments.json, out)
    return 1 if found.names("unknown") else 0


def _list(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    if arguments.account:
        merges = service.journal.of_account(arguments.account)
    else:
        merges = service.journal.find("state", arguments.state) if arguments.state else service.journal.all()
    print_list([m for m in merges if arguments.state in (None, m.state)], arguments.json, out)
    return 0


def _show(service: Service, arguments: argparse.Namespace, out: IO[str]) -> int:
    print_report(service.reader.report(arguments.merge_id), arguments.json, out)
    return 0


COMMANDS = {
    "create-journal": _create_journal,
    "check": _check,
    "coverage": _coverage,
    "list": _list,
    "show": _show,
}
