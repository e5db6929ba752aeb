"""Cells of the log: every type that the platform uses comes back exactly, nulls stay absent, dropped columns are left out."""

from __future__ import annotations

import dataclasses
import uuid
from collections import namedtuple
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from cassandra.cqltypes import UserType, lookup_casstype
from cassandra.util import Date, OrderedMapSerializedKey, SortedSet
from hypothesis import given, settings
from hypothesis import strategies as st

from account_merge.choices import CHOICES
from account_merge.journal.encoding import Codec, payload, unpayload
from account_merge.model import Change, Write
from account_merge.sunbird.schema import Column, TableSchema
from account_merge.values import plain
from tests.values import moments

quick = settings(max_examples=40, deadline=None, database=None)
Question = namedtuple("Question", ("id", "assess_ts", "max_score", "resvalues", "duration"))
QUESTION = UserType.make_udt_class(
    "learning",
    "question",
    ("id", "assess_ts", "max_score", "resvalues", "duration"),
    tuple(
        lookup_casstype(name)
        for name in ("UTF8Type", "TimestampType", "DoubleType", "ListType(FrozenType(MapType(UTF8Type,UTF8Type)))",
                     "DecimalType")
    ),
)  # fmt: skip
QUESTIONS = lookup_casstype("ListType(UTF8Type)").apply_parameters((QUESTION,))

