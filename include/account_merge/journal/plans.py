"""What a proposed merge would do, as salted digests: enough to see whether it still would, nothing to see what it was."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, TypeVar

from account_merge.errors import TransientError
from account_merge.journal.cas import BUCKET, JournalSession, now
from account_merge.states import EntryKind

DIGEST = 16  # bytes of each digest
CHUNK = 4096  # rows in an entry: 128 KiB
#: Digest of a row's key, digest of all that is planned for it.
Pair = tuple[bytes, bytes]
Named = TypeVar("Named")


class PlanDigests:
    """The plan of one table of a proposed merge, in key order; without the merge's salt it tells nothing."""

    def __init__(self, cas: JournalSession, merge_id: uuid.UUID, table: str) -> None:
        self._cas, self._merge_id, self._name = cas, merge_id, f"plan/{table}"

    def write(self, rows: Iterable[Pair], counts: Mapping[str, int]) -> None:
        """Write the plan, behind `forget`; memory for one entry only.

        :param counts: read when all rows are written, and kept with the end.
        :raises TransientError: somebody else writes it at the same time; both forget it and begin again.
        """
        seq, chunk = 0, bytearray()
        for name, digest in rows:
            chunk += name + digest
            if len(chunk) >= CHUNK * 2 * DIGEST:
                self._append(seq, EntryKind.PLAN, bytes(chunk), {})
                seq, chunk = seq + 1, bytearray()
        if chunk:
            self._append(seq, EntryKind.PLAN, bytes(chunk), {})
            seq += 1
        self._append(seq, EntryKind.END, b"", counts)

    def _append(self, seq: int, kind: EntryKind, payload: bytes, counts: Mapping[str, int]) -> None:
        if not self._cas.write_if(
            "INSERT INTO {ks}.log (merge_id, table_name, bucket, seq, kind, counts, payload, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS",
            [self._merge_id, self._name, seq // BUCKET, seq, kind, dict(counts), payload, now()],
        ):
            raise TransientError("BUSY", f"merge {self._merge_id} is proposed twice at once", "Try again.")

    def rows(self) -> Iterator[Pair]:
        """Yield what `write` was given, page by page."""
        for bucket in range(self.entries() // BUCKET + 1):
            for row in self._cas.stream(
                "SELECT payload FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ?",
                [self._merge_id, self._name, bucket],
                serial=False,
                fetch_size=8,
            ):
                body = row.payload or b""
                for at in range(0, len(body), 2 * DIGEST):
                    yield body[at : at + DIGEST], body[at + DIGEST : at + 2 * DIGEST]

    def counts(self) -> Mapping[str, int] | None:
        """Return the counts (SERIAL); None while the plan is not written to its end."""
        last = self._last()
        return dict(last.counts or {}) if last is not None and last.kind == EntryKind.END else None

    def entries(self) -> int:
        """How many entries there are."""
        last = self._last()
        return 0 if last is None else int(last.seq) + 1

    def _last(self) -> Any:
        found, bucket = None, 0
        while True:
            rows = self._cas.read(
                "SELECT seq, kind, counts FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ? "
                "ORDER BY seq DESC LIMIT 1",
                [self._merge_id, self._name, bucket],
            )
            if not rows or rows[0].kind is None:
                return found
            found, bucket = rows[0], bucket + 1

    def forget(self) -> None:
        """Remove the plan, its end first, so that what is half removed counts as not written; may be repeated."""
        for seq in range(self.entries() - 1, -1, -1):
            self._cas.write_if(
                "DELETE FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ? AND seq = ? IF EXISTS",
                [self._merge_id, self._name, seq // BUCKET, seq],
            )


def differences(
    stored: Iterable[Pair], planned: Iterable[tuple[bytes, bytes, Named]]
) -> Iterator[tuple[str, Named | None]]:
    """Yield what is otherwise now: (changed | appeared | vanished, which row); of what vanished only the digest was known.

    Both in key order, so that the memory is that of the differences, however many rows are the same.

    :param planned: of each row the two digests, and what to call it.
    """
    gone: dict[bytes, bytes] = {}
    new: dict[bytes, tuple[bytes, Named]] = {}
    for was, now_ in zip_longest(stored, planned):
        if was is not None:
            found = new.pop(was[0], None)
            if found is None:
                gone[was[0]] = was[1]
            elif found[0] != was[1]:
                yield "changed", found[1]
        if now_ is not None:
            name, digest, row = now_
            before = gone.pop(name, None)
            if before is None:
                new[name] = (digest, row)
            elif before != digest:
                yield "changed", row
    for _, row in new.values():
        yield "appeared", row
    for _ in gone:
        yield "vanished", None
