"""Random histories of merges, undos, redos, settles, repairs and expiry, whatever leads to the rows, against a model of sets."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.conftest import FULL
from tests.histories.conftest import WAYS
from tests.histories.world import OPTIONS, World

SEEDS = range(300 if FULL else 12)
DONE: Counter[str] = Counter()  # how often each step and option was done, over all histories


def steps(world):
    """What a history is made of."""
    return [
        *[world.merge] * 5, *[world.undo] * 6, *[world.learn] * 5, world.join, world.join, world.enter, world.repair,
        world.settle, world.repeat, world.stall, world.abandon, *[world.expire] * (world.dice.random() < 0.3),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_the_tables_show_what_the_merges_that_stand_brought(seed, services, session):
    way = list(WAYS)[seed % len(WAYS)]
    world = World(services(way), session, seed)
    world.told.append(f"seed {seed}, {way}")
    world.run(steps(world))
    DONE.update({**world.done, way: 1})


def test_the_histories_had_every_step_and_option():
    """Of seeds that are fixed, so that this holds or fails for ever."""
    wanted = {
        "merge",
        "undo",
        "redo",
        "settle",
        "repair",
        "expire",
        "repeat",
        "stall",
        "abandon",
        "2 sources",
        "3 sources",
        *WAYS,
    }
    wanted |= {option.__name__[1:] for option in OPTIONS}
    wanted |= {"settle of skip", "repair of skip", "repair of a repair"} if FULL else set()
    assert not DONE or not wanted - set(DONE), DONE
