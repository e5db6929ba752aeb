"""A text of the platform's own form is read the fast way, and means what the forms say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from account_merge.rules import moments
from account_merge.rules.moments import AHEAD, FIRST, believable, believed, cannot_be, instant

#: Nearly the platform's form: every part may be one that a calendar or a clock lacks, and of another length.
PARTS = [
    st.sampled_from(["2022", "0001", "9999", "0000", "22"]), st.sampled_from(["-"]), st.sampled_from(["01", "12", "13", "00", "2"]),
    st.sampled_from(["-", "/"]), st.sampled_from(["01", "28", "29", "31", "32", "5"]), st.sampled_from([" ", "T", "  "]),
    st.sampled_from(["00", "23", "24", "7"]), st.just(":"), st.sampled_from(["00", "59", "60"]), st.just(":"),
    st.sampled_from(["00", "59", "60", "61", "9"]), st.sampled_from([":", ".", ",", ""]), st.sampled_from(["000", "001", "999", "12", ""]),
    st.sampled_from(["+0530", "-0000", "+2359", "-2400", "+05:30", "Z", "", "+9959"]),
]  # fmt: skip


@given(st.tuples(*PARTS).map("".join))
@example("2022-03-04 05:06:07:123+0530")
@example("2022-03-04 05:06:07.123-1200")
@example("0001-01-01 00:00:00:000+0530")
def test_the_fast_way_reads_what_the_forms_read(text):
    slow = moments._in_a_form.__wrapped__(text.strip().replace("\u202f", " "), "Asia/Kolkata")
    assert instant(text) == slow


def test_the_platforms_own_form_is_read_the_fast_way(monkeypatch):
    monkeypatch.setattr(moments, "_in_a_form", None)
    assert instant("2022-03-04 05:06:07:123+0530") == datetime(2022, 3, 3, 23, 36, 7, 123000)


@pytest.mark.parametrize(
    ("moment", "can_be"),
    [
        (FIRST, True),
        (FIRST - timedelta(milliseconds=1), False),
        (datetime.now(UTC).replace(tzinfo=None) + AHEAD - timedelta(days=1), True),
        (datetime.now(UTC).replace(tzinfo=None) + AHEAD + timedelta(days=1), False),
    ],
)
def test_a_moment_that_can_be_is_believed(moment, can_be):
    assert believable(moment) is can_be
    here = moment.replace(tzinfo=UTC)
    for value in (moment, here, here.astimezone(timezone(timedelta(hours=5)))):
        assert (believed(value) == moment) is can_be
        assert cannot_be(value) is not can_be


@pytest.mark.parametrize("value", [None, "", "no time", True, [], "99999999999999999999999999"])
def test_what_names_no_moment_is_neither_believed_nor_doubted(value):
    assert believed(value) is None
    assert not cannot_be(value)
