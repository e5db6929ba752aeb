"""Changes <-> bytes of a log entry: cells travel in Cassandra's own serialisation, so every type comes back exactly."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from account_merge.choices import COMBINE
from account_merge.connection import cells
from account_merge.errors import NeedsAttention
from account_merge.model import Change, ChangeHeader, Key, Values, Write
from account_merge.sunbird.schema import TableSchema
from account_merge.values import hashable, key_part, plain

#: Types whose values every column of theirs can hold, and no statement refuses.
_FIT = frozenset({str, bool, datetime, type(None)})
_TEXTS = frozenset({"text", "varchar", "ascii"})


class Codec:
    """Encodes and decodes the changes of one table."""

    def __init__(self, schema: TableSchema) -> None:
        self._schema = schema
        columns = (*schema.columns.values(), *schema.key.values(), schema.user)
        self._types = {column.logical: column.cql_type for column in columns}

    @property
    def texts(self) -> bool:
        """Whether each part of a key is a text: its bytes then stand in an encoded change as they are."""
        return all(self._schema.column(c).cql_type.typename in _TEXTS for c in self._schema.key)

    def _pack(self, column: str, value: Any) -> bytes:
        try:
            return cells.write(self._types[column], value)
        except ValueError as error:
            raise NeedsAttention(
                "CANNOT_STORE",
                f"table {self._schema.full_name}, column {column}: {error}",
                "Nothing of it was logged or written. Name the column to the developers; abandon the merge to free its accounts.",
            ) from error

    def _unpack(self, column: str, data: bytes) -> Any:
        return cells.read(self._schema.column(column).cql_type, data)

    def _row(self, values: Values | None) -> dict[str, bytes] | None:
        return None if values is None else {c: self._pack(c, v) for c, v in values.items()}

    def _values(self, packed: Mapping[str, bytes] | None) -> Values | None:
        # A column that was dropped since cannot be decoded any more: it is left out of the report.
        known = {*self._schema.columns, *self._schema.key}
        return None if packed is None else {c: self._unpack(c, v) for c, v in packed.items() if c in known}

    def _write(
        self, column: str, write: Write, rows: Mapping[str, Values], packed_rows: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        """Return a write as it is logged.

        :param rows: the sources' rows, and the same encoded: a value that moves as it is is encoded once.
        """
        value, data = write.value, None
        for account, values in rows.items():
            if value is not None and values.get(column) is value:
                data = packed_rows[account][column]
        packed = (
            self._pack(column, value) if data is None and value is not None else data,
            write.timestamp,
            self._pack_elements(column, write.remove) if write.remove else None,
        )
        if not write.later and not write.expires:
            return packed
        later = sorted(write.later, key=str)
        ahead = self._pack_elements(column, later) if later else None
        return *packed, ahead, [write.later[e] for e in later], write.expires

    def _unwrite(self, column: str, value: bytes | None, timestamp: int, removed: bytes | None, *more: Any) -> Write:
        ahead, times, expires = more or (None, (), 0)
        return Write(
            None if value is None else self._unpack(column, value),
            timestamp,
            frozenset(() if removed is None else self._unpack_elements(column, removed)),
            {} if ahead is None else dict(zip(self._unpack_elements(column, ahead), times, strict=True)),
            expires,
        )

    def _pack_elements(self, column: str, elements: Iterable[Any]) -> bytes:
        element = self._schema.column(column).cql_type.subtypes[0]
        return msgspec.msgpack.encode([cells.write(element, e) for e in sorted(elements, key=str)])

    def _unpack_elements(self, column: str, data: bytes) -> list[Any]:
        element = self._schema.column(column).cql_type.subtypes[0]
        return [hashable(cells.read(element, e)) for e in msgspec.msgpack.decode(data)]

    def fitted(self, change: Change) -> Change:
        """Return the change as the columns' types can hold it, with a note where a result lies beyond its type."""
        writes, notes = dict(change.writes), []
        for name, write in change.writes.items():
            column = self._schema.columns[name]
            if type(write.value) in _FIT or cells.holds_number(column.cql_type, write.value):
                continue
            value = cells.fitted(column.cql_type, write.value)
            if value is not write.value:
                writes[name] = write._replace(value=value)
                words = column.cql_type.cql_parameterized_type()
                notes.append(f"{name}: the result lies beyond what its type {words} can hold; the nearest value stands")
            if cells.refused(column.kind, value):
                del writes[name]
                notes.append(
                    f"{name}: Cassandra takes no collection with a text that is not UTF-8; it is left as it is"
                )
        return change._replace(writes=writes, notes=(*change.notes, *notes)) if notes else change

    def cell(self, column: str, data: bytes) -> Any:
        """Return a column's value from its bytes in a change."""
        return self._unpack(column, data)

    def key(self, key: Key) -> bytes:
        """Return a key as bytes; the reverse of `unkey`."""
        return msgspec.msgpack.encode([self._pack(c, v) for c, v in zip(self._schema.key, key, strict=True)])

    def unkey(self, data: bytes) -> Key:
        """Return a key from its bytes."""
        return tuple(
            key_part(self._unpack(c, v)) for c, v in zip(self._schema.key, msgspec.msgpack.decode(data), strict=True)
        )

    def head(self, data: bytes) -> ChangeHeader:
        """Return what of an encoded change tells whether it is looked for."""
        raw = msgspec.msgpack.decode(data)
        return ChangeHeader(self.unkey(raw["key"]), raw["delete"], raw["create"], raw["writes"], raw["notes"])

    def change(self, change: Change) -> bytes:
        """Return one change as bytes, not yet compressed."""
        sources = {a: self._row(v) for a, v in change.sources.items()}
        return msgspec.msgpack.encode(
            {
                "key": self.key(change.key),
                "sources": sources,
                "before": self._row(change.before),
                "writes": {c: self._write(c, w, change.sources, sources) for c, w in change.writes.items()},
                "create": change.create_at,
                "why": dict(change.why),
                "given": {a: dict(g) for a, g in change.given.items()},
                "notes": list(change.notes),
                "delete": change.delete_at,
                "unseen": sorted(change.unseen),
                **({"choice": change.choice} if change.choice != COMBINE else {}),
                **({"missing": sorted(change.missing)} if change.missing else {}),
                **({"ends": {a: dict(ends) for a, ends in change.ends.items()}} if change.ends else {}),
                **({"known": self._known(change)} if change.known else {}),
                **({"seeded": dict(change.seeded)} if change.seeded else {}),
            }
        )

    def unchange(self, data: bytes) -> Change:
        """Return one change from its bytes."""
        raw = msgspec.msgpack.decode(data)
        known = self._schema.columns
        sources = {a: self._values(v) or {} for a, v in raw["sources"].items()}
        images = raw.get("known", {}).items()
        return Change(
            self.unkey(raw["key"]),
            sources,
            self._values(raw["before"]),
            {c: self._unwrite(c, *packed) for c, packed in raw["writes"].items() if c in known},
            raw["create"],
            raw["why"],
            {a: {c: (before, after) for c, (before, after) in g.items()} for a, g in raw["given"].items()},
            tuple(raw["notes"]),
            raw["delete"],
            frozenset(raw["unseen"]),
            raw.get("choice", COMBINE),
            known={a: sources[a] if image is None else self._values(image) or {} for a, image in images},
            seeded=raw.get("seeded", {}),
            missing=frozenset(raw.get("missing", ())),
            ends=raw.get("ends", {}),
        )

    def _known(self, change: Change) -> dict[str, dict[str, bytes] | None]:
        """Return the known images; None stands for one that is the source's row as it is now, the usual case."""
        return {a: None if image == change.sources.get(a) else self._row(image) for a, image in change.known.items()}


def peek(data: bytes, before: bool = False) -> tuple[bytes, dict[str, dict[str, int]], dict[str, bytes]]:
    """Return, without the table's schema, an encoded change's key, the totals that each source handed on, and the packed row before.

    :param before: the totals before this change instead.
    """
    raw = msgspec.msgpack.decode(data)
    side = 0 if before else 1
    given = {account: {c: both[side] for c, both in totals.items()} for account, totals in raw["given"].items()}
    return raw["key"], given, raw["before"] or {}


def payload(changes: list[bytes]) -> bytes:
    """Return the payload of an entry from its encoded changes."""
    return zlib.compress(msgspec.msgpack.encode(changes), 1)


def unpayload(data: bytes, needle: bytes = b"") -> list[bytes]:
    """Return the encoded changes of an entry; none when nothing in them has these bytes."""
    whole = zlib.decompress(data)
    return list(msgspec.msgpack.decode(whole)) if needle in whole else []


__all__ = ["Codec", "payload", "peek", "plain", "unpayload"]
