"""Cassandra's bytes <-> values, so that no value of a learner's table can raise in the driver or end a connection.

The driver decodes on its I/O thread, and a value that it cannot decode ends the connection of every request in flight.
A page that it fails on is decoded again here, cell by cell: a cell that cannot be read becomes an `Unreadable` with its bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from cassandra.cqltypes import (
    DateType,
    FrozenType,
    Int32Type,
    ListType,
    LongType,
    MapType,
    SetType,
    TimestampType,
    TupleType,
    UserType,
    UTF8Type,
)
from cassandra.protocol import ProtocolHandler, ResultMessage
from cassandra.query import BoundStatement, PreparedStatement

from account_merge.values import Unreadable, hashable, plain

PROTOCOL = 5  # of the serialisation only; the same for v3 and later for every type the platform uses
_LENGTH = _INT = struct.Struct(">i")
_LONG = struct.Struct(">q")
_EPOCH = datetime(1970, 1, 1)
_WORDS = {UTF8Type: "a text that is not UTF-8", DateType: "a time outside the years 1 to 9999"}
#: The greatest and least of the types that end; a sum of two values may lie beyond.
_ENDS: dict[str, tuple[float, float]] = {
    "tinyint": (-(2**7), 2**7 - 1),
    "smallint": (-(2**15), 2**15 - 1),
    "int": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
    "counter": (-(2**63), 2**63 - 1),
    "float": (-struct.unpack(">f", b"\x7f\x7f\xff\xff")[0], struct.unpack(">f", b"\x7f\x7f\xff\xff")[0]),
}


class Handler(ProtocolHandler):  # type: ignore[misc]
    """A session's decoder of answers (`Session.client_protocol_handler`): no cell makes a request fail."""

    class _Result(ProtocolHandler.message_types_by_opcode[ResultMessage.opcode]):  # type: ignore[misc]
        def recv_results_rows(self, f: Any, version: int, user_types: Any, metadata: Any, policy: Any) -> None:
            start = f.tell()
            try:
                super().recv_results_rows(f, version, user_types, metadata, policy)
            except Exception:  # noqa: BLE001 - whatever it is, it must not leave the I/O thread
                f.seek(start)
                self.recv_results_metadata(f, user_types)
                columns = self.column_metadata or metadata
                count = _LENGTH.unpack(f.read(4))[0]
                raw = [self.recv_row(f, len(columns)) for _ in range(count)]
                self.column_names = [column[2] for column in columns]
                self.column_types = [column[3] for column in columns]
                self.parsed_rows = [
                    tuple(read(cql_type, cell, version) for cql_type, cell in zip(self.column_types, row, strict=True))
                    for row in raw
                ]

    message_types_by_opcode = {**ProtocolHandler.message_types_by_opcode, ResultMessage.opcode: _Result}


def bind(statement: PreparedStatement, values: Sequence[Any]) -> BoundStatement:
    """Return a statement with its values; an unreadable value goes back as its bytes.

    :raises ValueError: a value is not of its column's type.
    """
    bound = BoundStatement(statement)
    specs = statement.column_metadata or ()
    bound.raw_values = values
    bound.values = [
        None if value is None else write(spec.type, value, statement.protocol_version)
        for value, spec in zip(values, specs, strict=True)
    ]
    return bound


def read(cql_type: Any, data: bytes | None, protocol: int = PROTOCOL) -> Any:
    """Return a value from its bytes, as the core holds it; never raises."""
    if data is None:
        return None
    try:
        return plain(cql_type.from_binary(data, protocol))
    except Exception:  # noqa: BLE001 - the driver raises what the value's own type raises
        try:
            return plain(_parted(cql_type, data))
        except Exception:  # noqa: BLE001 - bytes that are no such type at all
            return _unreadable(cql_type, data)


def _parted(cql_type: Any, data: bytes) -> Any:
    """Return a collection, tuple or user-defined type part by part."""
    cql_type = _thawed(cql_type)
    kinds = cql_type.subtypes
    if issubclass(cql_type, MapType):
        parts = _pieces(data[4:])
        return {_held(kinds[0], key): read(kinds[1], next(parts)) for key in parts}
    if issubclass(cql_type, ListType | SetType):
        items = (_held(kinds[0], piece) for piece in _pieces(data[4:]))
        return list(items) if issubclass(cql_type, ListType) else set(items)
    if issubclass(cql_type, TupleType):
        fields = [read(kind, piece) for kind, piece in zip(kinds, _pieces(data), strict=False)]
        fields += [None] * (len(kinds) - len(fields))
        named = issubclass(cql_type, UserType) and cql_type.tuple_type
        return named(*fields) if named else tuple(fields)
    return _unreadable(cql_type, data)


def _thawed(cql_type: Any) -> Any:
    """Return the type itself, where a type's text says that it is frozen."""
    return cql_type.subtypes[0] if issubclass(cql_type, FrozenType) else cql_type


def _held(cql_type: Any, data: bytes | None) -> Any:
    return hashable(read(cql_type, data))


