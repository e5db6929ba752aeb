"""Undos and redos that once saw less than they touched: each as one history, whatever leads to the rows."""

from __future__ import annotations

import itertools
import time

import pytest

from account_merge.model import MergeRequest
from tests.conftest import sampled
from tests.histories.model import AGG, ASM, CC, ENR, LIST, MEMBER, Asked, Thing
from tests.histories.world import BATCH, DAY, TABLES, World

ALL, CHOSEN = Asked(TABLES), Asked(TABLES, choices={CC: "source"})
SKIP = Asked(TABLES, on_conflict="skip")


def by(*ways):
    return pytest.mark.parametrize("way", ways)


@pytest.fixture
def world(way, services, session):
    found = World(services(way), session, 1)
    found.lagging = set()
    return found


def learn(world, user, course, lesson, done=True):
    """A lesson without anything else that chance would add."""
    world.dice.random = lambda: 1.0
    world.learn(user, course, lesson, done)


@pytest.mark.parametrize(
    ("way", "asked"),
    [("official", ALL), ("official", SKIP), ("official", CHOSEN), ("indexed", ALL), ("spark", SKIP)],
    ids=["combine", "skip", "chosen", "indexed", "spark"],
)
def test_a_target_that_has_nothing_of_the_course(way, world, asked):
    a, t = world.users[:2]
    learn(world, a, "C1", "L1")
    merge = world.asked((a,), t, asked)
    for _ in range(4):
        world.check()
        assert world.undo(merge)
    world.check()


@by("official", "indexed")
def test_a_target_that_has_an_aggregate_row_and_no_enrolment(way, world):
    """Such rows are left where an enrolment stood in an older table, or was removed."""
    a, t = world.users[:2]
    learn(world, a, "C1", "L1")
    key = ("Course", "C1", f"cb:{BATCH}")
    world.put(t, AGG, key, aggregates={"completedCount": 4.0, "score:q": 9.0})
    before = world._found(t, AGG)
    merge = world.asked((a,), t, ALL)
    assert world.undo(merge)
    assert world._found(t, AGG) == before
    assert world.undo(merge)
    # What the target gets of its own meanwhile stays, also when its row came by the merge.
    world.put(t, AGG, key, agg_details=['{"attempt_id": "t1", "content_id": "q"}'])
    assert world.undo(merge)
    assert world._found(t, AGG) == [{**before[0], "attempts": ["t1"]}]
    assert world._found(t, ENR) == world._found(t, CC) == []


@by("official")
def test_what_the_target_does_after_a_merge_that_brought_it_everything(way, world):
    a, t = world.users[:2]
    learn(world, a, "C1", "L1")
    merge = world.asked((a,), t, ALL)
    learn(world, t, "C1", "L2")
    world.check()
    assert world.undo(merge)
    world.check()
    assert world.undo(merge)
    world.check()


@by("official", "spark")
def test_a_membership_that_ended_stays_as_it_was(way, world):
    """Nothing but the source's list leads to it: an account's own list does not name what it has left."""
    a, t = world.users[:2]
    world.join(a, "g1")
    world.put(t, MEMBER, ("g1",), status="inactive", role="admin", removedby="somebody", removedon=DAY)
    schema = world.service.tables.schemas[MEMBER]

    def membership():
        return world.service.store.rows_by_key(schema, t, [("g1",)])[("g1",)].values

    before, lists = membership(), world._found(t, LIST)
    merge = world.asked((a,), t, Asked(TABLES, choices={MEMBER: "target"}))
    assert membership() == before
    assert world.undo(merge)
    assert (membership(), world._found(t, LIST)) == (before, lists)
    merge = world.asked((a,), t, ALL)
    assert membership()["status"] == "active"
    assert world.undo(merge)
    assert (membership(), world._found(t, LIST)) == (before, lists)


@by("official", "indexed")
def test_an_undo_of_one_merge_keeps_what_another_kept_out(way, world):
    x, y, t = world.users[:3]
    world.join(x, "g1")
    world.join(x, "g3")
    world.join(y, "g2")
    # The target has left g3: under skip it stays so, and g3 stays out of its list.
    world.put(t, MEMBER, ("g3",), status="inactive", role="member")
    kept = world.asked((x,), t, SKIP)
    assert world._found(t, LIST) == [{"places": ["g1"]}]
    other = world.asked((y,), t, ALL)
    assert world._found(t, LIST) == [{"places": ["g1", "g2"]}]
    assert world.undo(other)
    assert world._found(t, LIST) == [{"places": ["g1"]}]
    assert world.undo(other)
    assert world.undo(kept)
    assert world._found(t, LIST) == [{"places": ["g2"]}]
    assert world.undo(kept)
    assert world._found(t, LIST) == [{"places": ["g1", "g2"]}]


