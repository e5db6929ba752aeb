"""Every cell that Cassandra may hold is read without an error, equals itself, and goes back as the bytes that it was."""

from __future__ import annotations

import json
import math
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from cassandra.cqltypes import lookup_casstype
from hypothesis import given, settings
from hypothesis import strategies as st

from account_merge.connection.cells import fitted, read, write
from account_merge.errors import NeedsAttention
from account_merge.journal.encoding import Codec
from account_merge.model import Change, Row, Write, applied
from account_merge.planning.combining import Facts
from account_merge.planning.merge_join import UNREADABLE_KEY, plan_row
from account_merge.reports.report import row_of
from account_merge.rules import rule_for
from account_merge.sunbird.detection import kind_of
from account_merge.sunbird.schema import Column, TableSchema
from account_merge.values import NAN, Unreadable, faults, hashable, rejoined, sound, usable
from tests.unit.include.stored import SCALARS, TYPES

quick = settings(max_examples=12, deadline=None, database=None)


def schema_of(name: str) -> TableSchema:
    def column(name: str, kind: str, cql_type: Any) -> Column:
        return Column(name, name, kind, cql_type)

    text = lookup_casstype("UTF8Type")
    return TableSchema(
        "learning", "everything", column("userid", "scalar", text), {"contentid": column("contentid", "scalar", text)},
        {"x": column("x", kind_of(name), TYPES[name][0])}, ("userid",), ("contentid",), frozenset(),
    )  # fmt: skip


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


@pytest.mark.parametrize("name", TYPES)
@quick
@given(data=st.data())
def test_a_cell_goes_back_as_it_was(name: str, data: st.DataObject) -> None:
    cql_type, cells = TYPES[name]
    raw = data.draw(cells)
    value = read(cql_type, raw)
    again = read(cql_type, raw)
    assert value == again
    assert "duration" in name or hash(hashable(value)) == hash(hashable(again))  # Cassandra has it in no key
    if value is not None and name not in ("varint", "decimal") and "varint" not in name and "decimal" not in name:
        back = write(cql_type, value)
        assert read(cql_type, back) == value
        # NaN has many forms: all of them are one.
        assert back == raw or "float" in name or "double" in name or "visit" in name or "boolean" in name


@pytest.mark.parametrize("name", TYPES)
@quick
@given(raw=st.binary(max_size=40))
def test_no_bytes_raise(name: str, raw: bytes) -> None:
    cql_type, _ = TYPES[name]
    value = read(cql_type, raw)
    assert value == read(cql_type, raw)
    if isinstance(value, Unreadable):
        assert write(cql_type, value) == raw
        assert len(raw) < 4 or raw.hex() not in value.why  # fewer may be letters of a word


@pytest.mark.parametrize("name", TYPES)
@quick
@given(data=st.data())
def test_a_change_of_any_cells_is_planned_logged_and_shown(name: str, data: st.DataObject) -> None:
    """decode -> plan -> encode -> decode: the target has, at the end, what could be used and what was there."""
    cql_type, cells = TYPES[name]
    mine, other = (read(cql_type, data.draw(cells)) for _ in range(2))
    target, source = ({} if v in (None, [], {}, set()) else {"x": v} for v in (mine, other))
    rule, codec = rule_for("user_content_consumption"), Codec(schema_of(name))

    key = (read(TYPES["text"][0], data.draw(SCALARS["text"][1])),)
    change = plan_row(rule, key, {"a": source}, Row(key, target, {}, 5), "b", 5, Facts())
    back = codec.unchange(codec.change(change))
    assert (back.key, back.sources, back.before, back.writes) == (
        change.key, change.sources, change.before, change.writes,
    )  # fmt: skip
    if not sound(key):
        assert (change.writes, change.create_at, change.notes) == ({}, 0, (UNREADABLE_KEY,))
        return
    after = (back.after or {}).get("x")
    best = [v for v in (usable(target.get("x")), usable(source.get("x"))) if v not in (None, {}, [], set())]
    if best:
        assert usable(after) == best[0]
    if target and not sound(mine):
        assert any("the target" in note for note in change.notes)
    if usable(mine) is None and usable(other) is None:
        assert after == target.get("x")
    text = json.dumps(row_of(back, schema_of(name)), allow_nan=False)
    json.loads(text, parse_constant=refuse)


