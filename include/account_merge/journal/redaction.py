"""Redacted log entries: what is kept of them, under keyed hashes, and how an entry is redacted.

Blanking an entry and writing what is kept of it is one conditional write, so no crash loses either, and who reads a log
while it expires finds each entry whole or blanked. Digest and sealed digest stay: order and number stay provable.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from account_merge.journal.cas import BUCKET, JournalSession
from account_merge.journal.encoding import payload, peek, unpayload
from account_merge.states import EntryKind

#: One thing that is kept: the hash of what it is about, and a small map.
Record = tuple[bytes, Mapping[str, Any]]


def given_hash(cas: JournalSession, table: str, account: str, key: bytes) -> bytes:
    """Return what one row of a source account handed on. :param key: as `Codec.key` has it."""
    return cas.hashed(b"given", table.encode(), account.encode(), key)


def before_hash(cas: JournalSession, table: str, account: str, key: bytes) -> bytes:
    """Return what one row of a source account showed before it was set inactive."""
    return cas.hashed(b"before", table.encode(), account.encode(), key)


def brought_hash(
    cas: JournalSession, table: str, where: tuple[str, Any], account: str, scope: Any, named: Any
) -> bytes:
    """Return that merges made a row of this account match `where`."""
    about = msgspec.msgpack.encode([*where, scope, named], enc_hook=str)
    return cas.hashed(b"brought", table.encode(), account.encode(), about)


class RedactedFacts:
    """What expired entries tell about rows whose account and key are known; whoever reads the logs fills it.

    Entries come in key order and are read ahead of the rows that they are about, so it is always filled in time.
    """

    def __init__(self, cas: JournalSession) -> None:
        self._cas = cas
        self._found: dict[bytes, bytes] = {}  # packed: an account of 100,000 rows takes about 20 MB

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, kept: bytes) -> None:
        """Take in what an entry kept; of totals that come twice the highest stands."""
        for name, packed in msgspec.msgpack.decode(payload_of(kept)):
            if name in self._found:
                before, after = msgspec.msgpack.decode(self._found[name]), msgspec.msgpack.decode(packed)
                packed = msgspec.msgpack.encode({c: max(v, before.get(c, v)) for c, v in (before | after).items()})
            self._found[name] = packed

    def _at(self, name: Callable[[], bytes]) -> dict[str, Any] | None:
        packed = self._found.get(name()) if self._found else None
        return None if packed is None else msgspec.msgpack.decode(packed)

    def given(self, table: str, account: str, key: bytes) -> Mapping[str, int]:
        """Column -> highest value that a source's row handed on."""
        return self._at(lambda: given_hash(self._cas, table, account, key)) or {}

    def before(self, table: str, account: str, key: bytes) -> Mapping[str, bytes]:
        """Column -> packed value of a source's row before it was set inactive; empty bytes are a null."""
        return self._at(lambda: before_hash(self._cas, table, account, key)) or {}

    def brought(self, table: str, where: tuple[str, Any], account: str, scope: Any, named: Any) -> bool:
        """Whether merges made the account's row match."""
        return self._at(lambda: brought_hash(self._cas, table, where, account, scope, named)) is not None


def payload_of(kept: bytes) -> bytes:
    """Return what is kept, not yet decoded."""
    return unpayload(kept)[0]


def pack(records: Iterable[Record]) -> bytes:
    """Return what an entry keeps: sorted by hash, so that the order of rows does not show either."""
    packed = sorted((name, msgspec.msgpack.encode(dict(values))) for name, values in records)
    return payload([msgspec.msgpack.encode(packed)])


def redact(cas: JournalSession, merge_id: uuid.UUID, log: str, keep: Callable[[bytes], Iterable[Record]]) -> int:
    """Blank the images, keys and notes of a whole log; may be repeated at any point. Answers how many entries did so.

    :param keep: what stays of one encoded change.
    """
    done = 0
    for row, body in _standing(_rows(cas, merge_id, log, "seq, kind, payload, kept, digest")):
        if row.payload is None and row.kept is not None:
            continue
        done += cas.write_if(
            "UPDATE {ks}.log SET kept = ?, payload = NULL, salt = NULL, last_key = NULL, note = NULL "
            "WHERE merge_id = ? AND table_name = ? AND bucket = ? AND seq = ? IF digest = ? AND kept = NULL",
            [
                pack(record for change in body for record in keep(change)),
                merge_id,
                log,
                row.seq // BUCKET,
                row.seq,
                row.digest,
            ],
        )
    return done


def _standing(rows: Iterable[Any]) -> Iterator[tuple[Any, list[bytes]]]:
    """Yield (row, its encoded changes as they count): those of a closing entry stand instead of those of the one before it."""
    held: list[tuple[Any, list[bytes]]] = []
    for row in rows:
        body = unpayload(row.payload) if row.payload and row.kind != EntryKind.SKIP else []
        if row.kind != EntryKind.CLOSED:
            yield from held
            held = [(row, body)]
            continue
        instead = {peek(change)[0]: change for change in body} if held else {}
        held = [(one, [instead.get(peek(c)[0], c) if instead else c for c in known]) for one, known in held]
        held.append((row, []))
    yield from held


def digest(cas: JournalSession, merge_id: uuid.UUID, log: str) -> bytes:
    """Return a digest of all that an expired log keeps; empty when there is no such log, or an entry still has its images."""
    chain = b""
    for row in _rows(cas, merge_id, log, "seq, payload, kept, digest"):
        if row.payload is not None or row.kept is None:
            return b""
        chain = hashlib.sha256(chain + (row.digest or b"") + row.kept).digest()
    return chain


def rename(cas: JournalSession, merge_id: uuid.UUID, log: str, new: str) -> None:
    """Move an expired log under another name: whole copies first, so that it is always to be found; may be repeated."""
    columns = ("kind", "base", "attempts", "writer", "counts", "kept", "sealed", "digest", "created_at")
    for row in _rows(cas, merge_id, log, "seq, " + ", ".join(columns)):
        cas.write_if(
            f"INSERT INTO {{ks}}.log (merge_id, table_name, bucket, seq, {', '.join(columns)}) "
            f"VALUES (?, ?, ?, ?{', ?' * len(columns)}) IF NOT EXISTS",
            [merge_id, new, row.seq // BUCKET, row.seq, *(getattr(row, column) for column in columns)],
        )
    for row in list(_rows(cas, merge_id, log, "seq")):
        cas.write_if(
            "DELETE FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ? AND seq = ? IF EXISTS",
            [merge_id, log, row.seq // BUCKET, row.seq],
        )


def _rows(cas: JournalSession, merge_id: uuid.UUID, log: str, columns: str) -> Iterator[Any]:
    bucket, going = 0, True
    while going:
        going = False
        for row in cas.stream(
            f"SELECT {columns} FROM {{ks}}.log WHERE merge_id = ? AND table_name = ? AND bucket = ?",
            [merge_id, log, bucket],
            serial=False,
            fetch_size=8,
        ):
            going = True
            yield row
        bucket += 1
