"""Random histories of merges, repeats, chains, late activity, repairs, undos and redos against a model of sets.

In the model every view is a thing of its own, so that nothing can count twice: an account shows what happened to it and
what the merges that stand have brought it. The totals in Cassandra must be the sizes of those sets, after every step.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field

import pytest

from account_merge.cli import run_merge
from account_merge.errors import InvalidRequest
from account_merge.model import MergeRequest
from tests.learners import account, lesson, put, rows

CC = "user_content_consumption"
LESSONS = ("L1", "L2")
STEPS = 30


@dataclass
class Model:
    """Accounts and merges as sets of views; a view is (lesson, number)."""

    own: dict[str, set] = field(default_factory=dict)
    brought: dict[str, list] = field(default_factory=dict)  # target -> [merge id, views], in order
    undone: set = field(default_factory=set)

    def views(self, user: str) -> set:
        standing = (views for merge, views in self.brought.get(user, ()) if merge not in self.undone)
        return self.own[user].union(*standing)

    def count(self, user: str, name: str) -> int:
        return sum(1 for view in self.views(user) if view[0] == name)


class World:
    """The same steps in the model and in Cassandra."""

    def __init__(self, service, session, seed):
        self.service, self.session, self.dice = service, session, random.Random(seed)
        self.keyspace, self.model, self.number = service.settings.courses_keyspace, Model(), 0
        self.users = [account() for _ in range(5)]
        self.model.own = {user: set() for user in self.users}
        self.merges: list = []
        self.told: list[str] = []

    def check(self):
        for user in self.users:
            found = {r["contentid"]: r.get("viewcount", 0) for r in rows(self.session, self.keyspace, CC, user)}
            wanted = {name: self.model.count(user, name) for name in LESSONS}
            assert {name: found.get(name, 0) for name in LESSONS} == wanted, "\n".join(self.told)

    def learn(self):
        """The platform counts one more view: it reads, adds and writes back."""
        user, name = self.dice.choice(self.users), self.dice.choice(LESSONS)
        self.number += 1
        self.model.own[user].add((name, self.number))
        put(self.session, self.keyspace, CC, lesson(user, name, viewcount=self.model.count(user, name)))
        self.told.append(f"learn {self.users.index(user)} {name}")

    def merge(self):
        sources = self.dice.sample(self.users, self.dice.choice((1, 1, 1, 2)))
        target = self.dice.choice(self.users)
        self.told.append(f"merge {[self.users.index(s) for s in sources]} into {self.users.index(target)}")
        if target in sources:
            with pytest.raises(InvalidRequest):
                self.service.open_merge(MergeRequest(tuple(sources), target, tables=(CC,)))
            return
        merge_id = self.service.open_merge(MergeRequest(tuple(sources), target, tables=(CC,)))
        self._ran(merge_id, sources)

    def _ran(self, merge_id, sources):
        answer = run_merge(self.service, merge_id, publish=False)
        self.told[-1] += f": {answer['state']} {merge_id}"
        if answer["state"] == "completed":
            survivor = self.service.journal.need(merge_id).survivor
            brought = set().union(*(self.model.views(source) for source in sources))
            self.model.brought.setdefault(survivor, []).append((merge_id, brought))
            self.merges.append(merge_id)
        else:
            assert answer["error"]["code"] in ("INTO_ITSELF", "ALREADY_MERGED"), answer

    def repeat(self):
        """An old merge's tasks once more, long after."""
        if self.merges:
            merge_id = self.dice.choice(self.merges)
            self.told.append(f"repeat {merge_id}")
            run_merge(self.service, merge_id, publish=False)

    def repair(self):
        standing = [m for m in self.merges if m not in self.model.undone]
        if not standing:
            return
        merge_id = self.dice.choice(standing)
        merge = self.service.journal.need(merge_id)
        self.told.append(f"repair {merge_id}")
        opened = self.service.undoing.repair(merge_id, "operator", "once more")["merge_id"]
        self._ran(uuid.UUID(opened), merge.request.sources)

    def undo(self):
        if not self.merges:
            return
        merge_id = self.dice.choice(self.merges)
        action = "redo" if merge_id in self.model.undone else "undo"
        try:
            self.service.undo(merge_id, action, publish=False)
            told = "done"
            (self.model.undone.discard if action == "redo" else self.model.undone.add)(merge_id)
        except InvalidRequest as refused:
            told = refused.code
        self.told.append(f"{action} {merge_id}: {told}")
        assert told in ("done", "UNDO_FIRST", "ALREADY_MERGED", "INTO_ITSELF", "CANNOT_REDO"), self.told


@pytest.mark.parametrize("seed", range(6))
def test_totals_are_what_one_account_would_have_counted(seed, session, shared_service):
    world = World(shared_service, session, seed)
    steps = [world.learn] * 4 + [world.merge] * 3 + [world.repeat, world.repair] + [world.undo] * 3
    for _ in range(STEPS):
        world.dice.choice(steps)()
        world.check()
    assert any("undo" in line and "done" in line for line in world.told), world.told
    assert any("completed" in line for line in world.told)
