"""Compares what is there with the model: rows, journal, topics and logs. Every finding is of one of `KINDS`."""

from __future__ import annotations

import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from account_merge.model import Merge
from account_merge.service import Service
from local import messages
from tests.torture import rows, stories
from tests.torture.model import Facts, differences, together
from tests.torture.traffic import Family, Traffic

CHILDREN = ("settle", "repair")
KINDS = ("lost", "doubled", "silent", "stuck")
FINAL = ("completed", "refused", "undone", "abandoned")


@dataclass(frozen=True)
class Finding:
    """One breach of the promise, with what is needed to look into it."""

    kind: str
    words: str


class Checker:
    """Everything that can be asked once all is quiet."""

    def __init__(self, traffic: Traffic, core: Service) -> None:
        self._traffic, self._core, self._world = traffic, core, traffic.world
        self.merges: list[Merge] = core.journal.all(100_000)
        self._by_id = {merge.merge_id: merge for merge in self.merges}
        bootstrap, settings = core.settings.kafka_bootstrap_servers, core.settings
        self._merge_topic = messages.read(bootstrap, settings.merge_topic, seconds=60)
        self._failed = messages.read(bootstrap, settings.failed_topic, seconds=60)
        self._sync = messages.read(bootstrap, settings.sync_topic, seconds=60)
        self.open_totals = 0

    def findings(self) -> Iterator[Finding]:
        """All of them."""
        for family in self._traffic.families:
            yield from self._family(family)
        yield from self._events()
        yield from self._failed_events()
        for merge in self.merges:
            yield from self._merge(merge)

    # --- what learners have -------------------------------------------------------------------------------------------
    def _family(self, family: Family) -> Iterator[Finding]:
        where = f"family {family.number} ({family.story}), course {family.course}"
        ids = ", ".join(f"{w.via} {w.merge_id}" for w in family.wishes)
        states = {m.merge_id: m.state for m in self.merges}
        if trouble := stories.problem(family, states):
            ended = all(states.get(wish.merge_id) in FINAL for wish in family.wishes)
            yield Finding("silent" if ended else "stuck", f"{where}: {trouble} {family.trouble} [{ids}]")
        elif "STUCK" in family.trouble:
            yield Finding("stuck", f"{where}: {family.trouble} [{ids}]")
        if not family.accounts:
            return
        holds = stories.holds(family, lambda merge_id: states.get(merge_id, ""))
        facts = {account.id: account.facts for account in family.accounts}
        for account in family.accounts:
            must, may = holds[account.id]
            low, high = (together(facts[name] for name in names) for names in (must, may))
            found = rows.read(self._world.ask, account.id)
            for difference in differences(low, high, found):
                opened = [a for a in family.accounts if difference.fact in a.open_totals and a.id in may]
                if opened and self._is_named(family, difference.fact, found, facts, may):
                    continue
                yield Finding(difference.kind, f"{where}: account {account.id}: {difference} [{ids}]{family.trouble}")

    def _is_named(
        self, family: Family, fact: tuple[str, ...], found: Facts, facts: dict[str, Facts], may: set[str]
    ) -> bool:
        """Whether a total that the platform rewrote during the merge is one of both readings, and a report names them."""
        value, shares = found.get(fact, 0), [facts[name].get(fact, 0) for name in may]
        if not sum(shares) - max(shares) - 2 <= value <= 2 * sum(shares):
            return False
        self.open_totals += 1
        if "has no answer" in family.trouble:
            return True
        for merge in self.merges:
            if set(merge.accounts) & may:
                for table in self._core.reader.report(merge.merge_id).tables:
                    for row in table.rows:
                        if row["key"].get("contentid") == fact[2] and any("viewcount" in n for n in row["notes"]):
                            return True
        return False

    # --- events -------------------------------------------------------------------------------------------------------
    def _events(self) -> Iterator[Finding]:
        """Each message on the merge topic has become a merge, a refusal, or is of another action."""
        raws = Counter(m.request.raw for m in self.merges if m.request.raw is not None)
        wishes = {w.merge_id for family in self._traffic.families for w in family.wishes}
        bad = set(self._traffic.bad.values())
        good = {self._mid(m.request.raw) for m in self.merges if m.merge_id in wishes and m.request.raw}
        for message in self._merge_topic:
            where = f"message {message.partition}/{message.offset}"
            if message.value in bad:
                if raws[message.value] != 1:
                    yield Finding("silent", f"{where}, a bad event, has {raws[message.value]} rows in the journal")
            elif b"user-ownership-transfer" in (message.value or b""):
                if raws[message.value]:
                    yield Finding("silent", f"{where} of another action is in the journal")
            elif self._mid(message.value) not in good:
                yield Finding("silent", f"{where} has neither a merge nor a failed event: {message.value!r:.200}")
        if len(self._merge_topic) < sum(self._on_topic().values()):
            yield Finding("silent", f"{sum(self._on_topic().values())} sent, {len(self._merge_topic)} on the topic")

    def _on_topic(self) -> dict[str, int]:
        return {kind: n for kind, n in self._traffic.sent.items() if kind not in ("by hand", "by command")}

    @staticmethod
    def _mid(raw: bytes | None) -> str | None:
        return json.loads(raw)["mid"] if raw else None

    def _failed_events(self) -> Iterator[Finding]:
        """One failed event for each failure that the journal counts, and none else."""
        seen: Counter[str] = Counter()
        for message in self._failed:
            seen[json.loads(message.value or b"{}")["failInfo"]["failedId"]] += 1
        for merge in self.merges:
            sent = merge.failed_number - (merge.failed_event == "none")
            for number in range(1, sent + 1):
                times = seen.pop(f"{merge.merge_id}.{number}", 0)
                if times != 1:
                    words = f"failed event {number} of merge {merge.merge_id} ({merge.state}, {merge.error_code}) is"
                    yield Finding("doubled" if times else "silent", f"{words} {times} times on the topic")
            if merge.state == "refused" and not sent:
                yield Finding(
                    "silent", f"merge {merge.merge_id} was refused ({merge.error_code}) without a failed event"
                )
        for name, times in seen.items():
            yield Finding("doubled", f"failed event {name} is on the topic {times} times and not in the journal")

    # --- merges -------------------------------------------------------------------------------------------------------
    def _merge(self, merge: Merge) -> Iterator[Finding]:
        name = f"merge {merge.merge_id} ({merge.request.origin}, {merge.state})"
        if merge.state not in FINAL:
            yield Finding("stuck", f"{name}: {merge.error_code} {merge.error} {merge.note}")
            return
        if merge.failed_event == "undeliverable":
            yield Finding("silent", f"{name}: its failed event could not be delivered")
        if merge.state in ("completed", "undone"):
            for difference in self._core.audit.differences(merge.merge_id):
                if difference.kind != "later":
                    words = f"{difference.table} {difference.key}: {difference.words}"
                    yield Finding("lost", f"{name}: check says {difference.kind}: {words}")
        if merge.state == "completed" and merge.request.origin not in CHILDREN:
            yield from self._sync_events(merge, name)

    def _sync_events(self, merge: Merge, name: str) -> Iterator[Finding]:
        """A sync event for each course that both the merge's source and its target have by now."""
        target = merge.target
        courses: defaultdict[str, set[str]] = defaultdict(set)
        for message in self._sync:
            edata = json.loads(message.value or b"{}")["edata"]
            courses[edata["userId"]].add(edata["courseId"])
        family = next((f for f in self._traffic.families if any(a.id == target for a in f.accounts)), None)
        if family is not None and family.course not in courses[target]:
            yield Finding("silent", f"{name}: no sync event for course {family.course} of {target}")


def unfinished_runs(runs: list[dict[str, Any]], merges: dict[uuid.UUID, Merge], failed: set[str]) -> Iterator[Finding]:
    """Runs that ended failed and of which neither journal nor topic says anything."""
    for run in runs:
        parts = run["dag_run_id"].split("__")
        merge = merges.get(uuid.UUID(parts[1])) if len(parts) == 3 else None
        told = merge is not None and (str(merge.merge_id) in failed or run["dag_run_id"] in merge.run_ids[:-1])
        if run["state"] == "failed" and merge is not None and not told:
            yield Finding("silent", f"run {run['dag_run_id']} failed; merge {merge.merge_id} has no failed event")
