"""One torture: a stack of its own, faults while events arrive and learners write, then the comparison with the model."""

from __future__ import annotations

import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from account_merge.settings import Settings
from local import messages
from local.config import DEFAULT_PORTS, Config
from local.stack import ALL, Stack
from tests.torture import stories
from tests.torture.checker import CHILDREN, KINDS, Checker, Finding, unfinished_runs
from tests.torture.faults import Faults
from tests.torture.keeper import Keeper
from tests.torture.operator import Operator
from tests.torture.table import table
from tests.torture.traffic import Family, Traffic
from tests.torture.world import World

#: What the stack runs with, so that retries, settles and their clocks fit into the run.
ENVIRONMENT = {
    "ACCOUNT_MERGE_BULK_FROM": "3",  # so that bulk runs are killed and stopped, too
    "ACCOUNT_MERGE_RETRY_DELAY_SECONDS": "3",
    "ACCOUNT_MERGE_SETTLE_AFTER_SECONDS": "30",
    "ACCOUNT_MERGE_SETTLE_SCHEDULE": "* * * * *",
    "ACCOUNT_MERGE_STALLED_AFTER_SECONDS": "120",
}
FAMILIES_PER_FAULT = 0.25
STILL = 900.0  # s without any change after which what is not done counts as stuck


