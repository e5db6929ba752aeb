"""A change as CQL: one statement for each timestamp and end, elements by themselves, never a collection that is replaced."""

from __future__ import annotations

from typing import Any

import pytest
from cassandra.cqltypes import lookup_casstype

from account_merge.model import Change, Write
from account_merge.sunbird.schema import Column, TableSchema
from account_merge.sunbird.statements import Statement, statements
from account_merge.values import Unreadable

TEXT = lookup_casstype("UTF8Type")
KINDS = {"n": "scalar", "end": "scalar", "m": "map", "s": "set", "l": "list"}
SCHEMA = TableSchema(
    "k", "t", Column("userid", "userid", "scalar", TEXT), {"c": Column("c", "c", "scalar", TEXT)},
    {name: Column(name, name, kind, TEXT) for name, kind in KINDS.items()}, ("userid",), ("c",), frozenset(),
)  # fmt: skip
BAD = Unreadable(b"\xc0\x80", "")


def told(now: float = 1000.0, attempt: int = 0, **parts: Any) -> list[tuple[str, tuple[Any, ...]]]:
    change = Change(("x",), {}, None, parts.pop("writes", {}), parts.pop("create_at", 0), {}, {}, **parts)
    found: list[Statement] = list(statements(SCHEMA, "a", change, now, attempt))
    assert all(one.cql.count("?") == len(one.values) for one in found)
    assert all(one.idempotent == ('"l"' not in one.cql) for one in found)
    return [(one.cql.replace('"k"."t"', "t").replace('"', ""), one.values) for one in found]


def test_each_timestamp_and_each_end_has_a_statement_of_its_own() -> None:
    writes = {"n": Write(1, 5), "end": Write(2, 5, expires=1060), "l": Write(["a"], 5), "m": Write({"x": 1}, 5)}
    where = "WHERE userid = ? AND c = ?"
    assert told(writes=writes, attempt=3, create_at=4) == [
        ("INSERT INTO t (userid, c) VALUES (?, ?) USING TIMESTAMP ?", ("a", "x", 4)),
        (f"UPDATE t USING TIMESTAMP ? SET m = m + ?, n = ? {where}", (5, {"x": 1}, 1, "a", "x")),
        (f"UPDATE t USING TIMESTAMP ? AND TTL ? SET end = ? {where}", (5, 60, 2, "a", "x")),
        (f"UPDATE t USING TIMESTAMP ? SET l = ? {where}", (8, ["a"], "a", "x")),
    ]


def test_a_new_row_has_its_whole_values_in_the_statement_that_makes_it() -> None:
    writes = {"n": Write(1, 4), "end": Write(2, 5)}
    assert told(writes=writes, create_at=4) == [
        ("INSERT INTO t (userid, c, n) VALUES (?, ?, ?) USING TIMESTAMP ?", ("a", "x", 1, 4)),
        ("UPDATE t USING TIMESTAMP ? SET end = ? WHERE userid = ? AND c = ?", (5, 2, "a", "x")),
    ]


@pytest.mark.parametrize("write", [Write({"x": 1}, 4), Write({"x"}, 4), Write(["x"], 4)], ids="msl")
def test_a_collection_is_never_in_the_statement_that_makes_a_row(write: Write, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    insert, update = told(writes={"n": Write(1, 4), name: write}, create_at=4)
    assert insert == ("INSERT INTO t (userid, c) VALUES (?, ?) USING TIMESTAMP ?", ("a", "x", 4))
    assert f"{name} = " in update[0]
    assert "n = ?" in update[0]


def test_what_has_ended_is_deleted() -> None:
    ((cql, values),) = told(now=1060, writes={"end": Write(2, 5, expires=1060)})
    assert "TTL" not in cql
    assert values == (5, None, "a", "x")


def test_an_element_that_is_ahead_has_a_statement_of_its_own() -> None:
    write = Write({"x": 1, "y": 2}, 5, frozenset({"z"}), {"y": 9})
    assert [(cql.split("SET ")[1].split(" WHERE")[0], values[:-2]) for cql, values in told(writes={"m": write})] == [
        ("m = m - ?, m = m + ?", (5, {"z"}, {"x": 1})),
        ("m = m + ?", (9, {"y": 2})),
    ]


def test_an_element_that_cannot_be_read_is_put_by_itself() -> None:
    write = Write({BAD: 1, "y": BAD}, 5, frozenset({"z"}))
    ((cql, values),) = told(writes={"m": write})
    assert "m = m - ?, m[?] = ?, m[?] = ?" in cql
    assert values[1:-2] == ({"z"}, BAD, 1, "y", BAD)


def test_a_row_is_deleted_before_what_lies_ahead_in_it() -> None:
    found = told(delete_at=7, writes={"n": Write(None, 9), "s": Write(None, 7, frozenset({"e"}), {"e": 8})})
    assert [(cql.split(" ")[0], values[0]) for cql, values in found] == [("DELETE", 7), ("UPDATE", 8), ("UPDATE", 9)]
