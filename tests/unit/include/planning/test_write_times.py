"""A write time ahead of the clock binds its own cell or element: each value is put just above what stands in its own place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from account_merge.model import Change, Row, Write
from account_merge.planning import write_times
from account_merge.planning.lifetimes import end_of, lasting
from account_merge.planning.write_times import LAST, above, stuck

BASE = 1_795_000_000_000_000  # µs
quick = settings(max_examples=100, deadline=None, database=None)
#: From long before the clock to the last time that there is.
TIMES = st.sampled_from([1, BASE - 1, BASE, BASE + 10**6, BASE + 10**11, 2**62, LAST]) | st.integers(1, LAST)
MAPS = st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 9), TIMES), max_size=6)
ELEMENTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 9), max_size=6)


def row_of(one: int, two: int, held: Mapping[str, tuple[int, int]], other: Mapping[str, tuple[int, int]]) -> Row:
    maps = {name: found for name, found in (("map", held), ("other", other)) if found}
    elements = {name: {e: at for e, (_, at) in found.items()} for name, found in maps.items()}
    values: dict[str, Any] = {"one": 1, "two": 2}
    values |= {name: {e: v for e, (v, _) in found.items()} for name, found in maps.items()}
    written = {"one": one, "two": two} | {name: max(times.values()) for name, times in elements.items()}
    return Row(("k",), values, written, BASE, elements)


def each_by_itself(one: int, two: int, held: Any, other: Any, put: dict[str, int], gone: set[str]) -> None:
    """Each value's timestamp is the base, or one above what stands in its own place."""
    row = row_of(one, two, held, other)
    writes = {"one": Write(7, BASE), "map": Write(put, BASE, frozenset(gone - {*put})), "other": Write({"z": 1}, BASE)}
    change = above(Change(("k",), {}, row.values, writes, 0, {}, {}), row, BASE)
    assert change.writes["one"].timestamp == max(BASE, one + 1)
    for column in ("map", "other"):
        write = change.writes[column]
        for element in (*(write.value or ()), *write.remove):
            seen = row.elements.get(column, {}).get(element, 0)
            assert write.later.get(element, write.timestamp) == max(BASE, seen + 1), (column, element)
    late = {n.split(":")[0] for n in change.notes}
    assert ("one" in late) == (one > BASE + 5_000_000)
    touched = {e for e in (*put, *(gone - {*put})) if held.get(e, (0, 0))[1] > BASE + 5_000_000}
    assert len([n for n in late if n.startswith("map[")]) == min(3, len(touched))
    assert stuck(change) == sorted(
        ({"one"} if one == LAST else set())
        | ({"map"} if any(held.get(e, (0, 0))[1] == LAST for e in (*put, *gone)) else set())
    )


cases = given(TIMES, TIMES, MAPS, MAPS, ELEMENTS, st.sets(st.sampled_from("abcdefgh")))
test_each_value_is_put_above_what_stands_in_its_own_place = quick(cases(each_by_itself))


def one_time_of_the_map(column: str, write: Write, row: Row | None) -> Mapping[Any, int] | None:
    if not isinstance(write.value, Mapping) and not write.remove:
        return None
    newest = row.written.get(column, 0) if row else 0
    return dict.fromkeys((*write.remove, *(write.value or ())), newest)


def one_time_of_the_row(column: str, write: Write, row: Row | None) -> Mapping[Any, int] | None:
    if not isinstance(write.value, Mapping) and not write.remove:
        return None
    newest = max(row.written.values(), default=0) if row else 0
    return dict.fromkeys((*write.remove, *(write.value or ())), newest)


@pytest.mark.parametrize("fault", [one_time_of_the_map, one_time_of_the_row])
def test_a_time_that_is_spread_to_neighbours_is_found(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_times, "_seen", fault)
    with pytest.raises(AssertionError):
        settings(quick, max_examples=300, phases=[Phase.generate])(cases(each_by_itself))()


@quick
@given(TIMES, TIMES, MAPS, MAPS)
def test_the_deletion_of_a_row_is_never_ahead(one: int, two: int, held: Any, other: Any) -> None:
    """What lies ahead is deleted by itself, so that the row may come again at once."""
    row = row_of(one, two, held, other)
    change = above(Change(("k",), {}, row.values, {}, 0, {}, {}, delete_at=BASE), row, BASE)
    assert change.delete_at == BASE
    for column, at in (("one", one), ("two", two)):
        assert (column in change.writes) == (at >= BASE)
        assert at < BASE or change.writes[column] == Write(None, at + 1)
    for column in ("map", "other"):
        ahead = {e: at + 1 for e, at in row.elements.get(column, {}).items() if at >= BASE}
        assert (change.writes[column].later if column in change.writes else {}) == ahead
    assert change.after is None


ENDS = st.sampled_from([0, 1000, 5000, 9000])


@quick
@given(st.lists(st.tuples(st.none() | st.integers(0, 9), ENDS), min_size=1, max_size=4))
def test_what_stays_anywhere_stays_for_good(held: list[tuple[int | None, int]]) -> None:
    """A merged cell ends with the last side that has it, and never where one of them has it for good."""
    sides = [({"x": value}, {"x": end} if end else {}) for value, end in held]
    ends = [end for value, end in held if value is not None]
    assert end_of("x", sides) == (0 if 0 in ends or not ends else max(ends))


@quick
@given(ENDS, ENDS, st.integers(0, 2), st.integers(0, 2))
def test_an_end_is_written_where_it_is_too_early(mine: int, theirs: int, value: int, other: int) -> None:
    target = Row(("k",), {"x": value}, {"x": BASE - 5}, BASE, ends={"x": mine} if mine else {})
    source = Row(("k",), {"x": other}, ends={"x": theirs} if theirs else {})
    writes = {"x": Write(other, BASE)} if other > value else {}
    change = lasting(
        Change(("k",), {"a": source.values}, target.values, writes, 0, {}, {}), {"a": source}, target, BASE
    )
    right = 0 if 0 in (mine, theirs) else max(mine, theirs)
    if "x" in change.writes:
        assert change.writes["x"].expires == right
        assert change.writes["x"].value == max(value, other)
    else:
        assert right == mine
    assert (change.ends == {}) == (not mine and not theirs)


def test_an_element_that_python_cannot_show_is_put_and_noted() -> None:
    number, later = 10**5000, BASE + 3_600_000_000
    row = Row(("k",), {"x": {number: 1}}, {"x": later}, BASE, elements={"x": {number: later}})
    change = Change(("k",), {}, row.values, {"x": Write({number: 2}, BASE)}, 0, {}, {})
    found = above(change, row, BASE)
    assert found.writes["x"].later == {number: later + 1}
    assert "too long to show" in found.notes[0]
