"""A learner who is active: the platform writes at every moment of every work, with clocks that are right and wrong.

What must come out is known beforehand, by sums and sets: nothing of what either account had or the platform wrote is
missing, each unit of a total is there once, or both readings stand in the report and the value is one of them. A few
hundred chosen cases cover each two values of two dimensions; `ACCOUNT_MERGE_FULL=1` runs the whole product.
"""

from __future__ import annotations

import itertools
import random
import time
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from account_merge.cli.main import run_merge
from account_merge.errors import NeedsAttention, TransientError
from account_merge.model import MergeRequest
from account_merge.rules import rule_for
from account_merge.service import Service
from tests.active import CC, GROUP, KINDS, MOMENTS, Moments, Platform, Provoker, Update, pairwise, real_time
from tests.conftest import FULL
from tests.learners import account, put, rows

MARGIN = 0.5
CLOCKS = {"right": 0.0, "behind": -0.6 * MARGIN, "far behind": -MARGIN - 2, "ahead": 0.6 * MARGIN, "far ahead": 3600.0}
WORKS = ("merge", "undo", "redo", "repair", "settle")
DIMENSIONS: dict[str, Any] = {
    "kind": list(KINDS),
    "when": [(r, w) for r, w in itertools.product(MOMENTS, MOMENTS) if MOMENTS.index(r) <= MOMENTS.index(w)],
    "work": WORKS,
    "user": ("source", "target"),
    "clock": list(CLOCKS),
    "worker": (0.0, 0.6),
}


def fits(case):
    """A deletion reads nothing, so only its moment counts."""
    return case["kind"] != "deleted row" or case["when"][0] == case["when"][1]


def cases():
    """Chosen, or in full, where the worker's clock takes turns."""
    if not FULL:
        return pairwise(DIMENSIONS, random.Random(11), fits)
    names = [name for name in DIMENSIONS if name != "worker"]
    every = (dict(zip(names, found, strict=True)) for found in itertools.product(*(DIMENSIONS[n] for n in names)))
    return [case | {"worker": (0.0, 0.6)[n % 2]} for n, case in enumerate(filter(fits, every))]


def name_of(case):
    (read, written), clock = case["when"], case["clock"]
    worker = ", worker ahead" if case["worker"] else ""
    return f"{case['kind']}, {case['work']}: {case['user']} {read}-{written}, clock {clock}{worker}"


@pytest.fixture(scope="module")
def service(shared_service):
    """With a small margin, so that what was deleted a moment ago does not hide what is written for long."""
    settings = shared_service.settings.replace(
        clock_margin_seconds=MARGIN, platform_write_window_seconds=60.0, settle_after_seconds=(3600.0,)
    )
    with Service(settings) as found:
        yield found


@dataclass
class World:
    """One pair of accounts with the row under test, and the works on it."""

    service: Service
    platform: Platform
    source: str
    target: str
    parent: uuid.UUID | None = None

    def begin(self, work, session):
        """Puts the rows, and does what comes before the work."""
        kind, keyspace = self.platform.kind, self.platform._keyspace
        if kind.table == GROUP:
            members = [(self.source, "g1"), (self.source, "g4"), (self.source, "g9"), (self.target, "g2")]
            for user, group in (*members, (self.target, "g9")):
                member = {"groupid": group, "userid": user, "status": "active", "role": "member"}
                put(session, keyspace, "group_member", member, timestamp=1000)
        more = {CC: {"completedcount": 4}, GROUP: {}}.get(kind.table, {"status": 2})
        self.platform.put(self.source, 1000, **{kind.column: kind.source}, **more)
        if kind.target is not None:
            more = {CC: {"completedcount": 1}, GROUP: {}}.get(kind.table, {"status": 1})
            self.platform.put(self.target, 1000, **{kind.column: kind.target}, **more)
        if work != "merge":
            self.run("merge")
        if work == "redo":
            self.run("undo")
        if work in ("repair", "settle"):
            more = {CC: {"completedcount": 7}, GROUP: {}}.get(kind.table, {"status": 3})
            self.platform.put(self.source, int((real_time() - 60) * 1e6), **{kind.column: kind.late}, **more)

    def run(self, work):
        """Does it to the end; what fails as transient is tried again, as Airflow does."""
        for _ in range(20):
            try:
                return self._run(work)
            except TransientError:
                continue
        raise AssertionError("transient for ever")

    def _run(self, work):
        if work in ("undo", "redo"):
            answer = self.service.undoing.run(self.parent, work, publish=False)
            assert answer["state"] == ("undone" if work == "undo" else "completed"), answer
            return
        if work == "merge":
            self.parent = self.parent or self.service.opening.open_merge(
                MergeRequest((self.source,), self.target, tables=(self.platform.kind.table,))
            )
            merge_id = self.parent
        elif work == "repair":
            merge_id = uuid.UUID(self.service.repairing.repair(self.parent, "operator", "late")["merge_id"])
        else:
            merge_id = self.service.settling._open(self.service.journal.need(self.parent))
        answer = run_merge(self.service, merge_id, publish=False)
        if answer["error"] is not None:
            error = NeedsAttention if answer["error"]["code"] == "KEEPS_CHANGING" else TransientError
            raise error(answer["error"]["code"], answer["error"]["message"], "")
        assert answer["state"] == "completed", answer

    def notes(self, column):
        """What the reports of the merge and of all that mends it say of a column."""
        journal = self.service.journal
        return [
            note
            for merge_id in journal.merges_into(self.target)
            for table in self.service.reader.report(merge_id).to_dict()["tables"]
            for row in table["rows"]
            for note in row["notes"]
            if note.startswith(f"{column}:")
        ]


