"""The journal's write-ahead log: entries of absolute values, in key order, appended by conditional writes only."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby, islice
from typing import Any

from account_merge.errors import NeedsAttention
from account_merge.journal.cas import BUCKET, JournalSession, now
from account_merge.journal.encoding import Codec, payload, unpayload
from account_merge.model import Change, ChangeHeader, Entry, Key
from account_merge.states import EntryKind

Fits = Callable[[EntryKind, ChangeHeader], bool]
_PAGE = 8  # entries read at once: at most 8 MiB
_AT_ONCE = 16  # buckets whose counts are read at once
LIST_ATTEMPTS = 1000  # µs kept free above a timestamp for repeated list writes


class Log:
    """The log of one table of one merge."""

    def __init__(self, cas: JournalSession, merge_id: uuid.UUID, table: str, codec: Codec) -> None:
        self._cas = cas
        self.merge_id = merge_id
        self.table = table
        self.codec = codec
        self.writer = uuid.uuid4()

    def _place(self, seq: int) -> list[Any]:
        return [self.merge_id, self.table, seq // BUCKET]

    def last(self) -> Entry | None:
        """Return the newest entry (SERIAL), or None when the log is empty."""
        found = last_row(
            self._cas, self.merge_id, self.table,
            "SELECT * FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ? ORDER BY seq DESC LIMIT 1",
        )  # fmt: skip
        return self._entry(found) if found else None

    def entries(self, serial: bool = False, start: int = 0) -> Iterator[Entry]:
        """Every entry from number `start` on, in order, page by page, as it counts: what was not written is left out."""
        yield from standing(map(self._entry, self._rows(start, serial)))

    def _rows(self, start: int, serial: bool = False) -> Iterator[Any]:
        bucket = start // BUCKET
        while True:
            following = max(start, bucket * BUCKET)
            for row in self._cas.stream(
                "SELECT * FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ? AND seq >= ?",
                [self.merge_id, self.table, bucket, following],
                serial,
                fetch_size=_PAGE,
            ):
                following += 1
                yield row
            if following < (bucket + 1) * BUCKET:
                return
            bucket += 1

    def some(self, start: int = 0, what: str = "", fits: Fits | None = None, within: str = "") -> Iterator[Entry]:
        """Yield the entries from number `start` on as they were appended, with the changes that may be what is looked for.

        :param what: only entries that count such rows; of others no payload is read.
        :param fits: of these only the changes that fit, by the entry's kind; of the others no value is decoded.
        :param within: a text that each such key contains: where keys are texts, an entry without it is not decoded at all.
        """
        needle = within.encode() if self.codec.texts else b""
        if not what:
            for row in self._rows(start):
                yield self._entry(row, fits, needle)
            return
        numbers = (seq for seq, counts in self._counted(start) if counts.get(what))
        while chunk := list(islice(numbers, _PAGE)):
            for bucket, seqs in groupby(chunk, key=lambda seq: seq // BUCKET):
                rows = self._cas.read(
                    "SELECT * FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ? AND seq IN ?",
                    [self.merge_id, self.table, bucket, list(seqs)],
                    serial=False,
                )
                yield from (self._entry(row, fits, needle) for row in rows)

    def payload(self, seq: int) -> list[bytes]:
        """Return what an entry holds, not decoded."""
        rows = self._cas.read(
            "SELECT payload FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ? AND seq = ?",
            [*self._place(seq), seq],
        )
        return unpayload(rows[0].payload) if rows and rows[0].payload else []

    def counts(self) -> dict[str, int]:
        """Return rows by what happened to them, added up over the entries without reading their payload."""
        return self.summary()[0]

    def summary(self) -> tuple[dict[str, int], str]:
        """Return the counts, and what the entries note about the table as a whole."""
        added: dict[str, int] = {}
        notes: list[str] = []
        for rows in self._buckets(
            "SELECT counts, note FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ?"
        ):
            for row in rows:
                for name, number in (row.counts or {}).items():
                    added[name] = added.get(name, 0) + number
                notes += [row.note] if row.note else []
        return added, "; ".join(notes)

    def _counted(self, start: int) -> Iterator[tuple[int, Mapping[str, int]]]:
        """Yield (number, counts) of each entry from `start` on."""
        cql = "SELECT seq, counts FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ?"
        for rows in self._buckets(cql, start // BUCKET):
            yield from ((row.seq, row.counts or {}) for row in rows if row.seq >= start)

    def _buckets(self, cql: str, first: int = 0) -> Iterator[list[Any]]:
        """Yield the rows of each bucket in order; many buckets are asked for at once, more and more of them."""
        asked = 1
        while True:
            places = [[self.merge_id, self.table, bucket] for bucket in range(first, first + asked)]
            for rows in self._cas.read_all(cql, places):
                yield rows
                if len(rows) < BUCKET:
                    return
            first, asked = first + asked, min(2 * asked, _AT_ONCE)

    def append(
        self,
        seq: int,
        kind: EntryKind,
        last_key: Key | None,
        base: int,
        changes: Sequence[bytes],
        counts: Mapping[str, int],
        note: str = "",
    ) -> bool:
        """Write entry `seq` if nobody has; False when another writer was first (then adopt its entry).

        :param note: about the table as a whole; never a learner's values.

        :raises TransientError: the outcome is unknown; `last()` tells it.
        """
        body, salt = payload(list(changes)), os.urandom(16)
        sealed = _sealed(salt, body)
        digest = _chained(self.digest(seq - 1) if seq else b"", sealed)
        return self._cas.write_if(
            "INSERT INTO {ks}.log (merge_id, table_name, bucket, seq, kind, last_key, base, attempts, writer, counts, "
            "payload, salt, sealed, digest, note, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?) "
            "IF NOT EXISTS",
            [
                *self._place(seq),
                seq,
                kind,
                None if last_key is None else self.codec.key(last_key),
                base,
                self.writer,
                dict(counts),
                body,
                salt,
                sealed,
                digest,
                note or None,
                now(),
            ],
        )

    def close(self) -> None:
        """Nobody appends to this log any more: a writer that was stopped and wakes loses the race for the next entry."""
        while True:
            last = self.last()
            if last is not None and last.kind == EntryKind.CLOSED:
                return
            seq, key, base = (last.seq + 1, last.last_key, last.base) if last else (0, None, 0)
            if self.append(seq, EntryKind.CLOSED, key, base, [], {}):
                return

    def digest(self, seq: int) -> bytes:
        """Return the digest of entry `seq`: it covers all entries up to it. Empty when there is no such entry."""
        rows = self._cas.read(
            "SELECT digest FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ? AND seq = ?",
            [*self._place(seq), seq],
            serial=False,
        )
        return rows[0].digest if rows and rows[0].digest else b""

    def faults(self) -> Iterator[tuple[int, str]]:
        """Yield (entry, what is wrong) of each entry that is missing or not what was written, by the chain of digests.

        A digest covers the one before and a salted digest of the payload; so it proves a payload while that is there, and
        the order and number of entries also when payloads have expired.
        """
        bucket, number, previous = 0, 0, b""
        while True:
            rows = self._cas.stream(
                "SELECT seq, payload, kept, salt, sealed, digest FROM {ks}.log WHERE merge_id = ? AND table_name = ? "
                "AND bucket = ?",
                [self.merge_id, self.table, bucket],
                serial=False,
                fetch_size=8,
            )
            before = number
            for row in rows:
                if row.seq != number:
                    yield number, f"entries {number} to {row.seq - 1} are missing"
                elif row.digest != _chained(previous, row.sealed or b""):
                    yield row.seq, "its digest does not follow from the entry before"
                if row.payload is not None and row.sealed != _sealed(row.salt or b"", row.payload):
                    yield row.seq, "its payload is not what was written"
                if row.payload is None and row.kept is None:
                    yield row.seq, "its payload is gone, and it did not expire"
                number, previous = row.seq + 1, row.digest or b""
            if number - before < BUCKET:
                return
            bucket += 1

    def next_attempt(self, entry: Entry) -> int:
        """Return a number for one more writing of an entry's lists, never given out before."""
        known = entry.attempts
        while known < LIST_ATTEMPTS - 1:
            if self._cas.write_if(
                "UPDATE {ks}.log SET attempts = ? WHERE merge_id = ? AND table_name = ? AND bucket = ? AND seq = ? "
                "IF attempts = ?",
                [known + 1, *self._place(entry.seq), entry.seq, known],
            ):
                return known + 1
            rows = self._cas.read(
                "SELECT attempts FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ? AND seq = ?",
                [*self._place(entry.seq), entry.seq],
            )
            known = rows[0].attempts
        raise NeedsAttention(
            "TOO_MANY_ATTEMPTS",
            f"entry {entry.seq} of {self.table}, merge {self.merge_id}, was written {LIST_ATTEMPTS} times",
            "Find out why the task keeps dying, then repair the merge.",
        )

    def _entry(self, row: Any, fits: Fits | None = None, needle: bytes = b"") -> Entry:
        body = unpayload(row.payload, needle) if row.payload and row.kind != EntryKind.SKIP else []
        wanted = body if fits is None else (c for c in body if fits(EntryKind(row.kind), self.codec.head(c)))
        changes: tuple[Change, ...] = tuple(self.codec.unchange(c) for c in wanted)
        key = None if row.last_key is None else self.codec.unkey(row.last_key)
        return Entry(
            row.seq, EntryKind(row.kind), key, row.base or 0, changes, row.attempts or 0, row.created_at, row.kept
        )


