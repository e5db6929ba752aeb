"""What a proposed merge would do, as salted digests: enough to see whether it still would, nothing to see what it was."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

from sqlalchemy import Row, delete, select

from account_merge.errors import TransientError
from account_merge.journal.database import Database
from account_merge.journal.schema import insert_once, plans

DIGEST = 16  # bytes of each digest
CHUNK = 4096  # planned rows in one row: 128 KiB
_PAGE = 8  # rows read at once
#: Digest of a row's key, digest of all that is planned for it.
Pair = tuple[bytes, bytes]
Named = TypeVar("Named")


class PlanDigests:
    """The plan of one table of a proposed merge, in key order; without the merge's salt it tells nothing."""

    def __init__(self, journal: Database, merge_id: uuid.UUID, table: str) -> None:
        self._journal, self._merge_id, self._table = journal, merge_id, table
        self._mine = plans.c.merge_id == merge_id, plans.c.table_name == table

    def write(self, rows: Iterable[Pair], counts: Mapping[str, int]) -> None:
        """Write the plan, behind `forget`; memory for one row of it only.

        :param counts: read when all rows are written, and kept with the end.
        :raises TransientError: somebody else writes it at the same time; both forget it and begin again.
        """
        seq, chunk = 0, bytearray()
        for name, digest in rows:
            chunk += name + digest
            if len(chunk) >= CHUNK * 2 * DIGEST:
                self._append(seq, bytes(chunk))
                seq, chunk = seq + 1, bytearray()
        self._append(seq, bytes(chunk), dict(counts))

    def _append(self, seq: int, digests: bytes, counts: Mapping[str, int] | None = None) -> None:
        values = {"merge_id": self._merge_id, "table_name": self._table, "seq": seq, "digests": digests}
        ended = {} if counts is None else {"counts": dict(counts)}
        if not self._journal.run(insert_once(plans).values(**values, **ended)):
            raise TransientError("BUSY", f"merge {self._merge_id} is proposed twice at once", "Try again.")

    def rows(self) -> Iterator[Pair]:
        """Yield what `write` was given, page by page."""
        wanted = select(plans.c.seq, plans.c.digests).where(*self._mine).order_by(plans.c.seq)

        def page(after: int | None) -> Sequence[Row[Any]]:
            return self._journal.rows((wanted if after is None else wanted.where(plans.c.seq > after)).limit(_PAGE))

        for row in self._journal.page_by_page(page, lambda row: int(row.seq), _PAGE):
            for at in range(0, len(row.digests), 2 * DIGEST):
                yield row.digests[at : at + DIGEST], row.digests[at + DIGEST : at + 2 * DIGEST]

    def counts(self) -> Mapping[str, int] | None:
        """Return the counts; None while the plan is not written to its end."""
        last = self._journal.row(select(plans.c.counts).where(*self._mine).order_by(plans.c.seq.desc()).limit(1))
        return None if last is None or last.counts is None else dict(last.counts)

    def forget(self) -> None:
        """Remove the plan; may be repeated."""
        self._journal.run(delete(plans).where(*self._mine))


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
