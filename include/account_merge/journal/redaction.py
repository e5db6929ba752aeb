"""Redacted log entries: what is kept of them, under keyed hashes, and how an entry is redacted.

Blanking an entry and writing what is kept of it is one statement, so no crash loses either, and who reads a log
while it expires finds each entry whole or blanked. Digest and sealed digest stay: order and number stay provable.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, select, update

from account_merge.journal.database import Database
from account_merge.journal.encoding import payload, peek, unpayload
from account_merge.journal.identity import Identity
from account_merge.journal.schema import log as entries
from account_merge.states import EntryKind

_PAGE = 8  # entries read at once
#: One thing that is kept: the hash of what it is about, and a small map.
Record = tuple[bytes, Mapping[str, Any]]


def given_hash(journal: Identity, table: str, account: str, key: bytes) -> bytes:
    """Return what one row of a source account handed on. :param key: as `Codec.key` has it."""
    return journal.hashed(b"given", table.encode(), account.encode(), key)


def before_hash(journal: Identity, table: str, account: str, key: bytes) -> bytes:
    """Return what one row of a source account showed before it was set inactive."""
    return journal.hashed(b"before", table.encode(), account.encode(), key)


def brought_hash(journal: Identity, table: str, where: tuple[str, Any], account: str, scope: Any, named: Any) -> bytes:
    """Return that merges made a row of this account match `where`."""
    about = msgspec.msgpack.encode([*where, scope, named], enc_hook=str)
    return journal.hashed(b"brought", table.encode(), account.encode(), about)


class RedactedFacts:
    """What expired entries tell about rows whose account and key are known; whoever reads the logs fills it.

    Entries come in key order and are read ahead of the rows that they are about, so it is always filled in time.
    """

    def __init__(self, journal: Identity) -> None:
        self._journal = journal
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
        return self._at(lambda: given_hash(self._journal, table, account, key)) or {}

    def before(self, table: str, account: str, key: bytes) -> Mapping[str, bytes]:
        """Column -> packed value of a source's row before it was set inactive; empty bytes are a null."""
        return self._at(lambda: before_hash(self._journal, table, account, key)) or {}

    def brought(self, table: str, where: tuple[str, Any], account: str, scope: Any, named: Any) -> bool:
        """Whether merges made the account's row match."""
        return self._at(lambda: brought_hash(self._journal, table, where, account, scope, named)) is not None


def payload_of(kept: bytes) -> bytes:
    """Return what is kept, not yet decoded."""
    return unpayload(kept)[0]


def pack(records: Iterable[Record]) -> bytes:
    """Return what an entry keeps: sorted by hash, so that the order of rows does not show either."""
    packed = sorted((name, msgspec.msgpack.encode(dict(values))) for name, values in records)
    return payload([msgspec.msgpack.encode(packed)])


def redact(journal: Database, merge_id: uuid.UUID, log: str, keep: Callable[[bytes], Iterable[Record]]) -> int:
    """Blank the images, keys and notes of a whole log; may be repeated at any point. Answers how many entries did so.

    :param keep: what stays of one encoded change.
    """
    done = 0
    for row, body in _standing(_rows(journal, merge_id, log)):
        if row.payload is None and row.kept is not None:
            continue
        blank = dict.fromkeys(("payload", "salt", "last_key", "note"))
        kept = pack(record for change in body for record in keep(change))
        this = entries.c.merge_id == merge_id, entries.c.name == log, entries.c.seq == row.seq
        same = entries.c.digest == row.digest, entries.c.kept.is_(None)
        done += journal.run(update(entries).where(*this, *same).values(**blank, kept=kept))
    return done


def _standing(rows: Iterable[Row[Any]]) -> Iterator[tuple[Row[Any], list[bytes]]]:
    """Yield (row, its encoded changes as they count): those of a closing entry stand instead of those of the one before it."""
    held: list[tuple[Row[Any], list[bytes]]] = []
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


def digest(journal: Database, merge_id: uuid.UUID, log: str) -> bytes:
    """Return a digest of all that an expired log keeps; empty when there is no such log, or an entry still has its images."""
    chain = b""
    for row in _rows(journal, merge_id, log):
        if row.payload is not None or row.kept is None:
            return b""
        chain = hashlib.sha256(chain + row.digest + row.kept).digest()
    return chain


def rename(journal: Database, merge_id: uuid.UUID, log: str, new: str) -> None:
    """Move an expired log under another name; may be repeated."""
    journal.run(update(entries).where(entries.c.merge_id == merge_id, entries.c.name == log).values(name=new))


def _rows(journal: Database, merge_id: uuid.UUID, log: str) -> Iterator[Row[Any]]:
    columns = (entries.c[name] for name in ("seq", "kind", "payload", "kept", "digest"))
    wanted = select(*columns).where(entries.c.merge_id == merge_id, entries.c.name == log).order_by(entries.c.seq)

    def page(after: int | None) -> Sequence[Row[Any]]:
        return journal.rows((wanted if after is None else wanted.where(entries.c.seq > after)).limit(_PAGE))

    return journal.page_by_page(page, lambda row: int(row.seq), _PAGE)
