"""Whatever joins sorted streams stops where a key does not rise; it never passes over what it should have met."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from account_merge.cursor import Ahead, Cursor, ascending, rising
from account_merge.engine.table_merge import reactivated
from account_merge.errors import NeedsAttention
from account_merge.model import HandedOn, Row
from account_merge.planning.handed_on import HandedOnByKey
from account_merge.planning.merge_join import TableFacts, plan
from account_merge.rules import rule_for

RULE = rule_for("user_content_consumption")
KEYS = st.lists(st.tuples(*[st.sampled_from("abc")] * 3), unique=True, max_size=8)


def lessons(keys, views=1):
    return [Row(key, {"viewcount": views}, {}, 1) for key in keys]


def in_order(*streams):
    return all(list(keys) == sorted(keys) for keys in streams)


@given(KEYS, KEYS)
def test_the_merge_join_pairs_every_row_or_stops(source, target):
    def joined():
        changes = [change for change, _ in plan(RULE, "t", {"s": lessons(source)}, lessons(target, 2), TableFacts())]
        return {change.key: change.after["viewcount"] for change in changes}

    if in_order(source, target):
        assert joined() == {key: 3 if key in target else 1 for key in source}
        return
    with pytest.raises(NeedsAttention, match="OUT_OF_ORDER") as stopped:
        joined()
    assert "user_content_consumption" in stopped.value.message


@given(KEYS)
def test_totals_of_the_log_that_are_out_of_order_stop_the_join(keys):
    totals = [(key, "s", HandedOn({"viewcount": 1})) for key in keys]
    if in_order(keys):
        assert len(
            list(plan(RULE, "t", {"s": lessons(keys, 2)}, (), TableFacts(HandedOnByKey(totals, "totals").at)))
        ) == len(keys)
        return
    with pytest.raises(NeedsAttention, match="OUT_OF_ORDER"):
        list(plan(RULE, "t", {"s": lessons(sorted(keys), 2)}, (), TableFacts(HandedOnByKey(totals, "totals").at)))


@given(KEYS)
def test_rows_that_were_set_inactive_are_met_or_it_stops(keys):
    found = reactivated(lessons(keys), (), {"active": False}, {}, lambda key: {})
    if in_order(keys):
        assert [row.key for row in found] == keys
        return
    with pytest.raises(NeedsAttention, match="OUT_OF_ORDER"):
        list(found)


def test_a_key_comes_once_among_rows_and_several_times_elsewhere():
    twice = [("a", 1), ("a", 2), ("b", 3)]
    assert list(ascending(twice, "pairs")) == twice
    with pytest.raises(NeedsAttention, match="rows of t"):
        list(rising(lessons([("a",), ("a",)]), "rows of t"))


@given(st.lists(st.integers(0, 5)))
def test_a_cursor_meets_every_key_or_stops(keys):
    def met():
        cursor = Cursor(((key, n) for n, key in enumerate(keys)), "numbers")
        return [value for key in range(6) for value in cursor.at(key)]

    if in_order(keys):
        assert met() == list(range(len(keys)))
        return
    with pytest.raises(NeedsAttention, match="OUT_OF_ORDER"):
        met()


def test_an_item_that_was_made_ready_is_handed_out_once_and_in_its_place():
    made = []
    ahead = Ahead(made.append(n) or n for n in range(4))
    ahead.look()
    ahead.look()
    assert made == [0]
    assert next(ahead) == 0
    assert next(ahead) == 1
    ahead.look()
    assert list(ahead) == [2, 3]
    ahead.look()
    assert list(ahead) == []


def test_an_error_is_raised_where_the_item_is_made():
    ahead = Ahead(1 // n for n in (1, 0))
    assert next(ahead) == 1
    with pytest.raises(ZeroDivisionError):
        ahead.look()