@pytest.mark.parametrize("case", cases(), ids=name_of)
def test_nothing_is_lost_and_nothing_counts_twice(case, session, service, monkeypatch):
    kind = KINDS[case["kind"]]
    # The other tables would only be asked whether they are the merge's: a quarter of all requests.
    monkeypatch.setattr("account_merge.lifecycle.merging.RULES", (rule_for(kind.table),))
    platform = Platform(session, service.settings.courses_keyspace, kind)
    world = World(service, platform, account(), account())
    world.begin(case["work"], session)
    user = world.source if case["user"] == "source" else world.target
    update = Update(platform, user, *case["when"], CLOCKS[case["clock"]])
    provoker = Provoker(platform, world.target)
    kept = True
    with monkeypatch.context() as patched:
        moments = Moments(patched, world.target, lambda moment: (update.at(moment), provoker.at(moment)))
        patched.setattr(time, "time", lambda: real_time() + case["worker"])
        moments.reach("before")
        try:
            world.run(case["work"])
        except NeedsAttention:
            kept = False
        moments.reach("done")
    if kept and case["work"] != "undo":
        try:
            world.run("repair")
        except NeedsAttention:
            kept = False
    if not kept:
        # A deletion dated an hour ahead hides whatever is written: said, and never completed.
        assert (kind.delete, case["clock"], case["user"]) == (True, "far ahead", "target")
        return
    (totals if kind.total else pieces)(world, case)


def hidden(case):
    """Cassandra itself may have dropped the writer's update: its time lies below what the row has."""
    return case["clock"] == "far behind" and case["when"][1] != "before"


def pieces(world, case):
    """All that was there and all that was added is there."""
    kind = world.platform.kind
    wanted = {"source": [kind.source], "target": [kind.target]}
    if case["work"] in ("repair", "settle"):
        wanted["source"].append(kind.late)
    if not hidden(case):
        wanted[case["user"]].append(kind.adds)
    if case["work"] != "undo":
        wanted["target"] += wanted["source"]
    for user, account_id in (("source", world.source), ("target", world.target)):
        value = world.platform.read(account_id)
        missing = [piece for piece in wanted[user] if piece is not None and not kind.covers(value, piece)]
        assert not missing, (user, value, missing)


def totals(world, case):
    """Each unit once, or the other of two readings that the report names."""
    kind, standing = world.platform.kind, case["work"] != "undo"
    of_source = kind.late if case["work"] in ("repair", "settle") else kind.source
    own = kind.target or 0
    found = world.platform.read(world.target) or 0
    if kind.delete:
        return deleted(world, case, of_source, found)
    added = {"source": 0, "target": 0, case["user"]: kind.adds}
    right = {own + added["target"] + (of_source + added["source"] if standing else 0)}
    if hidden(case):
        right |= {value - kind.adds for value in right}
    if case["user"] == "source" and not hidden(case):
        assert world.platform.read(world.source) == of_source + kind.adds
    if found in right:
        return None
    notes = world.notes(kind.column)
    shares = {kind.source, of_source, of_source - kind.source}
    assert {abs(found - value) for value in right} & shares, (found, right, notes)
    late_in_undo = not standing and case["when"][1] == "done" and case["when"][0] != "done"
    assert late_in_undo or notes, (found, right)
    return None


def deleted(world, case, of_source, found):
    """What the platform deletes is gone; the other account's part is not."""
    own = world.platform.kind.target
    if case["work"] == "undo":
        assert found in ({own} if case["user"] == "source" else {0, own})
    elif case["user"] == "target":
        # What an earlier merge had moved was the target's own by then, and goes with it when the platform deletes it later.
        assert found in {of_source, own + of_source, of_source - world.platform.kind.source}
    elif MOMENTS.index(case["when"][1]) > MOMENTS.index("read"):
        assert found == own + of_source
    else:
        # Of what the source had, the part that an earlier merge moved stays.
        assert found in {own, own + world.platform.kind.source, own + of_source}


@pytest.mark.parametrize("work", WORKS)
def test_a_worker_whose_clock_is_far_ahead_writes_nothing(work, session, service, monkeypatch):
    platform = Platform(session, service.settings.courses_keyspace, KINDS["total, increment smaller"])
    world = World(service, platform, account(), account())
    world.begin(work, session)
    before = rows(session, service.settings.courses_keyspace, CC, world.target)
    with monkeypatch.context() as clock:
        clock.setattr(time, "time", lambda: real_time() + 5)
        with pytest.raises(TransientError, match="CLOCK_SKEW"):
            world._run(work)
    assert rows(session, service.settings.courses_keyspace, CC, world.target) == before
    if work == "settle":  # opened, and admitted already: the poll starts it again
        assert run_merge(service, uuid.uuid5(world.parent, "settle-1"), publish=False)["state"] == "completed"
    else:
        world.run(work)
    assert platform.read(world.target) == {"merge": 5, "undo": 2, "redo": 5}.get(work, 7)
