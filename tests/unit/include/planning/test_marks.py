"""Marked write times: the journal's own are recognised, others' are not, and later clocks give later marks."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from account_merge.planning.marks import Marks

OURS, OTHER = Marks(b"0" * 16), Marks(b"1" * 16)
times = st.integers(1_100_000_000_000_000, 3_000_000_000_000_000)  # µs; the years 2004 to 2065
ranks = st.integers(0, 3)


@given(times, ranks)
def test_a_mark_is_recognised_and_lies_shortly_below_the_clock(time, rank):
    found = OURS.below(time, rank)
    assert OURS.marked(found)
    assert time - 1_500_000 < found <= time
    assert found < OURS.below(time, rank - 1) if rank else True


@given(times, st.integers(0, 3_000_000), ranks)
def test_a_later_clock_never_gives_an_earlier_mark(time, later, rank):
    assert OURS.below(time + later, rank) >= OURS.below(time, rank)


@given(times)
def test_a_client_that_counts_on_by_microseconds_meets_no_two_marks_of_a_stretch(time):
    begin = time - time % 2**20
    near = [t for t in range(OURS.below(time) - 60, OURS.below(time) + 60) if OURS.marked(t) and t >= begin]
    assert len(near) <= 1


def test_a_time_is_a_mark_by_chance_as_rarely_as_is_said():
    dice = random.Random(7)
    found = sum(OURS.marked(dice.randrange(1_600_000_000_000_000, 1_900_000_000_000_000)) for _ in range(100_000))
    assert found < 10, "100,000 / 131,072 is about 1"


def test_another_journal_s_marks_are_none():
    dice = random.Random(8)
    others = [OTHER.below(dice.randrange(1_600_000_000_000_000, 1_900_000_000_000_000)) for _ in range(20_000)]
    assert sum(map(OURS.marked, others)) < 5