@by("official")
def test_an_undo_keeps_from_which_source_a_place_came(way, world):
    x, y, z, t = world.users[:4]
    for user, lesson in ((x, "L1"), (y, "L2"), (z, "L3")):
        learn(world, user, "C1", lesson)
    first = world.asked((x, y), t, SKIP)
    world.check()
    other = world.asked((z,), t, ALL)
    world.check()
    for merge in (other, other, first, other, first, other):
        assert world.undo(merge)
        world.check()


@pytest.mark.parametrize(
    ("way", "lagging", "order"),
    [("official", "A", (0, 1)), ("official", "AD", (0, 0, 1)), ("indexed", "T", (1, 0)), ("spark", "ADT", (1, 1, 0)),
     ("indexed", "A", (0, 0, 1))],
)  # fmt: skip
def test_each_lesson_counts_while_its_merge_stands_whoever_has_an_aggregate_row(way, world, lagging, order):
    a, d, t = world.users[:3]
    world.lagging = {(dict(A=a, D=d, T=t)[name], "C1") for name in lagging}
    for user, lesson in ((a, "L1"), (d, "L2"), (t, "L3"), (d, "L3")):
        learn(world, user, "C1", lesson)
    merges = [world.asked((source,), t, ALL) for source in (a, d)]
    world.check()
    for number in order:
        assert world.undo(merges[number])
        world.check()


@by("official")
@pytest.mark.parametrize(("when", "order"), sampled(itertools.product(range(1, 7), [(0, 1), (1, 0)]), 4))
def test_what_the_target_finishes_between_undos_and_redos_counts_beside_what_they_bring(way, world, order, when):
    """Two merges are undone and stand again; the target goes on at one moment, and the platform counts what it sees."""
    a, d, t = world.users[:3]
    for user, lesson in ((a, "L1"), (d, "L2"), (t, "L4")):
        learn(world, user, "C1", lesson)
    merges = [world.asked((source,), t, ALL) for source in (a, d)]
    steps = [merges[n] for n in (*order, *reversed(order), *order)]
    for number, merge in enumerate(steps, 1):
        assert world.undo(merge)
        world.check()
        if number == when:
            learn(world, t, "C1", "L3")
            world.check()
    assert world.model.numbers(t, "C1") == {"completedCount": 2.0}


@by("official", "indexed")
@pytest.mark.parametrize("undone", [False, True], ids=["while it stands", "while it is undone"])
def test_an_aggregate_row_that_the_platform_makes_later_counts_what_is_there(way, undone, world):
    """No account had one when the merge was done, so that its log knows of none."""
    a, t = world.users[:2]
    world.lagging = {(a, "C1"), (t, "C1")}
    for user, lesson in ((a, "L1"), (t, "L2")):
        learn(world, user, "C1", lesson)
    merge = world.asked((a,), t, ALL)
    if undone:
        assert world.undo(merge)
    world.lagging = set()
    learn(world, t, "C1", "L3")
    world.check()
    assert world.model.numbers(t, "C1") == {"completedCount": 2.0 if undone else 3.0}
    for _ in range(3):
        assert world.undo(merge)
        world.check()


@by("official")
def test_a_worse_score_that_the_merged_one_hid_comes_back_with_the_undo(way, world):
    """The platform puts the best score of all attempts: the merged one, as the merge had left it."""
    a, t = world.users[:2]
    merge = None
    for user, lesson, score in ((a, "L1", 28), (t, "L2", 5)):
        world.dice.random, world.dice.randint = (lambda: 0.1), (lambda least, most, score=score: score)
        world.learn(user, "C1", lesson, True)
        merge = merge or world.asked((a,), t, ALL)
        world.check()
    for score in (5, 28):
        assert world.undo(merge)
        world.check()
        assert world.model.numbers(t, "C1")["score:q"] == score


@by("official")
def test_several_sources_of_which_one_has_no_aggregate_row(way, world):
    a, d, t = world.users[:3]
    world.lagging = {(a, "C1")}
    for user, lesson in ((a, "L1"), (d, "L2"), (t, "L3")):
        learn(world, user, "C1", lesson)
    merge = world.asked((a, d), t, ALL)
    world.check()
    assert world.model.numbers(t, "C1") == {"completedCount": 3.0}
    for _ in range(3):
        assert world.undo(merge)
        world.check()