def _pieces(data: bytes) -> Iterator[bytes | None]:
    at = 0
    while at < len(data):
        length = _LENGTH.unpack_from(data, at)[0]
        at += 4
        yield None if length < 0 else data[at : at + length]
        at += max(0, length)


def _unreadable(cql_type: Any, data: bytes) -> Unreadable:
    words = next((w for kind, w in _WORDS.items() if issubclass(cql_type, kind)), "")
    rank = 0 if issubclass(cql_type, UTF8Type) else -1 if data[:1] >= b"\x80" else 1
    return Unreadable(bytes(data), words or f"a {cql_type.typename} that Python cannot hold", rank)


def write(cql_type: Any, value: Any, protocol: int = PROTOCOL) -> bytes:
    """Return the bytes of a value.

    :raises ValueError: the type cannot hold it; the message tells no value.
    """
    usual = _USUAL.get(cql_type)
    if usual is not None and type(value) is usual[0] and (data := usual[1](value)) is not None:
        return data
    if isinstance(value, Unreadable):
        return value.data
    try:
        return bytes(cql_type.to_binary(value, protocol))
    except Exception as error:  # noqa: BLE001 - the driver raises what struct, the codec or the value raises
        return _joined(cql_type, value, protocol, error)


def _of_text(value: str) -> bytes | None:
    return value.encode() if value.isascii() else None


def _of_int(value: int) -> bytes | None:
    return _INT.pack(value) if -(2**31) <= value < 2**31 else None


def _of_long(value: int) -> bytes | None:
    return _LONG.pack(value) if -(2**63) <= value < 2**63 else None


def _of_time(value: datetime) -> bytes | None:
    if value.tzinfo is not None or value.microsecond % 1000:
        return None
    since = value - _EPOCH
    return _LONG.pack((since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000)


#: Type of a column -> type of a usual value, and the bytes of such a value as the driver makes them; None: the driver decides.
#: A merge writes each cell of a row up to four times (two images, the write, its statement), mostly of these.
_USUAL: Mapping[Any, tuple[type, Callable[[Any], bytes | None]]] = {
    UTF8Type: (str, _of_text),
    Int32Type: (int, _of_int),
    LongType: (int, _of_long),
    DateType: (datetime, _of_time),
    TimestampType: (datetime, _of_time),
}


def _joined(cql_type: Any, value: Any, protocol: int, error: Exception) -> bytes:
    cql_type = _thawed(cql_type)
    kinds = cql_type.subtypes
    if issubclass(cql_type, MapType) and hasattr(value, "items"):
        parts = (write(kinds[i], part, protocol) for pair in value.items() for i, part in enumerate(pair))
        return _LENGTH.pack(len(value)) + b"".join(map(_piece, parts))
    if issubclass(cql_type, ListType | SetType) and isinstance(value, Iterable) and not isinstance(value, str):
        items = [write(kinds[0], part, protocol) for part in value]
        return _LENGTH.pack(len(items)) + b"".join(map(_piece, items))
    if issubclass(cql_type, TupleType) and isinstance(value, tuple):
        fields = zip(kinds, value, strict=False)  # a type may have gained a field
        return b"".join(_piece(None if part is None else write(kind, part, protocol)) for kind, part in fields)
    raise ValueError(f"a {cql_type.typename} cannot hold it ({type(error).__name__})") from None


def _piece(data: bytes | None) -> bytes:
    return _LENGTH.pack(-1) if data is None else _LENGTH.pack(len(data)) + data


def holds_number(cql_type: Any, value: Any) -> bool:
    """Whether a value is a whole number that a column of a type with ends can hold."""
    least, most = _ENDS.get(cql_type.typename, (0, -1))
    return type(value) is int and least <= value <= most


def fitted(cql_type: Any, value: Any) -> Any:
    """Return the value, or the nearest that its type can hold; the same object where it fits."""
    cql_type = _thawed(cql_type)
    kinds = cql_type.subtypes
    if value is None or isinstance(value, Unreadable):
        return value
    if issubclass(cql_type, MapType):
        found = {fitted(kinds[0], k): fitted(kinds[1], v) for k, v in value.items()}
        return value if found == value else found
    if issubclass(cql_type, ListType | SetType):
        items = [fitted(kinds[0], part) for part in value]
        return value if items == list(value) else type(value)(items)
    least, most = _ENDS.get(cql_type.typename, (None, None))
    if least is None or most is None or not isinstance(value, int | float) or not math.isfinite(value):
        return value
    return value if least <= value <= most else type(value)(max(least, min(most, value)))


def refused(kind: str, value: Any) -> bool:
    """Whether Cassandra refuses a value: it reads each text of a collection, but takes a text or an element as it is.

    :param kind: that of the column; an element of a map that is not frozen is put by itself.
    """
    if kind == "map":
        parts = (part for pair in (value or {}).items() for part in pair)
        return any(_odd_text(part) for part in parts if not isinstance(part, Unreadable))
    return not isinstance(value, Unreadable) and _odd_text(value)


def _odd_text(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_odd_text, value)) or any(map(_odd_text, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_odd_text, value))
    return isinstance(value, Unreadable) and value.rank == 0