class Torture:
    """A run with one seed."""

    def __init__(self, seed: int, faults: int, mean_pause: float, home: str = "") -> None:
        self.seed, self.faults, self._mean = seed, faults, mean_pause
        self.home = Path(home or tempfile.mkdtemp(prefix=f"account-merge-torture-{os.getpid()}-")).resolve()
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o755)  # PostgreSQL, which runs as another user than root, must be able to enter
        self._log = (self.home / "torture.log").open("a")
        self._begun = time.monotonic()
        self._says = threading.Lock()

    def say(self, text: str) -> None:
        """A line for the person who waits; also in the log."""
        self.note(text)
        print(text, flush=True)

    def note(self, text: str) -> None:
        """A line in the log."""
        with self._says:
            self._log.write(f"{time.strftime('%H:%M:%S')} {time.monotonic() - self._begun:7.1f} {text}\n")
            self._log.flush()

    def run(self) -> int:
        """The exit status: 0 when nothing was lost, doubled, silent or stuck."""
        os.environ.update(ENVIRONMENT)
        places = Config(self.home, Config.from_env().cache, dict.fromkeys(DEFAULT_PORTS, 0), durable=True)
        stack = Stack(places, self.note)
        findings: list[Finding] | None = None
        try:
            stack.up(ALL)
            self.say(f"torture: seed {self.seed}, {self.faults} faults, {self.home}; the stack is up")
            findings = self._on(stack)
        finally:
            if findings == []:
                stack.clean()
            else:
                stack.down()
                print(f"kept for a closer look: {self.home} (torture.log, the servers' logs and data)", flush=True)
        return 1 if findings else 0

    def _on(self, stack: Stack) -> list[Finding]:
        where = stack.describe() | ENVIRONMENT
        world = World(where, Settings.from_env(where))
        try:
            with Keeper(stack) as keeper:
                traffic = Traffic(world)
                faults = Faults(self.seed, keeper, world)
                with Operator(traffic) as operator:
                    self._torment(faults, traffic)
                    torn = time.monotonic()
                    findings = self._settle(keeper, faults, traffic, operator)
                with world.core() as core:
                    checker = Checker(traffic, core)
                    findings += [*checker.findings(), *self._runs(world, checker)]
                findings += [Finding("silent", words) for words in operator.troubles]
                times = (torn - self._begun, time.monotonic() - torn)
                for line in table(faults, keeper, traffic, operator, checker, times):
                    self.say(line)
        finally:
            world.close()
        for finding in findings:
            self.say(f"{finding.kind.upper()}: {finding.words} [seed {self.seed}]")
        counts = " · ".join(f"{sum(f.kind == kind for f in findings)} {kind}" for kind in KINDS)
        self.say(
            f"torture: seed {self.seed} · {sum(faults.counts.values())} faults · {sum(traffic.sent.values())} events · "
            f"{counts}"
        )
        return findings

    def _torment(self, faults: Faults, traffic: Traffic) -> None:
        """All faults, and the families' stories spread over them."""
        dice = random.Random(f"{self.seed}-stories")
        names = stories.choose(dice, max(len(stories.STORIES), round(self.faults * FAMILIES_PER_FAULT)))
        begun = 0
        for number in range(self.faults):
            while begun < len(names) and begun <= number * len(names) / self.faults * 1.1 + 3:
                family = stories.family(self.seed, begun, names[begun])
                traffic.families.append(family)
                threading.Thread(target=self._story, args=(traffic, family), daemon=True).start()
                begun += 1
            faults.pause(self._mean)
            self.note(f"fault {number + 1}: {faults.one()}")
            if (number + 1) % 10 == 0 or number + 1 == self.faults:
                passed = time.monotonic() - self._begun
                self.say(f"{number + 1} faults, {sum(traffic.sent.values())} events, {passed:.0f} s")

    def _story(self, traffic: Traffic, family: Family) -> None:
        try:
            stories.play(traffic, family)
        except Exception as error:  # noqa: BLE001 - a story that breaks off is a finding
            family.trouble += f"STUCK: its story broke off: {type(error).__name__}: {error}; "
            self.note(f"family {family.number}: {family.trouble}")
        finally:
            family.over = True

    def _settle(self, keeper: Keeper, faults: Faults, traffic: Traffic, operator: Operator) -> list[Finding]:
        """Everything is up again and comes to its end; then what came late is moved."""
        faults.join()
        findings = []
        end = time.monotonic() + STILL
        while not keeper.all_ready() and time.monotonic() < end:
            time.sleep(0.5)
        if not keeper.all_ready():
            down = [name for name, ready in keeper.ready.items() if not ready]
            findings.append(Finding("stuck", f"{', '.join(down)} did not come back"))
        self.say("the faults are over, everything is up; waiting until all is done")
        if left := operator.quiet(STILL, self.say):
            findings.append(Finding("stuck", f"nothing has moved for {STILL:.0f} s: {left}"))
        late = {a.id for family in traffic.families for a in family.accounts if a.late}
        undone = {w.merge_id for family in traffic.families for w in family.undone}
        with traffic.world.core() as core:
            done = [m for m in core.journal.all(100_000) if m.state == "completed"]
        mine = [m for m in done if m.request.origin not in CHILDREN and late & set(m.request.sources)]
        operator.repair_all([m for m in mine if m.merge_id not in undone])
        if left := operator.quiet(STILL, self.say):
            findings.append(Finding("stuck", f"repairs: nothing has moved for {STILL:.0f} s: {left}"))
        return findings

    def _runs(self, world: World, checker: Checker) -> list[Finding]:
        """Failed runs of the per-merge DAG that nobody was told of."""
        runs: list[dict[str, Any]] = []
        page = partial_page(world)
        while found := page(len(runs)):
            runs += found
        settings = world.settings
        told = messages.read(settings.kafka_bootstrap_servers, settings.failed_topic, seconds=60)
        failed = {str(json.loads(message.value or b"{}")["failInfo"]["mergeId"]) for message in told}
        merges = {merge.merge_id: merge for merge in checker.merges}
        return list(unfinished_runs(runs, merges, failed))


def partial_page(world: World) -> Callable[[int], list[dict[str, Any]]]:
    """A function that answers one page of the per-merge DAG's runs, by offset."""

    def page(offset: int) -> list[dict[str, Any]]:
        found = world.airflow(lambda a: a.get("dags/account_merge/dagRuns", limit=100, offset=offset, order_by="id"))
        runs: list[dict[str, Any]] = found["dag_runs"]
        return runs

    return page
