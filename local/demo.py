"""`make demo`: merges two sample accounts by one real merge event, and prints every change with its reason.

A second run resets nothing. It sends the same accounts under a new message id and shows that nothing counts twice.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local import messages, provision, sample
from local.config import PROJECT, Config, StackError
from local.demo_report import changed_rows, print_report
from local.stack import Stack

SAMPLE_EVENT = Path(__file__).with_name("sample_event.json")
SECONDS = 240
#: States that a merge does not leave by itself.
ENDED = {"completed", "failed", "refused", "needs_attention", "paused", "abandoned"}


class Demo:
    """The steps of the demo on a running stack."""

    def __init__(self, stack: Stack, console: Console) -> None:
        self.console = console
        self.where = stack.describe()
        self.environment = os.environ | self.where | {"PYTHONPATH": str(PROJECT / "include")}
        self.bootstrap = self.where["KAFKA_BOOTSTRAP_SERVERS"]
        self.merge_topic, self.sync_topic, self.failed_topic, _ = provision.topics(dict(self.environment))

    def core(self, *arguments: str) -> str:
        """Run the product's own command line and return what it prints."""
        command = [sys.executable, "-m", "account_merge", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise StackError(f"python -m account_merge {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
        return done.stdout

    def merges(self) -> list[dict[str, Any]]:
        """Return all merges of the sample accounts, oldest first."""
        found = [json.loads(line) for line in self.core("list", "--json").splitlines()]
        return [m for m in found if m["source_accounts"] == [sample.SOURCE] and m["target_account"] == sample.TARGET]

    def load(self) -> None:
        """Give the two accounts their history, once."""
        hosts, port = [self.where["CASSANDRA_CONTACT_POINTS"]], int(self.where["CASSANDRA_PORT"])
        with provision.cassandra_session(hosts, port) as session:
            fresh = sample.load(session)
        self.console.print("sample accounts: " + ("loaded" if fresh else "there already, left as they are"))

    def publish(self, repeated: bool) -> tuple[str, str, int]:
        """Publish the merge event and a bad one; return their message ids and the time before."""
        event = json.loads(SAMPLE_EVENT.read_text())
        if repeated:
            event["mid"] = f"LP.{int(time.time() * 1000)}.{uuid.uuid4()}"
        bad = json.loads(SAMPLE_EVENT.read_text())
        bad["mid"] = f"LP.{int(time.time() * 1000)}.{uuid.uuid4()}"
        bad["edata"]["fromAccountId"] = " "
        since = int(time.time() * 1000)
        messages.publish(self.bootstrap, self.merge_topic, [json.dumps(e).encode() for e in (bad, event)])
        self.console.print(f"published on [bold]{self.merge_topic}[/]: the sample event, and one without a source")
        return event["mid"], bad["mid"], since

    def airflow(self, method: str, path: str, body: dict[str, Any] | None = None, token: str = "") -> dict[str, Any]:
        """Call Airflow's REST API once and return its answer."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.where['AIRFLOW_URL']}{path}", method=method, data=json.dumps(body).encode() if body else None,
            headers={"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {}),
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
        return found

    def token(self) -> str:
        """Sign in to Airflow."""
        user = {"username": self.where["AIRFLOW_USERNAME"], "password": self.where["AIRFLOW_PASSWORD"]}
        return str(self.airflow("POST", "/auth/token", user)["access_token"])

    def look_now(self) -> None:
        """Start the poll DAG instead of waiting for the next minute; Airflow may need a moment to know the DAG."""
        end = time.monotonic() + 90
        while True:
            try:
                self.airflow("POST", "/api/v2/dags/account_merge_poll/dagRuns", {"logical_date": None}, self.token())
                return
            except urllib.error.HTTPError as error:
                if error.code != 404 or time.monotonic() > end:
                    raise StackError(f"Airflow did not start account_merge_poll: {error}. See: make logs") from error
            time.sleep(1)

    def wait(self, mid: str) -> dict[str, Any]:
        """Return the merge of this event, once it has ended."""
        end, shown = time.monotonic() + SECONDS, ""
        with self.console.status("waiting for the poll to take the event") as status:
            while time.monotonic() < end:
                merge = next((m for m in self.merges() if m["mid"] == mid), None)
                if merge:
                    text = f"merge {merge['merge_id']}: {merge['state']}"
                    if text != shown:
                        self.console.print(escape(text))
                        status.update(escape(text))
                        shown = text
                    if merge["state"] in ENDED:
                        return merge
                time.sleep(2)
        raise StackError(f"The merge was not done within {SECONDS} s (last: {shown or 'not taken'}). See: make logs")

    def failed_event(self, mid: str, since: int) -> dict[str, Any]:
        """Return the failed event of the bad one, read back from Kafka."""
        end = time.monotonic() + SECONDS
        with self.console.status("waiting for the failed event"):
            while time.monotonic() < end:
                for message in messages.read(self.bootstrap, self.failed_topic, since):
                    event: dict[str, Any] = json.loads(message.value or b"{}")
                    if event.get("mid") == mid:
                        return event
                time.sleep(1)
        raise StackError(f"No failed event came within {SECONDS} s. See: make logs")

    def show(self, merge_id: str) -> int:
        """Print the merge's report; return how many rows it wrote."""
        report = json.loads(self.core("show", merge_id, "--json"))
        print_report(self.console, report)
        return changed_rows(report)

    def show_events(self, failed: dict[str, Any], since: int) -> None:
        """Print the sync events and the failed event, as Kafka holds them."""
        table = Table(title=f"sync events on {self.sync_topic}, read back", title_justify="left")
        for name in ("course", "batch", "learner", "mid"):
            table.add_column(name, overflow="fold")
        for message in messages.read(self.bootstrap, self.sync_topic, since):
            event = json.loads(message.value or b"{}")
            values = *(event["edata"][name] for name in ("courseId", "batchId", "userId")), event["mid"]
            table.add_row(*(escape(str(value)) for value in values))
        self.console.print(table)
        self.console.print(f"\n[bold]failed event[/] on {self.failed_topic}, of the event without a source account:")
        shown = {key: failed[key] for key in ("mid", "edata", "jobName", "failInfo") if key in failed}
        self.console.print_json(json.dumps(shown))

    def farewell(self, merge_id: str) -> None:
        """Print the addresses, and the commands to try next."""
        self.console.print(f"\n[bold]Airflow[/]  {self.where['AIRFLOW_URL']}   user {self.where['AIRFLOW_USERNAME']}"
                           f"   password {self.where['AIRFLOW_PASSWORD']}", highlight=False)  # fmt: skip
        self.console.print(
            "[bold]Try next[/]\n"
            "  make demo     again: the same accounts once more, nothing is counted twice\n"
            "  make env      where everything runs, for any other client\n"
            f"  env $(make -s env) PYTHONPATH=include .venv/bin/python -m account_merge show {merge_id}\n"
            f"  the same with `undo {merge_id} --dry-run`: every row as it would be without the merge\n"
            "  open the DAG account_merge in Airflow and press Trigger: the form merges any two accounts\n"
            "  make down     stop everything, the data stays",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def run(stack: Stack, console: Console) -> int:
    """Run the whole demo; return 0 when the merge was completed."""
    begin = time.monotonic()
    stack.up()
    demo = Demo(stack, console)
    earlier = demo.merges()
    demo.load()
    mid, bad_mid, since = demo.publish(repeated=bool(earlier))
    demo.look_now()
    merge = demo.wait(mid)
    failed = demo.failed_event(bad_mid, since)
    first = next((m for m in earlier if m["state"] == "completed"), None)
    if first:
        console.print("\n[bold]The first merge of these accounts:[/]")
        demo.show(first["merge_id"])
        console.print("\n[bold]The merge of now:[/]")
    changed = demo.show(merge["merge_id"])
    if first and merge["state"] == "completed":
        also = "nothing was counted twice" if not changed else f"{changed} rows had new activity, which was added once"
        console.print(f"[bold green]Already merged: {also}.[/]")
    demo.show_events(failed, since)
    demo.farewell(merge["merge_id"])
    console.print(f"\ndone in {time.monotonic() - begin:.0f} s")
    if merge["state"] != "completed":
        console.print(f"[red]The merge ended as {merge['state']}.[/] Its report above names the remedy.")
        return 1
    return 0


def main() -> int:
    """Run the command line: no arguments, the settings are the stack's."""
    width = shutil.get_terminal_size((150, 40)).columns
    os.environ.setdefault("COLUMNS", str(max(width, 100)))
    console = Console()
    try:
        return run(Stack(Config.from_env(), lambda text: console.print(text, highlight=False)), console)
    except StackError as problem:
        print(problem, file=sys.stderr)
        return 1
    except (OSError, subprocess.SubprocessError) as problem:
        print(f"The demo could not go on: {problem}. What runs: make status. What it says: make logs", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