MOMENTS = moments(datetime(1970, 1, 2), datetime(2100, 1, 1), timedelta(milliseconds=1))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
INTS = st.integers(-(2**31), 2**31 - 1)
WORDS = st.dictionaries(st.text(), st.text(), min_size=1)
#: column -> kind, type, values; every type of the platform's official tables, and some more
TYPES: dict[str, tuple[str, Any, st.SearchStrategy[Any]]] = {
    "text": ("scalar", "UTF8Type", st.text()),
    "int": ("scalar", "Int32Type", INTS),
    "bigint": ("scalar", "LongType", st.integers(-(2**63), 2**63 - 1)),
    "boolean": ("scalar", "BooleanType", st.booleans()),
    "float": ("scalar", "FloatType", st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "double": ("scalar", "DoubleType", FINITE),
    "decimal": ("scalar", "DecimalType", st.decimals(allow_nan=False, allow_infinity=False, places=4)),
    "uuid": ("scalar", "UUIDType", st.uuids()),
    "timestamp": ("scalar", "TimestampType", MOMENTS),
    "date": ("scalar", "SimpleDateType", st.dates().map(Date)),
    "map_int": ("map", "MapType(UTF8Type, Int32Type)", st.dictionaries(st.text(), INTS, min_size=1)),
    "map_double": ("map", "MapType(UTF8Type, DoubleType)", st.dictionaries(st.text(), FINITE, min_size=1)),
    "map_timestamp": ("map", "MapType(UTF8Type, TimestampType)", st.dictionaries(st.text(), MOMENTS, min_size=1)),
    "set_text": ("set", "SetType(UTF8Type)", st.sets(st.text(), min_size=1)),
    "list_text": ("list", "ListType(UTF8Type)", st.lists(st.text(), min_size=1)),
    "list_map": ("list", "ListType(FrozenType(MapType(UTF8Type, UTF8Type)))", st.lists(WORDS, min_size=1)),
    "questions": (
        "list",
        QUESTIONS,
        st.lists(st.builds(Question, st.text(), MOMENTS, FINITE, st.lists(WORDS, max_size=2), st.just(Decimal("1.50"))),
                 min_size=1),
    ),
}  # fmt: skip


def column(name: str, kind: str, cql_type: Any) -> Column:
    return Column(name, name, kind, lookup_casstype(cql_type) if isinstance(cql_type, str) else cql_type)


SCHEMA = TableSchema(
    "learning",
    "everything",
    column("userid", "scalar", "UTF8Type"),
    {"courseid": column("courseid", "scalar", "UTF8Type"), "number": column("number", "scalar", "Int32Type")},
    {name: column(name, kind, cql_type) for name, (kind, cql_type, _) in TYPES.items()},
    ("userid",),
    ("courseid", "number"),
    frozenset(),
)
CODEC = Codec(SCHEMA)
ROWS = st.fixed_dictionaries({}, optional={name: values for name, (_, _, values) in TYPES.items()})
STAMPS = st.integers(0, 2**62)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    before = draw(st.none() | ROWS)
    writes = {name: Write(value, draw(STAMPS)) for name, value in draw(ROWS).items()}
    given_totals = draw(st.dictionaries(st.text(), st.dictionaries(st.text(), st.tuples(INTS, INTS))))
    return Change(
        (draw(st.text()), draw(INTS)),
        draw(st.dictionaries(st.text(), ROWS, max_size=2)),
        before,
        writes,
        before is None,
        {name: "because" for name in writes},
        given_totals,
        tuple(draw(st.lists(st.text(), max_size=2))),
        choice=draw(st.sampled_from(CHOICES)),
    )


@quick
@given(changes())
def test_a_change_comes_back_as_it_was(change: Change) -> None:
    assert CODEC.unchange(CODEC.change(change)) == change


@pytest.mark.parametrize("name", TYPES)
@quick
@given(data=st.data())
def test_each_type_comes_back_as_it_was(name: str, data: st.DataObject) -> None:
    value = data.draw(TYPES[name][2])
    change = Change(("c", 1), {"a": {name: value}}, {name: value}, {name: Write(value, 1)}, False, {}, {})
    back = CODEC.unchange(CODEC.change(change))
    for found in (back.sources["a"][name], (back.before or {})[name], back.writes[name].value):
        assert found == value
        assert name == "questions" or type(found) is type(value)


def test_a_row_that_is_absent_is_not_an_empty_row() -> None:
    for before in (None, {}):
        change = Change(("c", 1), {"a": {}}, before, {}, before is None, {}, {})
        assert CODEC.unchange(CODEC.change(change)).before == before


@quick
@given(st.text(), INTS)
def test_a_key_comes_back_as_it_was(course: str, number: int) -> None:
    assert CODEC.unkey(CODEC.key((course, number))) == (course, number)


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        CODEC.key(("c",))


def test_a_column_that_was_dropped_since_is_left_out() -> None:
    change = Change(("c", 1), {"a": {"int": 1, "text": "x"}}, {"int": 2}, {"int": Write(3, 9)}, False, {}, {})
    fewer = dataclasses.replace(SCHEMA, columns={"text": SCHEMA.columns["text"]})
    back = Codec(fewer).unchange(CODEC.change(change))
    assert (back.sources, back.before, back.writes) == ({"a": {"text": "x"}}, {}, {})


@quick
@given(st.lists(st.binary(max_size=50)))
def test_the_payload_of_an_entry_comes_back_in_order(parts: list[bytes]) -> None:
    assert unpayload(payload(parts)) == parts


def test_plain_turns_the_driver_s_containers_into_python_s() -> None:
    text = lookup_casstype("UTF8Type")
    ordered = OrderedMapSerializedKey(text, 5)
    ordered._insert("b", 2)
    ordered._insert("a", 1)
    for value, wanted in (
        (ordered, {"a": 1, "b": 2}),
        ([ordered], [{"a": 1, "b": 2}]),
        ({"k": [ordered]}, {"k": [{"a": 1, "b": 2}]}),
        (SortedSet(["b", "a"]), {"a", "b"}),
        (frozenset(["a"]), {"a"}),
    ):
        assert plain(value) == wanted
        assert type(plain(value)) is type(wanted)
    identity = uuid.UUID(int=1)
    assert plain(identity) is identity


def test_an_entry_without_the_bytes_is_not_decoded() -> None:
    body = payload([b"one L0001", b"two"])
    assert unpayload(body, b"L0001") == unpayload(body) == [b"one L0001", b"two"]
    assert unpayload(body, b"L0002") == []
