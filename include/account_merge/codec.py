"""Changes <-> bytes of a log entry: cells travel in Cassandra's own serialisation, so every type comes back exactly."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from account_merge.choices import COMBINE
from account_merge.model import Change, Head, Key, Values, Write
from account_merge.schema import TableSchema

_TEXTS = frozenset({"text", "varchar", "ascii"})
_PROTOCOL = 5  # of the serialisation only; the same for v3 and later for every type the platform uses


def plain(value: Any) -> Any:
    """The driver's containers as Python's own: dict, list, set; everything else as it is."""
    if isinstance(value, Mapping) or hasattr(value, "iteritems") or type(value).__name__.startswith("OrderedMap"):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, set | frozenset) or type(value).__name__ in ("SortedSet", "sortedset"):
        return set(value)
    return value


class Codec:
    """Encodes and decodes the changes of one table."""

    def __init__(self, schema: TableSchema) -> None:
        self._schema = schema

    @property
    def texts(self) -> bool:
        """Whether each part of a key is a text: its bytes then stand in an encoded change as they are."""
        return all(self._schema.column(c).cql_type.typename in _TEXTS for c in self._schema.key)

    def _pack(self, column: str, value: Any) -> bytes:
        return bytes(self._schema.column(column).cql_type.to_binary(value, _PROTOCOL))

    def _unpack(self, column: str, data: bytes) -> Any:
        return plain(self._schema.column(column).cql_type.from_binary(data, _PROTOCOL))

    def _row(self, values: Values | None) -> dict[str, bytes] | None:
        return None if values is None else {c: self._pack(c, v) for c, v in values.items()}

    def _values(self, packed: Mapping[str, bytes] | None) -> Values | None:
        # A column that was dropped since cannot be decoded any more: it is left out of the report.
        known = {*self._schema.columns, *self._schema.key}
        return None if packed is None else {c: self._unpack(c, v) for c, v in packed.items() if c in known}

    def _write(self, column: str, write: Write) -> tuple[bytes | None, int, bytes | None]:
        return (
            None if write.value is None else self._pack(column, write.value),
            write.timestamp,
            self._pack_elements(column, write.remove) if write.remove else None,
        )

    def _unwrite(self, column: str, value: bytes | None, timestamp: int, removed: bytes | None) -> Write:
        return Write(
            None if value is None else self._unpack(column, value),
            timestamp,
            frozenset(() if removed is None else self._unpack_elements(column, removed)),
        )

    def _pack_elements(self, column: str, elements: Iterable[Any]) -> bytes:
        element = self._schema.column(column).cql_type.subtypes[0]
        return msgspec.msgpack.encode([bytes(element.to_binary(e, _PROTOCOL)) for e in sorted(elements, key=str)])

    def _unpack_elements(self, column: str, data: bytes) -> list[Any]:
        element = self._schema.column(column).cql_type.subtypes[0]
        return [element.from_binary(e, _PROTOCOL) for e in msgspec.msgpack.decode(data)]

    def cell(self, column: str, data: bytes) -> Any:
        """A column's value from its bytes in a change."""
        return self._unpack(column, data)

    def key(self, key: Key) -> bytes:
        """A key as bytes; the reverse of `unkey`."""
        return msgspec.msgpack.encode([self._pack(c, v) for c, v in zip(self._schema.key, key, strict=True)])

    def unkey(self, data: bytes) -> Key:
        """A key from its bytes."""
        return tuple(self._unpack(c, v) for c, v in zip(self._schema.key, msgspec.msgpack.decode(data), strict=True))

    def head(self, data: bytes) -> Head:
        """What of an encoded change tells whether it is looked for."""
        raw = msgspec.msgpack.decode(data)
        return Head(self.unkey(raw["key"]), raw["delete"], raw["create"], raw["writes"], raw["notes"])

    def change(self, change: Change) -> bytes:
        """One change as bytes, not yet compressed."""
        return msgspec.msgpack.encode(
            {
                "key": self.key(change.key),
                "sources": {a: self._row(v) for a, v in change.sources.items()},
                "before": self._row(change.before),
                "writes": {c: self._write(c, w) for c, w in change.writes.items()},
                "create": change.create,
                "why": dict(change.why),
                "given": {a: dict(g) for a, g in change.given.items()},
                "notes": list(change.notes),
                "delete": change.delete,
                "unseen": sorted(change.unseen),
                **({"choice": change.choice} if change.choice != COMBINE else {}),
                **({"missing": sorted(change.missing)} if change.missing else {}),
            }
        )

    def unchange(self, data: bytes) -> Change:
        """One change from its bytes."""
        raw = msgspec.msgpack.decode(data)
        known = self._schema.columns
        return Change(
            self.unkey(raw["key"]),
            {a: self._values(v) or {} for a, v in raw["sources"].items()},
            self._values(raw["before"]),
            {c: self._unwrite(c, *packed) for c, packed in raw["writes"].items() if c in known},
            raw["create"],
            raw["why"],
            {a: {c: (before, after) for c, (before, after) in g.items()} for a, g in raw["given"].items()},
            tuple(raw["notes"]),
            raw["delete"],
            frozenset(raw["unseen"]),
            raw.get("choice", COMBINE),
            missing=frozenset(raw.get("missing", ())),
        )


def peek(data: bytes) -> tuple[bytes, dict[str, dict[str, int]], dict[str, bytes]]:
    """Of an encoded change, without the table's schema: its key, what each source handed on, the packed row before."""
    raw = msgspec.msgpack.decode(data)
    given = {account: {c: after for c, (_, after) in totals.items()} for account, totals in raw["given"].items()}
    return raw["key"], given, raw["before"] or {}


def payload(changes: list[bytes]) -> bytes:
    """The payload of an entry from its encoded changes."""
    return zlib.compress(msgspec.msgpack.encode(changes), 1)


def unpayload(data: bytes, needle: bytes = b"") -> list[bytes]:
    """The encoded changes of an entry; none when nothing in them has these bytes."""
    whole = zlib.decompress(data)
    return list(msgspec.msgpack.decode(whole)) if needle in whole else []
