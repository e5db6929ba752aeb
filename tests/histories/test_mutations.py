"""The histories can see: each fault that is put into the undo is found by a short one, which is green without it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from account_merge.engine.evidence import EvidenceReader
from account_merge.engine.table_undo import TableUndo
from account_merge.engine.view import View
from account_merge.sunbird.row_finder import RowFinder
from tests.histories.model import Asked
from tests.histories.world import TABLES, World

ALL = Asked(TABLES)


def rows_through_places(patch):
    """An undo finds rows only through places that the target and the sources of the standing merges show."""

    def planning(self, after=None):
        past, replay, base = self._past, self._replay(), self._store.safe_timestamp()
        found = RowFinder(self._store, self._tables, self._settings, (*sorted(past.sources), past.account))
        rows = {row.key: row for row in found.rows(self._rule, self.account)}
        for key, steps in self._steps():
            if after is None or key > after:
                yield replay(key, steps, rows.get(key), base), base

    patch.setattr(TableUndo, "plan", planning)


def kept_out_is_forgotten(patch):
    """A replayed merge brings also what it had kept out."""
    replay = TableUndo._replay

    def replaying(self):
        views = {merge: View(view.sources, view.target) for merge, view in self._past.views.items()}
        self._past = replace(self._past, views=views)
        return replay(self)

    patch.setattr(TableUndo, "_replay", replaying)


def lessons_count_with_an_aggregate_row_only(patch):
    """A source that has none in the place is not in the log of the aggregates."""
    patch.setattr(EvidenceReader, "beside", lambda self, view, key: frozenset())


def a_target_with_nothing(world):
    a, t = world.users[:2]
    world.learn(a, "C1", "L1", True)
    yield world.asked((a,), t, ALL)


def a_group_that_skip_kept_out(world):
    x, y, t = world.users[:3]
    world.join(x, "g1")
    world.join(y, "g2")
    world.put(t, "group_member", ("g1",), status="inactive", role="member")
    world.asked((x,), t, Asked(TABLES, on_conflict="skip"))
    yield world.asked((y,), t, ALL)


def a_lagging_aggregator(world):
    a, t = world.users[:2]
    world.lagging = {(a, "C1")}
    for user, lesson in ((a, "L1"), (t, "L2")):
        world.learn(user, "C1", lesson, True)
    yield world.asked((a,), t, ALL)


MUTATIONS = {
    rows_through_places: a_target_with_nothing,
    kept_out_is_forgotten: a_group_that_skip_kept_out,
    lessons_count_with_an_aggregate_row_only: a_lagging_aggregator,
}


def shown(world):
    return {(user, table): world._found(user, table) for user in world.users for table in TABLES}


def ends_as_it_was(service, session, history):
    """Whether the last merge of a short history, undone and done again, leaves what it had made, and all shows in sets."""
    world = World(service, session, 1)
    world.lagging, world.dice.random = set(), lambda: 1.0
    (merge,) = history(world)
    if history is a_group_that_skip_kept_out:  # what was left is nothing that the model knows
        before = shown(world)
        for _ in range(2):
            world.undo(merge)
        return shown(world) == before
    try:
        world.check()
        for _ in range(2):
            world.undo(merge)
            world.check()
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("put", MUTATIONS, ids=lambda put: put.__name__)
def test_is_found(put, services, session, monkeypatch):
    service = services("official")
    assert ends_as_it_was(service, session, MUTATIONS[put])
    put(monkeypatch)
    assert not ends_as_it_was(service, session, MUTATIONS[put])
