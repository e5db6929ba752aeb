"""A process killed or stopped around any request, or cut off from the journal, then resumed: equal to the whole run.

Equal are all columns of both accounts, the order of their write times, the journal and the topics (see `outcome`). One
request of each kind is tried, in whichever work the dice choose, and a sample beside them; the run tells the seed. `make
crash` tries every request of each work.
"""

from __future__ import annotations

import random

import pytest

from tests.conftest import CRASH_SEED, FULL
from tests.crash.matrix import Job, cuts, kills, some, stops
from tests.crash.scenes import WORKS

#: A second process of the same work, one that takes it back, another merge into the same target or out of it, the switch.
STOPS = [
    *((work, meanwhile) for work in WORKS for meanwhile in ("second", "undo")),
    ("merge", "other"),
    ("merge", "pause"),
    ("undo", "onward"),
]
#: What is tried beside one of each kind.
KILLS_BESIDE, CUTS_BESIDE, STOPS_BESIDE = 8, 4, 12
LONG = pytest.mark.timeout(14400 if FULL else 2400)


def test_the_uninterrupted_runs_are_what_they_should_be(interrupting):
    views = {
        work: [row["viewcount"] for user, row in end.rows["user_content_consumption"] if user == "target"]
        for work, end in interrupting.whole.items()
    }
    assert views == {"merge": [5, 1], "undo": [2], "repair": [7, 1, 7], "settle": [7, 1, 7]}
    for work, end in interrupting.whole.items():
        assert len(interrupting.kinds[work]) > 80, work
        assert end.events, work
        assert end.faults == end.held == [], work
        assert end.rows != interrupting.still[work].rows, work


@pytest.fixture(scope="module")
def tried(interrupting):
    """The interruptions of this run: all kills, all cuts and all stops, or a choice of each."""
    whole = {
        KILLS_BESIDE: [job for work in WORKS for job in kills(work, interrupting.kinds[work])],
        CUTS_BESIDE: [job for work in WORKS for job in cuts(work, interrupting.kinds[work])],
        STOPS_BESIDE: [job for work, meanwhile in STOPS for job in stops(work, interrupting.kinds[work], meanwhile)],
    }
    dice = random.Random(CRASH_SEED)
    return [job for beside, jobs in whole.items() for job in (jobs if FULL else some(jobs, dice, beside))]


@LONG
@pytest.mark.parametrize("work", WORKS)
def test_a_process_may_be_killed_around_any_request(work, interrupting, tried):
    wrong = interrupting.run([job for job in tried if (job.work, job.action) == (work, "kill")])
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong[:5])


@LONG
@pytest.mark.parametrize("work", WORKS)
def test_the_answer_to_any_request_to_the_journal_may_be_lost(work, interrupting, tried):
    wrong = interrupting.run([job for job in tried if (job.work, job.action) == (work, "cut")])
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong[:5])


@LONG
@pytest.mark.parametrize(("work", "meanwhile"), STOPS)
def test_a_process_may_be_stopped_around_any_request_and_go_on_later(work, meanwhile, interrupting, tried):
    wrong = interrupting.run(
        [job for job in tried if (job.work, job.action, job.meanwhile) == (work, "stop", meanwhile)]
    )
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong[:5])


@pytest.mark.parametrize("work", WORKS)
def test_two_processes_at_once_end_as_one(work, interrupting):
    wrong = interrupting.run([Job(work, "twice", 0, str(number)) for number in range(4 if FULL else 2)])
    assert not wrong, "\n".join(wrong)
