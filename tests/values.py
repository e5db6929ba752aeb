"""Values of every CQL type as the core may meet them, each extreme among them: what rules and cells are tested with."""

from __future__ import annotations

import json
import re
import uuid
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from ipaddress import ip_address
from typing import Any

from hypothesis import strategies as st

from account_merge.values import NAN, Unreadable

#: What the platform itself writes, and what it cannot have written.
TIMES = [
    datetime(2022, 3, 1, 10, 15, 30), datetime(2022, 3, 5), datetime(2024, 5, 1, 0, 0, 0, 1000),
    datetime(1, 1, 1), datetime(1970, 1, 1), datetime(1970, 1, 20, 13, 58, 40), datetime(2014, 12, 31, 23, 59, 59),
    datetime(2200, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999000),
]  # fmt: skip
#: Times as texts: the platform's forms, ISO, numbers of each unit, and what is none.
TIME_TEXTS = [
    "2022-03-01 10:15:30:123+0530", "2022-03-01 10:15:30:123+0000", "2022-03-05T10:15:30.123Z", "2022-03-05",
    "Mar 5, 2022, 10:15:30 AM", "Mar 5, 2022, 10:15:30\u202fPM", "1646475330", "1646475330000", "1646475330000000",
    "1", "-1", "20220305", "9" * 19, "9" * 5000, "1e999", "NaN", "soon", "", " ", "0001-01-01 00:00:00:000+0530",
    "9999-12-31 23:59:59:999-0800", "2022-02-30", "\u0661\u0662", "\u00b2", "--5", "null",
]  # fmt: skip
TEXTS = [*TIME_TEXTS, "a", "b", "A", "a\u0301", "\0", "\u200b", "\U0010ffff", "active", "inactive", "admin", "member"]
NUMBERS = [0, 1, -1, 2, 100, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 1.0, 2.0, 99.5, -1.0, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf")]


def moments(first: datetime, last: datetime, step: timedelta = timedelta(seconds=1)) -> st.SearchStrategy[datetime]:
    """Moments from the first to the last, whole steps apart: each is one choice, while `st.datetimes` makes seven."""
    return st.integers(0, (last - first) // step).map(lambda number: first + number * step)


#: Cells that cannot be read, and a number that is none.
UNUSABLE = st.sampled_from([Unreadable(b"\xc3", "a text that is not UTF-8"), Unreadable(b"\x7f" * 8, "a time", 1)])


def _details(attempt: Any, content: Any, last: Any) -> str:
    return json.dumps({"attempt_id": attempt, "content_id": content, "last_attempted_on": last, "score": 1})


#: Details of an attempt as the platform has them, JSON of another shape, and what is not JSON.
DETAILS = st.builds(
    _details,
    st.sampled_from(["a1", "a2", "", None, 0, 7, ["a1"], {"a": 1}, True]),
    st.sampled_from(["x", "y", None, 1.5]),
    st.sampled_from([*TIME_TEXTS, None, 1646475330, 1646475330000, 1646475330000000, -5, 1.7e12, 10**30, [], {}]),
) | st.sampled_from(
    ["", "null", "[]", "17", '"text"', "{", "[" * 100_000, '{"attempt_id": "a1"}', '{"attempt_id": NaN}', "{}",
     '{"last_attempted_on": 1e999, "attempt_id": "a1"}', '{"attempt_id": "a1", "attempt_id": "a2"}',
     '{"attempt_id": ' + "9" * 5000 + "}", '{"attempt_id": "\\ud800"}']
)  # fmt: skip
CERTIFICATES = st.dictionaries(
    st.sampled_from(["identifier", "token", "name", "lastIssuedOn", "type", ""]),
    st.none() | st.sampled_from(["1", "2", "", *TIME_TEXTS]),
    max_size=4,
)
MAP_KEYS = st.sampled_from(
    [
        "completedCount",
        "score:q",
        "max_score:q",
        "attempts_count:q",
        "score:",
        "max_score:",
        "score:r",
        "*",
        "",
        "[",
        "x",
    ]
)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "text": st.sampled_from(TEXTS) | st.text(max_size=5),
    "ascii": st.sampled_from([text for text in TEXTS if text.isascii()]),
    "boolean": st.booleans(),
    "tinyint": st.integers(-(2**7), 2**7 - 1),
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "int": st.sampled_from([n for n in NUMBERS if abs(n) <= 2**31]) | st.integers(0, 100),
    "bigint": st.sampled_from(NUMBERS) | st.integers(0, 100),
    "varint": st.sampled_from([*NUMBERS, 10**400, -(10**400)]),
    "float": st.sampled_from([*(f for f in FLOATS if abs(f) < 1e30 or f * 0 != 0), NAN]),
    "double": st.sampled_from([*FLOATS, NAN]),
    "decimal": st.sampled_from([Decimal(0), Decimal("1.10"), Decimal("-1E+400"), Decimal("1E-400")]),
    "timestamp": st.sampled_from(TIMES) | moments(datetime(2020, 1, 1), datetime(2024, 1, 1)),
    "date": st.sampled_from([date(2022, 3, 1), date(2022, 3, 5), date(1970, 1, 1), date.min, date.max]),
    "time": st.sampled_from([timedelta(0), timedelta(hours=23)]),
    "uuid": st.sampled_from([uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)]),
    "inet": st.sampled_from([ip_address("10.0.0.1"), ip_address("::1")]),
    "blob": st.binary(max_size=3),
    "question": st.tuples(st.none() | st.sampled_from(["q1", "q2"]), st.none() | st.sampled_from([1.0, NAN])),
}  # fmt: skip
#: Collections that rules look into: what their elements are.
ELEMENTS = {"list<text>": DETAILS, "frozen<map<text, text>>": CERTIFICATES}


@cache  # to make one takes longer than to draw from it
def of_type(cql_type: str, unusable: bool = True) -> st.SearchStrategy[Any]:
    """Values of a column of this type, as `system_schema` or a DDL writes it; never null.

    :param unusable: cells that cannot be decoded too, and nulls inside a collection.
    """
    odd = UNUSABLE if unusable else st.nothing()
    if cql_type in ELEMENTS and cql_type.startswith("frozen"):
        return ELEMENTS[cql_type] | odd
    kind, inner = re.fullmatch(r"(\w+)(?:<(.*)>)?", cql_type).groups()  # type: ignore[union-attr]
    if inner is None:
        return SCALARS["text" if kind == "varchar" else kind] | odd
    if kind == "frozen":
        return of_type(inner, unusable)
    if kind == "map":
        value = of_type(inner.split(",", 1)[1].strip(), unusable)
        return st.dictionaries(MAP_KEYS, value | (st.none() if unusable else st.nothing()), max_size=4)
    element = ELEMENTS.get(cql_type, of_type(inner, unusable)) | (st.none() if unusable else st.nothing())
    return st.sets(of_type(inner, False), max_size=4) if kind == "set" else st.lists(element, max_size=4)


def canonical(value: Any) -> Any:
    """A value in a form that can be compared: an empty collection is a null, and so is a null in a map."""
    if isinstance(value, dict):
        return {key: made for key, held in value.items() if (made := canonical(held)) is not None} or None
    if isinstance(value, list | tuple):
        return [canonical(held) for held in value] or None
    return None if isinstance(value, set) and not value else value


def canonical_row(row: dict[str, Any] | None) -> dict[str, Any]:
    """A row in that form, without its nulls."""
    return {column: made for column, value in (row or {}).items() if (made := canonical(value)) is not None}
