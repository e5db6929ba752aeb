"""The person who operates the stack: replays what failed, clears what Airflow gave up, waits until nothing is to be done."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable

from account_merge.errors import InvalidRequest, MergeError
from account_merge.failed_search import FailedMergeFilter
from account_merge.model import Merge
from account_merge.service import Service
from tests.torture.checker import FINAL
from tests.torture.traffic import Traffic
from tests.torture.world import AWAY

POLL = "account_merge_poll"


class Operator:
    """Acts every few seconds; counts what had to be done by hand."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic, self._world = traffic, traffic.world
        self.acts: Counter[str] = Counter()
        self.troubles: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._go_round, daemon=True)

    def __enter__(self) -> Operator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(120)

    def _go_round(self) -> None:
        while not self._end.wait(8):
            try:
                self.act()
            except (RuntimeError, *AWAY):
                continue  # servers are away: the next round

    def act(self) -> None:
        """One round."""
        with self._world.core() as core:
            answer = core.replays.replay(
                FailedMergeFilter(kinds=("failed", "needs_attention"), limit=1000), "operator", dry_run=False
            )
            for item in answer["items"]:
                if item["code"] in ("RESUMED", "REOPENED"):
                    merge = core.journal.need(uuid.UUID(item["merge_id"]))
                    self.acts[f"replayed ({merge.error_code})"] += 1
        self._look_at_runs()
        self._poll()

    def _poll(self) -> None:
        """Have a poll begin soon, unless one is queued."""
        queued = self._world.airflow(lambda a: a.get(f"dags/{POLL}/dagRuns", state="queued", limit=1), seconds=5)
        if not queued["dag_runs"]:
            self._world.airflow(lambda a: a.trigger(POLL), seconds=5)

    def _look_at_runs(self) -> None:
        """Runs by hand: one that Airflow's database lost is triggered again, one that failed early is cleared."""
        for family in self._traffic.families:
            for wish in [w for w in family.wishes if w.run_id]:
                merge = self._world.of_core(lambda core, w=wish: core.journal.get(w.merge_id), seconds=5)
                if merge is not None:
                    continue
                run = self._world.airflow(lambda a, w=wish: a.run("account_merge", w.run_id), seconds=5)
                if run is None:
                    self.acts["triggered again"] += 1
                    self._traffic.start_run(wish)
                elif self._traffic.clear_failed("account_merge", wish.run_id):
                    self.acts["cleared"] += 1

    # --- the end ------------------------------------------------------------------------------------------------------
    def quiet(self, still: float, say: Callable[[str], None]) -> str:
        """Wait until everything is done; answers what is not once nothing has moved for `still` seconds."""
        moved, told, before = time.monotonic(), 0.0, ""
        while True:
            try:
                with self._world.core() as core:
                    left, mark = self._left(core)
            except (RuntimeError, *AWAY) as error:
                left, mark = f"no answer: {error}", before
            if mark != before:
                moved, before = time.monotonic(), mark
            if not left or time.monotonic() - moved > still:
                return left
            if time.monotonic() - told > 20:
                told = time.monotonic()
                say(f"waiting: {left}")
            time.sleep(3)

    def _left(self, core: Service) -> tuple[str, str]:
        """What is not done, and a mark that changes whenever something moves."""
        merges = core.journal.all(100_000)
        parts = []
        unfinished = [m for m in merges if m.state not in FINAL]
        if unfinished:
            parts.append(f"{len(unfinished)} merges are {dict(Counter(m.state for m in unfinished))}")
        if owed := [m for m in merges if m.failed_event in ("due", "sending")]:
            parts.append(f"{len(owed)} failed events are owed")
        if due := [m for m in merges if m.settle_at is not None and m.state == "completed"]:
            parts.append(f"{len(due)} settles are due")
        if (found := core.inbox.has_work()) != {"lag": 0, "due": 0}:
            parts.append(f"the poll sees {found}")
        known = {m.merge_id for m in merges}
        missing = [w for family in self._traffic.families for w in family.wishes if w.merge_id not in known]
        if missing:
            parts.append(f"{len(missing)} merges are not in the journal")
        if playing := [f for f in self._traffic.families if not f.over]:
            parts.append(f"{len(playing)} stories are not over ({', '.join(sorted({f.story for f in playing}))})")
        return ", ".join(
            parts
        ), f"{len(merges)} {len(playing)} {max((m.updated_at for m in merges if m.updated_at), default='')}"

    def repair_all(self, merges: list[Merge]) -> None:
        """Have what came late moved: a repair of each of these merges, which the poll starts."""
        for merge in merges:
            try:
                self._world.of_core(
                    lambda core, m=merge: core.repairing.repair(m.merge_id, "operator", "what came late")
                )
                self.acts["repairs asked for"] += 1
            except (InvalidRequest, MergeError) as error:
                self.troubles.append(f"repair of merge {merge.merge_id}: {error}")
