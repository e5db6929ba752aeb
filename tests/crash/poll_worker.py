"""One poll, as the DAG takes it step by step, in a process that SIGKILLs itself before its n-th lasting step.

usage: poll_worker.py count RUNS LABEL          one uninterrupted poll; prints its lasting steps
       poll_worker.py fail RUNS LABEL...        claims and starts what is on the topic; these labels' runs end failed
       poll_worker.py crash RUNS LABEL=N...     for each: its events, a poll that dies before step N, then the next poll
       poll_worker.py die TASK STEP...          one task of the poll, which dies before the last of these steps in a row

Lasting is what another process can see: a change of the journal by a statement of its own or by the COMMIT of several, a
commit of offsets, a publication, a run that Airflow has. Reading leaves nothing behind, so dying at a read is dying after
the step before it; and dying before a step is dying after the one before it without having seen the answer. RUNS is a
file that stands for Airflow's runs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text

from account_merge.cli.main import run_merge
from account_merge.service import Service
from account_merge.settings import Settings
from account_merge.sunbird.kafka import Topics
from account_merge.sunbird.publishing import Publisher
from tests.crash import mutations
from tests.learners import event
from tests.outgoing import postgres
from tests.outgoing.patches import Patches


def events(label: str) -> list[bytes]:
    """Two merges, one of them twice, one that has to wait for the first, and an event that is refused."""
    pairs = ((1, 1), (2, 2), (3, 1))
    one, two, three = (event(f"source-{n}-{label}", f"target-{t}-{label}", f"mid-{n}-{label}") for n, t in pairs)
    return [one, two, b'{"no edata": "' + f"bad-{label}".encode() + b'"}', one, three]


class Runs:
    """What Airflow knows: run id -> state. A run of a merge that shall fail is `failed` for its own label only."""

    def __init__(self, path: str, label: str) -> None:
        self._path, self._label = Path(path), label

    def all(self) -> dict[str, str]:
        """Every run with its last state."""
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return {run: state for run, state in map(json.loads, lines)}

    def put(self, run: str, state: str) -> None:
        """The run has this state from now on."""
        with self._path.open("a") as file:
            file.write(json.dumps([run, state]) + "\n")

    def state(self, run: str) -> str | None:
        """As `run_state` of the DAG."""
        state = self.all().get(run)
        if state and state.startswith("fails "):
            return "failed" if state == f"fails {self._label}" else "running"
        return state


def lasting(step: Callable[[str], None]) -> None:
    """Has `step` called before each lasting step of this process, with its name."""
    commit, publish = Topics.commit, Publisher.publish
    under_way = False  # a transaction: what it changes lasts by its COMMIT

    def asking(kind: str, send: Callable[[], Any], *_: Any) -> Any:
        nonlocal under_way
        verb = kind.split()[0]
        under_way = verb == "BEGIN" or (under_way and verb not in ("COMMIT", "ROLLBACK"))
        if (verb == "COMMIT" and kind != verb) or (verb in ("INSERT", "UPDATE", "DELETE") and not under_way):
            step(verb)
        return send()

    def committing(self: Any, *arguments: Any) -> None:
        step("commit")
        commit(self, *arguments)

    def publishing(self: Any, *arguments: Any) -> int:
        step("publish")
        return publish(self, *arguments)

    postgres.hook(asking, Patches().put)
    Topics.commit, Publisher.publish = committing, publishing  # type: ignore[method-assign]


def poll(service: Service, runs: Runs, start: Callable[[str], None] = lambda run: None) -> list[str]:
    """The poll's tasks in their order; answers the runs that it started."""
    service.inbox.claim()
    chosen = [merge["trigger_run_id"] for merge in service.inbox.next_runs(runs.state)]
    for run in chosen:
        start(run)
        runs.put(run, "running")
    service.failures.sweep(runs.state)
    return chosen


def merge_of(run: str) -> uuid.UUID:
    return uuid.UUID(run.split("__")[1])


def first(service: Service, runs: Runs, label: str, kill_at: int) -> list[str]:
    """Publishes the label's events and polls; dies before the given step (0: never)."""
    steps: list[str] = []

    def step(name: str) -> None:
        steps.append(name)
        if len(steps) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    assert service.inbox.has_work()["lag"] == 0
    key = label.encode()  # one partition: the events come in this order
    service.publisher.publish((service.settings.merge_topic, key, raw) for raw in events(label))
    lasting(step)
    poll(service, runs, lambda run: step("start"))
    return steps


def then(service: Service, runs: Runs) -> None:
    """An hour later: the next poll, and every run to its end; then the same for what had to wait."""
    with service.journal.transactions.begin() as connection:
        connection.execute(
            text("UPDATE merges SET updated_at = now() - INTERVAL '1 hour', failed_at = now() - INTERVAL '1 hour'")
        )
    for _ in range(2):
        poll(service, runs)
        for run, state in runs.all().items():
            if state == "running":
                answer = run_merge(service, merge_of(run), publish=False)
                assert answer["state"] == "completed", answer
                runs.put(run, "success")


def fail(service: Service, runs: Runs, labels: list[str]) -> None:
    """Merges whose runs begin and then end failed, without a callback."""
    raw = [event(f"source-f-{label}", f"target-f-{label}", f"mid-f-{label}") for label in labels]
    service.publisher.publish((service.settings.merge_topic, None, one) for one in raw)
    for run in poll(service, runs):
        service.admission.admit(merge_of(run), run)
        label = service.journal.need(merge_of(run)).request.target.removeprefix("target-f-")
        runs.put(run, f"fails {label}")


def child(path: str, label: str, work: Callable[[Service, Runs], Any]) -> tuple[int, Any]:
    """Runs `work` in a forked process; answers the signal that ended it and its result."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with Service(Settings.from_env(os.environ)) as service:
                os.write(writer, json.dumps(work(service, Runs(path, label))).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"{label} failed")
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), json.loads(text or "null")


def die(task: str, steps: list[str]) -> None:
    """Runs one task of the poll on what there is, every known run being under way."""
    seen: list[str] = []

    def step(name: str) -> None:
        seen.append(name)
        if seen[-len(steps) :] == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    lasting(step)
    with Service(Settings.from_env(os.environ)) as service:
        tasks = {
            "claim_events": service.inbox.claim,
            "start_merges": lambda: service.inbox.next_runs(lambda run: "running"),
            "report_failures": lambda: service.failures.sweep(lambda run: "running"),
        }
        tasks[task]()
    raise SystemExit(f"{task} took {seen} and lived")


def main() -> None:
    """See the module's own words."""
    command, path, *labels = sys.argv[1:]
    mutations.apply(os.environ.get("MUTATION", ""))
    if command == "die":
        die(path, labels)
    if command == "fail":
        child(path, "", lambda service, runs: fail(service, runs, labels))
    for given in labels if command in ("count", "crash") else ():
        label, _, number = given.partition("=")
        died, steps = child(path, label, lambda s, r, x=label, n=number: first(s, r, x, int(n or 0)))
        child(path, label, then)
        print(json.dumps({"label": label, "died": died, "steps": steps}), flush=True)


if __name__ == "__main__":
    main()
