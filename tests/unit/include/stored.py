"""Cells as Cassandra may hold them: for each CQL type its bytes, with every extreme, and those that no Python type holds."""

from __future__ import annotations

import struct
from typing import Any

from cassandra.cqltypes import UserType, lookup_casstype
from hypothesis import strategies as st

Cells = st.SearchStrategy[bytes]

_NUL, _SURROGATE = b"\xc0\x80", b"\xed\xa0\x80"  # as Java writes them: Cassandra's own check lets both pass


def _packed(form: str, *edges: float) -> Cells:
    size = struct.calcsize(form)
    return st.sampled_from([struct.pack(form, edge) for edge in edges]) | st.binary(min_size=size, max_size=size)


def _varint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)


TEXTS: Cells = st.text().map(str.encode) | st.sampled_from([b"", _NUL, b"a" + _SURROGATE, b"\xff", b"\x00"])
VARINTS: Cells = st.sampled_from([_varint(10**5000), _varint(-(2**70)), b"\x00", b"\x80"]) | st.integers().map(_varint)
DECIMALS: Cells = st.builds(
    lambda scale, number: struct.pack(">i", scale) + number, st.sampled_from([0, 2, -2, 2**31 - 1, -(2**31)]), VARINTS
)
DOUBLES = _packed(">d", float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.7976931348623157e308)
TIMES = _packed(
    ">q", 0, -1, 1646475330123, 1646475330123000, -(2**63), 2**63 - 1, 253402300799999, 253402300800000,
    -62135596800000, -62135596800001, 64092211200123,
)  # fmt: skip
INTS = _packed(">i", 0, -1, 2**31 - 1, -(2**31))

#: CQL type -> Cassandra's own name of it, its cells
SCALARS: dict[str, tuple[str, Cells]] = {
    "text": ("UTF8Type", TEXTS),
    "ascii": ("AsciiType", st.text(st.characters(max_codepoint=127)).map(str.encode) | st.just(b"\x80")),
    "int": ("Int32Type", INTS),
    "tinyint": ("ByteType", _packed(">b", 127, -128)),
    "smallint": ("ShortType", _packed(">h", 2**15 - 1, -(2**15))),
    "bigint": ("LongType", _packed(">q", 2**63 - 1, -(2**63))),
    "counter": ("CounterColumnType", _packed(">q", 2**63 - 1)),
    "varint": ("IntegerType", VARINTS),
    "decimal": ("DecimalType", DECIMALS),
    "float": ("FloatType", _packed(">f", float("nan"), float("inf"), float("-inf"), -0.0)),
    "double": ("DoubleType", DOUBLES),
    "boolean": ("BooleanType", st.sampled_from([b"\x00", b"\x01"])),
    "timestamp": ("TimestampType", TIMES),
    "date": ("SimpleDateType", _packed(">I", 0, 2**31, 2**32 - 1)),
    "time": ("TimeType", _packed(">q", 0, 86399999999999, -1, 2**63 - 1)),
    "duration": ("DurationType", st.sampled_from([b"\x00\x00\x00", b"\x02\x04\x06", b"\x01\x01\x01"])),
    "uuid": ("UUIDType", st.binary(min_size=16, max_size=16)),
    "timeuuid": ("TimeUUIDType", st.binary(min_size=16, max_size=16)),
    "inet": ("InetAddressType", st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)),
    "blob": ("BytesType", st.binary()),
}


def _joined(parts: list[bytes]) -> bytes:
    return b"".join(struct.pack(">i", len(part)) + part for part in parts)


def listed(cells: Cells) -> Cells:
    """A list of such cells."""
    return st.lists(cells, max_size=4).map(lambda items: struct.pack(">i", len(items)) + _joined(items))


def _mapped(keys: Cells, cells: Cells) -> Cells:
    pairs = st.lists(st.tuples(keys, cells), max_size=4, unique_by=lambda pair: pair[0])
    return pairs.map(lambda found: struct.pack(">i", len(found)) + _joined([part for pair in found for part in pair]))


def mapped(cells: Cells) -> Cells:
    """A map from texts, some of which cannot be read, to such cells."""
    return _mapped(TEXTS, cells)


UDT = UserType.make_udt_class(
    "learning", "visit", ("what", "at", "marks"),
    (lookup_casstype("UTF8Type"), lookup_casstype("TimestampType"), lookup_casstype("MapType(UTF8Type, DoubleType)")),
)  # fmt: skip
UDTS: Cells = st.tuples(TEXTS, TIMES, mapped(DOUBLES)).map(lambda parts: _joined(list(parts)))

#: name -> (its CQL type, its cells): scalars, and collections, tuples and user-defined types of them, nested too
TYPES: dict[str, tuple[Any, Cells]] = {
    name: (lookup_casstype(cassandra), cells) for name, (cassandra, cells) in SCALARS.items()
}
for _name, (_cassandra, _cells) in SCALARS.items():
    if _name != "counter":
        TYPES[f"list<{_name}>"] = lookup_casstype(f"ListType({_cassandra})"), listed(_cells)
        TYPES[f"map<text, {_name}>"] = lookup_casstype(f"MapType(UTF8Type, {_cassandra})"), mapped(_cells)
    if _name not in ("counter", "duration"):
        TYPES[f"map<{_name}, int>"] = lookup_casstype(f"MapType({_cassandra}, Int32Type)"), _mapped(_cells, INTS)
TYPES["map<text, frozen<map<text, timestamp>>>"] = (
    lookup_casstype("MapType(UTF8Type, FrozenType(MapType(UTF8Type, TimestampType)))"),
    mapped(mapped(TIMES)),
)
TYPES["map<frozen<list<double>>, text>"] = (
    lookup_casstype("MapType(FrozenType(ListType(DoubleType)), UTF8Type)"),
    _mapped(listed(DOUBLES), TEXTS),
)
TYPES["tuple<text, timestamp>"] = (
    lookup_casstype("TupleType(UTF8Type, TimestampType)"),
    st.tuples(TEXTS, TIMES).map(lambda parts: _joined(list(parts))),
)
TYPES["visit"] = UDT, UDTS
TYPES["list<visit>"] = lookup_casstype("ListType(UTF8Type)").apply_parameters((UDT,)), listed(UDTS)

del _name, _cassandra, _cells