@by("official")
@pytest.mark.parametrize("other", [False, True], ids=["alone", "beside another"])
def test_a_redo_counts_as_its_merge_did_where_the_source_s_lessons_were_chosen(way, world, other):
    a, d, t = world.users[:3]
    learn(world, a, "C1", "L1", done=False)
    learn(world, a, "C1", "L2")
    for lesson in ("L1", "L3"):
        learn(world, t, "C1", lesson)
    learn(world, d, "C1", "L3")
    merges = [world.asked((a,), t, CHOSEN)]
    merges += [world.asked((d,), t, ALL)] if other else []
    merged = world._found(t, AGG)
    assert merged[0]["completedCount"] == 3.0
    for merge in merges:
        assert world.undo(merge)
        assert world.undo(merge)
        assert world._found(t, AGG) == merged
    for merge in merges:
        assert world.undo(merge)
    world.check()


@by("official")
@pytest.mark.parametrize(
    ("settled", "order"), sampled(itertools.product([(), (0,), (1,), (0, 1)], [(0, 1), (1, 0)]), 3)
)
def test_of_two_settled_merges_either_is_undone_in_either_order(way, world, order, settled):
    """A and D into T, all go on, some merges are settled; without either, T is what the other alone gives."""
    a, d, t = world.users[:3]
    for user, times in ((a, 3), (d, 4), (t, 2)):
        for _ in range(times):
            learn(world, user, "C1", "L1")
    merges = []
    for source in (a, d):
        merges.append(world.asked((source,), t, ALL))
        world.check()
    for user, lesson in ((a, "L1"), (d, "L2"), (t, "L1")):
        learn(world, user, "C1", lesson)
    for number in settled:
        world.settled(merges[number])
        world.check()
    for number in order:
        assert world.undo(merges[number])
        world.check()
        other = 1 - number
        if merges[other] not in world.model.undone:
            learn(world, (a, d)[other], "C1", "L1")
            world.settled(merges[other])
            world.check()


@by("official", "indexed")
def test_lessons_that_are_new_count_of_a_source_that_had_a_row_and_of_one_that_had_none(way, world):
    c, e, t = world.users[:3]
    learn(world, t, "C2", "L1")
    learn(world, e, "C2", "L1", done=False)
    merge = world.asked((c, e), t, ALL)
    for user, lesson in ((c, "L2"), (c, "L1"), (e, "L3")):
        learn(world, user, "C2", lesson)
    world.settled(merge)
    world.check()
    assert world.model.numbers(t, "C2") == {"completedCount": 3.0}
    assert world.undo(merge)
    world.check()


@by("official")
def test_what_a_choice_had_hidden_stays_hidden_when_the_merge_before_it_is_settled(way, world):
    a, d, t = world.users[:3]
    learn(world, a, "C1", "L1")
    learn(world, a, "C1", "L2")
    first = world.asked((a,), t, ALL)
    learn(world, d, "C1", "L1")
    world.asked((d,), t, CHOSEN)
    learn(world, a, "C1", "L2")
    world.settled(first)
    world.check()
    assert len(world.model.some(t, "view", "C1")) == 3


@by("official")
def test_a_chain_is_undone_from_its_end_and_stands_again(way, world):
    a, b, c = world.users[:3]
    learn(world, a, "C1", "L1")
    learn(world, b, "C2", "L1")
    world.join(a, "g1")
    one = world.asked((a,), b, ALL)
    two = world.asked((b,), c, ALL)
    world.check()
    assert not world.undo(one)
    for merge in (two, one, one, two):
        assert world.undo(merge)
        world.check()


def test_the_preview_of_a_merge_says_nothing_of_rows_that_it_leaves(services, session):
    """A source without an aggregate row is in the log where the target has one; what it shows is nothing."""
    world = World(services("official"), session, 2)
    a, t = world.users[:2]
    world.lagging = {(a, "C1")}
    learn(world, a, "C1", "L1")
    learn(world, t, "C1", "L1")
    time.sleep(0.01)
    report = world.service.previews.preview(MergeRequest((a,), t)).to_dict()
    (found,) = [table["rows"] for table in report["tables"] if table["table"] == AGG]
    assert [(row["what"], row["sources"]) for row in found] == [("same", {a: {}})]
    assert Thing("done", "C1", "L1") in world.model.things(t)
    assert ASM in {table["table"] for table in report["tables"]}