def standing(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield entries as they count: the changes of a closing one stand instead of those of the entry before it."""
    held: list[Entry] = []  # the newest entry, and the closing ones behind it
    for entry in entries:
        if entry.kind != EntryKind.CLOSED:
            yield from held
            held = [entry]
            continue
        instead = {change.key: change for change in entry.changes} if held else {}
        held = [replace(e, changes=tuple(instead.get(c.key, c) for c in e.changes)) for e in held]
        held.append(replace(entry, changes=()))
    yield from held


def _sealed(salt: bytes, body: bytes) -> bytes:
    """Return a digest of a payload that tells nothing about it once the salt is gone."""
    return hashlib.sha256(salt + body).digest()


def _chained(previous: bytes, sealed: bytes) -> bytes:
    return hashlib.sha256(previous + sealed).digest()


def last_row(cas: JournalSession, merge_id: uuid.UUID, log: str, cql: str, serial: bool = True) -> Any:
    """Return the row that `cql` (by merge, log and bucket: one row, with `seq`) gives of the last bucket that has one, or None.

    Buckets fill up one after the other, so few are asked.
    """

    def read(bucket: int) -> Any:
        rows = cas.read(cql, [merge_id, log, bucket], serial)
        return rows[0] if rows and rows[0].created_at is not None else None

    found, low, step = read(0), 0, 1
    empty: int | None = None
    while found is not None and found.seq % BUCKET == BUCKET - 1 and empty != low + 1:
        probe = low + step if empty is None else (low + empty) // 2
        row = read(probe)
        if row is None:
            empty = probe
        else:
            found, low, step = row, probe, 2 * step
    return found


def newest_at(cas: JournalSession, merge_id: uuid.UUID, logs: Iterable[str]) -> datetime | None:
    """When the newest entry of these logs of a merge was appended; None when all are empty. Reads no payload."""
    cql = (
        "SELECT seq, created_at FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ? "
        "ORDER BY seq DESC LIMIT 1"
    )
    found = (last_row(cas, merge_id, log, cql, serial=False) for log in logs)
    return max((row.created_at for row in found if row is not None), default=None)


def ends(logs: Iterable[Log]) -> dict[str, bytes]:
    """Log name -> digest of its last entry: what a merge's row remembers when the merge is closed."""
    return {log.table: log.digest(last.seq) for log in logs if (last := log.last()) is not None}
