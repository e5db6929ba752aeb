"""Writers that never pause: threads read, add and write back on both accounts while merges, settles and undos go on.

Nothing is arranged here: where an update of the platform meets a write of ours is up to the machine. Each writer keeps
what it has added, so that the totals are known; where they differ, a report names both readings.
"""

from __future__ import annotations

import random
import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from account_merge.cli.main import run_merge
from account_merge.errors import NeedsAttention, TransientError
from account_merge.model import MergeRequest
from account_merge.service import Service
from tests.learners import BATCH, COURSE, account, enrolment, lesson, put, rows

CC, ENR = "user_content_consumption", "user_enrolments"
LESSONS = tuple(f"L{number}" for number in range(4))
# What the source has of each lesson: more than any writer adds, so that only the settles' readings stay open.
SHARE = 1000


@pytest.fixture(scope="module")
def service(shared_service):
    with Service(shared_service.settings.replace(settle_after_seconds=(3600.0, 7200.0, 9999.0))) as found:
        yield found


@dataclass
class Writer:
    """One thread of the platform on one account: it alone counts there, as one device of one learner does."""

    session: object
    keyspace: str
    user: str
    stop: threading.Event
    dice: random.Random
    added: dict = field(default_factory=lambda: dict.fromkeys(LESSONS, 0))
    items: set = field(default_factory=set)

    def run(self):
        table = f"{self.keyspace}.{CC}"
        where = "userid = ? AND courseid = ? AND batchid = ? AND contentid = ?"
        read = self.session.prepare(f"SELECT viewcount FROM {table} WHERE {where}")
        write = self.session.prepare(f"UPDATE {table} SET viewcount = ? WHERE {where}")
        done = self.session.prepare(
            f"UPDATE {self.keyspace}.{ENR} SET contentstatus = contentstatus + ? WHERE userid = ? AND courseid = ? AND batchid = ?"
        )
        number = 0
        while not self.stop.is_set():
            name, number = self.dice.choice(LESSONS), number + 1
            key = [self.user, COURSE, BATCH, name]
            row = self.session.execute(read, key).one()
            self.stop.wait(self.dice.choice((0, 0, 0.002, 0.02)))
            self.session.execute(write, [((row.viewcount or 0) if row else 0) + 1, *key])
            self.added[name] += 1
            if number % 5 == 0:
                self.items.add(f"{self.user[:8]}-{number}")
                self.session.execute(done, [{f"{self.user[:8]}-{number}": 2}, self.user, COURSE, BATCH])
            self.stop.wait(self.dice.uniform(0.02, 0.2))


@dataclass
class Learner:
    """A pair of accounts, with a writer on each, and the merge that is done and mended while they write."""

    service: Service
    source: Writer
    target: Writer
    merge_id: uuid.UUID | None = None
    child: uuid.UUID | None = None

    def step(self, action):
        """Does it to the end; where a row keeps changing, the task is cleared, as the remedy says."""
        for _ in range(10):
            try:
                return self._step(action)
            except (NeedsAttention, TransientError) as error:
                if error.code not in ("KEEPS_CHANGING", "CLOCK_SKEW", "CASSANDRA_UNAVAILABLE"):
                    raise
        raise AssertionError(f"{action} comes to no end")

    def _step(self, action):
        if action == "merge":
            request = MergeRequest((self.source.user,), self.target.user, tables=(CC, ENR))
            self.merge_id = self.merge_id or self.service.opening.open_merge(request)
            return self._run(self.merge_id)
        if action == "settle":
            self.child = self.child or self.service.settling._open(self.service.journal.need(self.merge_id))
            self._run(self.child)
            self.child = None
            return None
        return self.service.undoing.run(self.merge_id, action, publish=False)

    def _run(self, merge_id):
        answer = run_merge(self.service, merge_id, publish=False)
        if answer["error"] is not None:
            raise NeedsAttention(answer["error"]["code"], answer["error"]["message"], "")
        assert answer["state"] == "completed", answer

    def notes(self):
        """Lesson -> what the reports leave open of its total, as the sum of the other readings' differences."""
        found: dict[str, list[str]] = {}
        for merge_id in self.service.journal.merges_into(self.target.user):
            for table in self.service.reader.report(merge_id).to_dict()["tables"]:
                for row in table["rows"] if table["table"].endswith(CC) else ():
                    names = [n for n in row["notes"] if re.match("viewcount: the platform wrote", n)]
                    found.setdefault(row["key"]["contentid"], []).extend(names)
        return found


@pytest.mark.timeout(300)
def test_writers_that_never_pause_lose_nothing(session, service):
    keyspace, dice, stop = service.settings.courses_keyspace, random.Random(5), threading.Event()
    learners = []
    for _ in range(3):
        writers = [Writer(session, keyspace, account(), stop, random.Random(dice.random())) for _ in range(2)]
        for writer, start in zip(writers, (SHARE, 10), strict=True):
            for name in LESSONS:
                put(session, keyspace, CC, lesson(writer.user, name, viewcount=start, progress=start // 10))
            put(session, keyspace, ENR, enrolment(writer.user, status=1, contentstatus={f"own-{start}": 2}))
        learners.append(Learner(service, *writers))
    works = (["merge", "settle"], ["merge", "undo", "redo"], ["merge", "settle", "undo"])
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(w.run) for one in learners for w in (one.source, one.target)]
        try:
            for turn in range(3):
                for learner, work in zip(learners, works, strict=True):
                    if turn < len(work):
                        learner.step(work[turn])
        finally:
            stop.set()
        for writer in running:
            writer.result(60)
    for learner, work in zip(learners, works, strict=True):
        if work[-1] != "undo":
            learner.step("settle")  # what came after the last look
        elif brought_back(session, keyspace, learner):
            learner.step("redo")
            learner.step("undo")
        is_right(session, keyspace, learner, standing=work[-1] != "undo")


def brought_back(session, keyspace, learner):
    """Whether an update began before the undo and ended after its verification, so that it shows what the undo took."""
    found = {r["contentid"]: r["viewcount"] for r in rows(session, keyspace, CC, learner.target.user)}
    return any(found[name] >= SHARE for name in LESSONS)


def is_right(session, keyspace, learner, standing):
    source, target = learner.source, learner.target
    found = {r["contentid"]: r["viewcount"] for r in rows(session, keyspace, CC, source.user)}
    assert found == {name: SHARE + source.added[name] for name in LESSONS}  # nobody else writes there
    found = {r["contentid"]: r["viewcount"] for r in rows(session, keyspace, CC, target.user)}
    for name in LESSONS:
        wanted = 10 + target.added[name] + (SHARE + source.added[name] if standing else 0)
        if found[name] != wanted:
            open_ones = learner.notes().get(name, [])
            assert open_ones, (name, found[name], wanted)
            shares = [int(re.search(r"while ([+-]\d+) was", note).group(1)) for note in open_ones]
            # The settles' shares are small: each of them that was left open may be there or not.
            assert abs(found[name] - wanted) <= sum(map(abs, shares)), (name, found[name], wanted, open_ones)
    (enrolled,) = rows(session, keyspace, ENR, target.user)
    items = target.items | {"own-10"} | (source.items | {f"own-{SHARE}"} if standing else set())
    assert items <= set(enrolled["contentstatus"])
