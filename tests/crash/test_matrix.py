"""A process killed or stopped around any request, then resumed: equal to the uninterrupted run.

Equal are all columns of both accounts, the order of their write times, the journal and the topics (see `outcome`). One
request of each kind is tried, and of a merge a sample beside them, whose seed the run tells; by `make crash`, every
request of all.
"""

from __future__ import annotations

import random

import pytest

from tests.conftest import FULL
from tests.crash.conftest import SEED
from tests.crash.matrix import Job, kills, stops
from tests.crash.scenes import WORKS

#: A second process of the same work, one that takes it back, or another merge into the same target.
STOPS = [*((work, meanwhile) for work in WORKS for meanwhile in ("second", "undo")), ("merge", "other")]
LONG = pytest.mark.timeout(14400 if FULL else 2400)


def test_the_uninterrupted_runs_are_what_they_should_be(interrupting):
    views = {
        work: [row["viewcount"] for user, row in end.rows["user_content_consumption"] if user == "target"]
        for work, end in interrupting.whole.items()
    }
    assert views == {"merge": [5, 1], "undo": [2], "repair": [7, 1, 7], "settle": [7, 1, 7]}
    for work, end in interrupting.whole.items():
        assert len(interrupting.kinds[work]) > 200
        assert end.events, work
        assert end.faults == end.held == [], work
        assert end.rows != interrupting.still[work].rows, work


@LONG
@pytest.mark.parametrize("work", WORKS)
def test_a_process_may_be_killed_around_any_request(work, interrupting):
    dice = random.Random(SEED) if work == "merge" else None
    wrong = interrupting.run(kills(work, interrupting.kinds[work], FULL, dice))
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong[:5])


@LONG
@pytest.mark.parametrize(("work", "meanwhile"), STOPS)
def test_a_process_may_be_stopped_around_any_request_and_go_on_later(work, meanwhile, interrupting):
    wrong = interrupting.run(stops(work, interrupting.kinds[work], meanwhile, FULL))
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong[:5])


@pytest.mark.parametrize("work", WORKS)
def test_two_processes_at_once_end_as_one(work, interrupting):
    wrong = interrupting.run([Job(work, "twice", 0, str(number)) for number in range(4)])
    assert not wrong, "\n".join(wrong)
