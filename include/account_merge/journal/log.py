"""The journal's write-ahead log: entries of absolute values, in key order, appended by conditional statements only."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Executable, Integer, Row, Select, bindparam, cast, exists, func, select, update

from account_merge.errors import NeedsAttention
from account_merge.journal.clock import now
from account_merge.journal.database import Database
from account_merge.journal.encoding import Codec, payload, unpayload
from account_merge.journal.fence import Fence, conditions
from account_merge.journal.schema import insert_once, log, merges
from account_merge.model import Change, ChangeHeader, Entry, Key
from account_merge.states import EntryKind

Fits = Callable[[EntryKind, ChangeHeader], bool]
_PAGE = 8  # entries read at once: at most 8 MiB
LIST_ATTEMPTS = 1000  # µs kept free above a timestamp for repeated list writes


@dataclass(frozen=True)
class Draft:
    """An entry that is to be appended.

    :param changes: encoded.
    :param note: about the table as a whole; never a learner's values.
    """

    seq: int
    kind: EntryKind
    last_key: Key | None = None
    base: int = 0
    changes: Sequence[bytes] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


class Log:
    """The log of one table of one merge.

    :param rows: all entries of a log that is closed, where they were read: it changes no more.
    """

    def __init__(
        self, journal: Database, merge_id: uuid.UUID, table: str, codec: Codec, rows: Sequence[Row[Any]] | None = None
    ) -> None:
        self._journal, self._all = journal, rows
        self.merge_id = merge_id
        self.table = table
        self.codec = codec
        self.writer = uuid.uuid4()
        self._chain = -1, b""  # number and digest of the newest entry that this object appended or read
        self._own: list[tuple[int, Mapping[str, int], str]] = []  # number, counts and note of what this object appended

    def _mine(self, *more: ColumnElement[bool]) -> Select[Any]:
        return select(log).where(log.c.merge_id == self.merge_id, log.c.name == self.table, *more)

    def last(self) -> Entry | None:
        """Return the newest entry, or None when the log is empty."""
        found = self._journal.row(self._mine().order_by(log.c.seq.desc()).limit(1))
        return self._entry(found) if found else None

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Every entry from number `start` on, in order, page by page, as it counts: what was not written is left out."""
        yield from standing(map(self._entry, self._rows(start)))

    def _rows(self, start: int, *more: ColumnElement[bool]) -> Iterator[Row[Any]]:
        if self._all is not None and not more:
            return iter(self._all[start:])

        def page(after: int | None) -> Sequence[Row[Any]]:
            since = log.c.seq >= start if after is None else log.c.seq > after
            return self._journal.rows(self._mine(since, *more).order_by(log.c.seq).limit(_PAGE))

        return self._journal.page_by_page(page, lambda row: int(row.seq), _PAGE)

    def some(self, start: int = 0, what: str = "", fits: Fits | None = None, within: str = "") -> Iterator[Entry]:
        """Yield the entries from number `start` on as they were appended, with the changes that may be what is looked for.

        :param what: only entries that count such rows; of others no payload is read.
        :param fits: of these only the changes that fit, by the entry's kind; of the others no value is decoded.
        :param within: a text that each such key contains: where keys are texts, an entry without it is not decoded at all.
        """
        needle = within.encode() if self.codec.texts else b""
        counted = (cast(log.c.counts[what].astext, Integer) > 0,) if what else ()
        for row in self._rows(start, *counted):
            yield self._entry(row, fits, needle)

    def payload(self, seq: int) -> list[bytes]:
        """Return what an entry holds, not decoded."""
        body = self._journal.value(
            select(log.c.payload).where(log.c.merge_id == self.merge_id, log.c.name == self.table, log.c.seq == seq)
        )
        return unpayload(body) if body else []

    def counts(self) -> dict[str, int]:
        """Return rows by what happened to them, added up over the entries without reading their payload."""
        return self.summary()[0]

    def summary(self) -> tuple[dict[str, int], str]:
        """Return the counts, and what the entries note about the table as a whole; asked only if others appended as well."""
        mine = log.c.merge_id == self.merge_id, log.c.name == self.table
        whole = self._own and self._own[-1][0] == len(self._own) - 1
        told = (
            self._own
            if whole
            else self._journal.rows(select(log.c.seq, log.c.counts, log.c.note).where(*mine).order_by(log.c.seq))
        )
        added: dict[str, int] = {}
        for _, counts, _ in told:
            for name, number in counts.items():
                added[name] = added.get(name, 0) + number
        return added, "; ".join(note for _, _, note in told if note)

    def append(self, draft: Draft, fence: Fence | None = None) -> bool:
        """Append an entry by one statement; False when another writer was first, or the fence does not hold.

        :param fence: it holds when the entry is there, and held until it was.
        :raises TransientError: the outcome is unknown; `last()` tells it.
        """
        row = self.row_of(draft)
        statement = _appending(
            tuple(row), draft.kind == EntryKind.CLOSED, fence is not None, bool(fence and fence.stoppable)
        )
        done = self._journal.run(
            statement, {f"new_{name}": value for name, value in row.items()} | (fence.values() if fence else {})
        )
        if done:
            self._chain = draft.seq, row["digest"]
            self.count(draft)
        return bool(done)

    def reached(self, seq: int, digest: bytes) -> None:
        """Take in how far the log is, as somebody has just read it."""
        self._chain = seq, digest

    def row_of(self, draft: Draft) -> dict[str, Any]:
        """Return the row of an entry: column -> value."""
        body, salt = payload(list(draft.changes)), os.urandom(16)
        sealed = _sealed(salt, body)
        return {
            "merge_id": self.merge_id, "name": self.table, "seq": draft.seq, "kind": draft.kind,
            "last_key": None if draft.last_key is None else self.codec.key(draft.last_key), "base": draft.base, "writer": self.writer,
            "counts": dict(draft.counts), "payload": body, "salt": salt, "sealed": sealed,
            "digest": _chained(self.digest(draft.seq - 1) if draft.seq else b"", sealed), "note": draft.note or None,
            "created_at": now(),
        }  # fmt: skip

    def count(self, draft: Draft) -> None:
        """Count an entry among those that this object appended."""
        self._own.append((draft.seq, draft.counts, draft.note))

    def close(self) -> None:
        """Nobody appends to this log any more: a writer that was stopped and wakes loses the race for the next entry."""
        while True:
            last = self.last()
            if last is not None and last.kind == EntryKind.CLOSED:
                return
            seq, key, base = (last.seq + 1, last.last_key, last.base) if last else (0, None, 0)
            if self.append(Draft(seq, EntryKind.CLOSED, key, base)):
                return

    def digest(self, seq: int) -> bytes:
        """Return the digest of entry `seq`: it covers all entries up to it. Empty when there is no such entry."""
        if self._chain[0] == seq:
            return self._chain[1]
        mine = log.c.merge_id == self.merge_id, log.c.name == self.table
        return self._journal.value(select(log.c.digest).where(*mine, log.c.seq == seq)) or b""

    def faults(self) -> Iterator[tuple[int, str]]:
        """Yield (entry, what is wrong) of each entry that is missing or not what was written, by the chain of digests.

        A digest covers the one before and a salted digest of the payload; so it proves a payload while that is there, and
        the order and number of entries also when payloads have expired.
        """
        number, previous = 0, b""
        for row in self._rows(0):
            if row.seq != number:
                yield number, f"entries {number} to {row.seq - 1} are missing"
            elif row.digest != _chained(previous, row.sealed):
                yield row.seq, "its digest does not follow from the entry before"
            if row.payload is not None and row.sealed != _sealed(row.salt or b"", row.payload):
                yield row.seq, "its payload is not what was written"
            if row.payload is None and row.kept is None:
                yield row.seq, "its payload is gone, and it did not expire"
            number, previous = row.seq + 1, row.digest

    def next_attempt(self, entry: Entry) -> int:
        """Return a number for one more writing of an entry's lists, never given out before."""
        mine = log.c.merge_id == self.merge_id, log.c.name == self.table, log.c.seq == entry.seq
        more = log.c.attempts < LIST_ATTEMPTS - 1
        next_ = update(log).where(*mine, more).values(attempts=log.c.attempts + 1).returning(log.c.attempts)
        given = self._journal.value(next_)
        if given is not None:
            return int(given)
        raise NeedsAttention(
            "TOO_MANY_ATTEMPTS",
            f"entry {entry.seq} of {self.table}, merge {self.merge_id}, was written {LIST_ATTEMPTS} times",
            "Find out why the task keeps dying, then repair the merge.",
        )

    def _entry(self, row: Row[Any], fits: Fits | None = None, needle: bytes = b"") -> Entry:
        kind = EntryKind(row.kind)
        self._chain = max(self._chain, (row.seq, row.digest), key=lambda link: link[0])
        body = unpayload(row.payload, needle) if row.payload and kind != EntryKind.SKIP else []
        wanted = body if fits is None else (c for c in body if fits(kind, self.codec.head(c)))
        changes: tuple[Change, ...] = tuple(self.codec.unchange(c) for c in wanted)
        key = None if row.last_key is None else self.codec.unkey(row.last_key)
        return Entry(row.seq, kind, key, row.base, changes, row.attempts, row.created_at, row.kept)


@lru_cache(maxsize=8)
def _appending(columns: tuple[str, ...], closes: bool, fenced: bool, stoppable: bool) -> Executable:
    """Return the statement that appends an entry: made once, since making it takes longer than the server does with it."""
    new = {name: bindparam(f"new_{name}", type_=log.c[name].type) for name in columns}
    mine = log.c.merge_id == new["merge_id"], log.c.name == new["name"]
    next_ = select(func.coalesce(func.max(log.c.seq) + 1, 0)).where(*mine).scalar_subquery()
    row = select(*new.values()).where(next_ == new["seq"])
    if not closes:
        row = row.where(~exists().where(*mine, log.c.seq == new["seq"] - 1, log.c.kind == EntryKind.CLOSED))
    if fenced:
        row = row.where(*conditions(stoppable)).with_for_update(read=True, of=merges)
    return insert_once(log).from_select(list(columns), row)


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