def test_what_cannot_be_used_is_kept_beside_what_can() -> None:
    bad = Unreadable(b"\xff", "a text that is not UTF-8")
    assert usable({"a": 1.0, "b": NAN}) == {"a": 1.0}
    assert rejoined({"a": 2.0, "c": 1.0}, {"a": 1.0, "b": NAN}) == {"a": 2.0, "b": NAN, "c": 1.0}
    assert rejoined({"b": 7.0}, {"b": NAN}) == {"b": 7.0}
    assert rejoined(["x", "y"], [bad, "x"]) == ["x", "y", bad]
    assert rejoined(["x"], [bad, "x"]) == [bad, "x"]
    assert rejoined(None, NAN) is NAN
    assert rejoined(4.0, NAN) == 4.0
    assert [part for part, _ in faults({"m": {"a": NAN, "b": 1.0}, "t": bad, "n": 1})] == ["m['a']", "t"]


def test_nan_is_equal_to_itself_and_behind_every_number() -> None:
    nan = float("nan")
    assert nan == NAN
    assert NAN not in (1.0, math.inf, None)
    assert max(NAN, math.inf) is NAN
    assert sorted([NAN, 1.0, -math.inf]) == [-math.inf, 1.0, NAN]
    assert applied({"a": NAN}, Write({"b": 1.0}, 1)) == {"a": nan, "b": 1.0}


@pytest.mark.parametrize(("small", "great"), [(b"", b"a"), (b"\xc0\x80", b"\xc0\x81"), (b"a", b"\xc0\x80")])
def test_texts_that_cannot_be_read_sort_as_cassandra_sorts_them(small: bytes, great: bytes) -> None:
    one, two = (read(TYPES["text"][0], raw) for raw in (small, great))
    assert one < two
    assert not two < one
    assert sorted([two, one]) == [one, two]
    assert read(TYPES["timestamp"][0], struct.pack(">q", -(2**63))) < read(TYPES["timestamp"][0], bytes(8))


@pytest.mark.parametrize(("name", "value", "fits"), [
    ("int", 2**31, 2**31 - 1), ("int", -(2**40), -(2**31)), ("tinyint", 130, 127), ("smallint", 40_000, 2**15 - 1),
    ("bigint", 2**63, 2**63 - 1), ("float", 1e39, 3.4028234663852886e38), ("float", math.inf, math.inf),
    ("varint", 2**80, 2**80), ("map<text, int>", {"a": 2**31, "b": 1}, {"a": 2**31 - 1, "b": 1}),
    ("list<int>", [2**31, 1], [2**31 - 1, 1]), ("text", "x", "x"), ("int", None, None),
])  # fmt: skip
def test_a_result_is_brought_within_its_type(name: str, value: Any, fits: Any) -> None:
    cql_type = TYPES[name][0]
    found = fitted(cql_type, value)
    assert found == fits
    assert value is None or write(cql_type, found) is not None
    assert (found is value) == (found == value)


def test_what_a_type_cannot_hold_is_no_entry() -> None:
    with pytest.raises(ValueError, match="a int cannot hold it"):
        write(TYPES["int"][0], 2**31)
    change = Change(("c",), {}, None, {"x": Write(2**31, 1)}, 1, {}, {})
    with pytest.raises(NeedsAttention, match="CANNOT_STORE"):
        Codec(schema_of("int")).change(change)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("UTF8Type", text) for text in ("", "a lesson", "über", "\u0939\u093f", "a\x00b")),
        *(("Int32Type", number) for number in (0, -1, 2**31 - 1, -(2**31))),
        *(("LongType", number) for number in (0, -1, 2**63 - 1, -(2**63))),
        *(
            (kind, moment)
            for kind in ("DateType", "TimestampType")
            for moment in (
                datetime(1, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999000), datetime(1970, 1, 1), datetime(2022, 3, 4, 5, 6, 7, 8000),
                datetime(2022, 3, 4, 5, 6, 7, 8), datetime(9999, 12, 31, 23, 59, 59, 999000), datetime(2022, 3, 4, tzinfo=UTC),
            )
        ),
        ("Int32Type", True),
    ],
)  # fmt: skip
def test_the_usual_values_have_the_drivers_own_bytes(name: str, value: Any) -> None:
    cql_type = lookup_casstype(name)
    assert write(cql_type, value) == cql_type.to_binary(value, 5)


@pytest.mark.parametrize(("name", "value"), [("Int32Type", 2**31), ("LongType", -(2**63) - 1), ("UTF8Type", "\ud800")])
def test_a_usual_value_that_its_type_cannot_hold_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="cannot hold it"):
        write(lookup_casstype(name), value)
