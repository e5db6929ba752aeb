"""Learners and the events about them: small families of accounts, each with a story that the model can tell the end of."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from account_merge.cli.main import run_merge
from account_merge.connection.driver_errors import DRIVER_ERRORS
from account_merge.errors import InvalidRequest, MergeError
from account_merge.merge_ids import request_id
from account_merge.model import MergeRequest
from account_merge.sunbird.events import Position, merge_id_for
from tests.torture import rows
from tests.torture.model import Account
from tests.torture.world import World

ACTION = "merge-user-courses-and-cert"
OPEN_WINDOW = 8.0  # s between the platform's reading of a total and its answer, at most: less than the product allows


@dataclass
class Wish:
    """A merge that somebody asked for: its id in the journal, and how it was asked."""

    sources: tuple[str, ...]
    target: str
    via: str
    merge_id: uuid.UUID
    run_id: str = ""


@dataclass
class Family:
    """Accounts that belong together and what was asked of them.

    :param story: the name of what happens; `tests.torture.checker` knows how each ends.
    """

    number: int
    story: str
    dice: random.Random
    accounts: list[Account]
    course: str
    wishes: list[Wish] = field(default_factory=list)
    undone: list[Wish] = field(default_factory=list)
    trouble: str = ""
    over: bool = False


class Traffic:
    """Plays the families' stories; everything asked for and acknowledged is written down for the checker."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.families: list[Family] = []
        self.sent: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self.bad: dict[str, bytes | None] = {}
        self._lock = threading.Lock()

    def count(self, kind: str) -> None:
        """One more message of this kind is on the topic."""
        with self._lock:
            self.sent[kind] += 1

    # --- events -------------------------------------------------------------------------------------------------------
    def event(self, family: Family, source: str, target: str) -> tuple[bytes, Wish]:
        """A good event and the merge that it asks for."""
        stamp = int(time.time() * 1000)
        mid = f"{stamp}.{uuid.UUID(int=family.dice.getrandbits(128))}"
        edata = {"action": ACTION, "fromAccountId": source, "toAccountId": target, "rootOrgId": "0123", "iteration": 1}
        raw = json.dumps(
            {
                "eid": "BE_JOB_REQUEST",
                "ets": stamp,
                "mid": mid,
                "edata": edata,
                "object": {
                    "id": hashlib.sha256(f"{source}_{target}".encode()).hexdigest(),
                    "type": "MergeUserCoursesAndCert",
                },
            }
        ).encode()
        merge_id = merge_id_for((source,), target, mid, Position("", 0, 0, 0, raw))
        return raw, Wish((source,), target, "event", merge_id)

    def ask(self, family: Family, source: Account, target: Account, kind: str = "good", copies: int = 1) -> Wish:
        """Publish an event, some times over, on any partition."""
        raw, wish = self.event(family, source.id, target.id)
        family.wishes.append(wish)
        for number in range(copies):
            self.world.publish(raw, family.dice.randrange(2))
            self.count("repeated" if number else kind)
        return wish

    def ask_by_run(self, family: Family, sources: list[Account], target: Account) -> Wish:
        """Trigger the per-merge DAG as a person does."""
        run_id = f"torture-{family.number}-{family.dice.getrandbits(32):08x}"
        names = tuple(a.id for a in sources)
        merge_id = request_id(run_id, names, target.id)
        wish = Wish(names, target.id, "run", merge_id, run_id)
        family.wishes.append(wish)
        self.start_run(wish)
        self.count("by hand")
        return wish

    def start_run(self, wish: Wish) -> None:
        """Trigger a wish's run if Airflow does not have it."""
        conf = {"source_accounts": list(wish.sources), "target_account": wish.target, "reason": "torture"}
        self.world.trigger("account_merge", conf, wish.run_id)

    def ask_by_command(self, family: Family, sources: list[Account], target: Account) -> Wish:
        """Open a merge and do it in this process, as the command does; what ends early is left to the poll."""
        names, merge_id = tuple(a.id for a in sources), uuid.UUID(int=family.dice.getrandbits(128), version=4)
        wish = Wish(names, target.id, "command", merge_id)
        family.wishes.append(wish)
        request = MergeRequest(names, target.id, origin="cli", reason="torture")
        self.world.of_core(lambda core: core.opening.open_merge(request, merge_id))
        self.count("by command")
        try:
            with self.world.core() as core:
                run_merge(core, merge_id, publish=True)
        except MergeError:
            pass  # the journal has it
        return wish

    # --- learners -----------------------------------------------------------------------------------------------------
    def enrol(self, family: Family, account: Account) -> None:
        """The history that an account begins with: shared lessons, own lessons, certificates, tests, groups, programs."""
        dice, course, put = family.dice, family.course, self.world.put
        names = [f"shared-{n}" for n in range(3)] + [f"own-{account.id[:8]}-{n}" for n in range(dice.randrange(1, 3))]
        content = {name: dice.choice((1, 2, 2)) for name in names if dice.random() < 0.8}
        for name, status in content.items():
            put(account, *rows.lesson(account, course, name, dice.randrange(1, 6), status))
        certificates = [f"cert-{account.id[:13]}-{course}"] if dice.random() < 0.5 else []
        put(account, *rows.enrolment(account, course, content, certificates))
        tries = [f"try-{account.id[:8]}-{n}" for n in range(dice.randrange(0, 3))]
        for number, name in enumerate([*tries, "try-shared"]):
            put(account, *rows.attempt(account, course, "test", name, dice.randrange(1, 100) + number))
        scores = {"test": dice.randrange(1, 100)} if tries else {}
        finished = sum(status == 2 for status in content.values())
        put(account, *rows.aggregate(account, course, finished, scores, tries))
        for group in {f"group-{course}", f"group-{account.id[:8]}"}:
            for one in rows.membership(account, group, dice.randrange(2)):
                put(account, *one)
        put(account, *rows.program(account, f"program-{account.id[:8]}-{course}"))

    def learn(self, family: Family, account: Account, number: int, late: bool = True) -> None:
        """Something new of an active learner, or of a device that comes late: one of several kinds of rows."""
        dice, course = family.dice, family.course
        new = f"{number}-{account.id[:8]}"
        kind = dice.choice(("lesson", "lesson", "attempt", "group", "course", "finish"))
        if kind == "finish" and family.story.startswith("undo"):
            kind = "lesson"  # a status that the merge had written as well says nothing without it
        if kind == "lesson":
            self.world.put(account, *rows.lesson(account, course, f"new-{new}", dice.randrange(1, 6), 2))
        elif kind == "attempt":
            self.world.put(account, *rows.attempt(account, course, "test", f"new-{new}", dice.randrange(1, 100)))
        elif kind == "group":
            for one in rows.membership(account, f"group-new-{new}", 0):
                self.world.put(account, *one)
        elif kind == "course":
            other = f"{course}-{new}"
            self.world.put(account, *rows.enrolment(account, other, {"a": 2}, [f"cert-{new}-{other}"]))
            self.world.put(account, *rows.lesson(account, other, "a", 1, 2))
        else:
            self._finish(account, course)
        account.late |= late
        with self._lock:
            self.written[kind] += 1

    def _finish(self, account: Account, course: str) -> None:
        for fact in [f for f, v in account.facts.items() if f[:2] == ("status", course) and v == 1]:
            cql = (f"UPDATE {rows.COURSES}.user_content_consumption SET status = ?, progress = ? WHERE userid = ? AND "
                   "courseid = ? AND batchid = ? AND contentid = ?")  # fmt: skip
            self.world.write(cql, [2, 100, account.id, course, rows.BATCH, fact[2]])
            account.facts |= {fact: 2, ("lesson progress", *fact[1:]): 100}
            return

    def view_again(self, family: Family, account: Account) -> None:
        """The platform's own way with a total: it reads, thinks for a moment, and writes one more."""
        facts = [f for f in account.facts if f[0] == "views" and f[2].startswith("shared")]
        if not facts:
            return
        fact = family.dice.choice(facts)
        key = [account.id, family.course, rows.BATCH, fact[2]]
        where = "WHERE userid = ? AND courseid = ? AND batchid = ? AND contentid = ?"
        table, begun = f"{rows.COURSES}.user_content_consumption", time.monotonic()
        found = self.world.ask(f"SELECT viewcount FROM {table} {where}", *key)
        time.sleep(family.dice.uniform(0, 2))
        account.open_totals.add(fact)
        if time.monotonic() - begun > OPEN_WINDOW / 2:
            return  # the platform gives up: what it read is too old
        account.facts[fact] += 1
        try:
            values = [found[0].viewcount + 1, *key]
            self.world.execute(f"UPDATE {table} SET viewcount = ? {where}", values, OPEN_WINDOW / 2)
        except DRIVER_ERRORS as error:  # nobody knows whether it was written
            family.trouble += f"view of {fact[2]} has no answer ({type(error).__name__}); "
        with self._lock:
            self.written["view"] += 1

    # --- waiting ------------------------------------------------------------------------------------------------------
    def state(self, wish: Wish) -> str:
        """The merge's state in the journal."""
        merge = self.world.of_core(lambda core: core.journal.get(wish.merge_id))
        return merge.state if merge else "unknown"

    def until(self, look: Callable[[], Any], seconds: float, pause: float = 2.0) -> bool:
        """Whether this came true in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if look():
                return True
            time.sleep(pause)
        return False

    def undo(self, family: Family, wish: Wish, action: str = "undo") -> bool:
        """Undo or redo by the DAG, or by the core as the command does; whether it came about."""
        goal = "undone" if action == "undo" else "completed"
        run_id = f"torture-{action}-{family.number}-{family.dice.getrandbits(32):08x}"
        by_dag = family.dice.random() < 0.6

        def once() -> bool:
            state = self.state(wish)
            if state in ("undoing", "redoing"):
                return False  # begun: that it comes to its end is the poll's business
            try:
                if state == goal:
                    return True
                if by_dag:
                    conf = {"merge_id": str(wish.merge_id), "action": action, "dry_run": False, "reason": "torture"}
                    self.world.trigger("account_merge_undo", conf, run_id)
                    self.clear_failed("account_merge_undo", run_id)
                else:
                    with self.world.core() as core:
                        core.undoing.run(wish.merge_id, action, by="torture")
            except InvalidRequest as refused:
                if refused.code not in ("ACCOUNT_HELD", "UNDO_FIRST"):
                    raise
            except MergeError:
                pass  # the journal has it
            return self.state(wish) == goal

        return self.until(once, 3600, 3)

    def clear_failed(self, dag: str, run_id: str) -> bool:
        """Clear what failed of a run that ended so, as an operator does."""
        run = self.world.airflow(lambda airflow: airflow.run(dag, run_id))
        if run is None or run["state"] != "failed":
            return False
        states = self.world.airflow(lambda airflow: airflow.states(dag, run_id))
        failed = [task for task, state in states.items() if state != "success"]
        self.world.airflow(lambda airflow: airflow.clear(dag, run_id, *failed))
        return True
