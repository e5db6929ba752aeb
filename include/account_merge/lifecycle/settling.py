"""Settle: a repair by the clock. Late writes to a source account are moved some minutes, a day, a week later.

A lagging aggregator or a device that syncs late still writes to the old account. Each settle is a merge of its own, with
leases and logs, into the account where the history lives on that day. The undo of its parent takes it back as well.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

from account_merge.errors import MergeError
from account_merge.journal import Journal, now
from account_merge.journal.merges import next_settle
from account_merge.journal.queue import Queue
from account_merge.lifecycle.answers import TableAnswer
from account_merge.lifecycle.draining import Draining
from account_merge.lifecycle.merging import Merging
from account_merge.model import Merge
from account_merge.settings import Settings
from account_merge.states import Origin

_PAGE = 100  # settles that are due, read at once


class Settling:
    """Finds the settles that are due, and runs them."""

    def __init__(self, journal: Journal, settings: Settings, merging: Merging) -> None:
        self._journal, self._merging = journal, merging
        self._queue, self._draining = Queue(journal), Draining(journal)
        self._pauses = settings.settle_after_seconds

    def due(self) -> Iterator[Merge]:
        """Yield the completed merges whose next settle is due now, the longest due first."""
        moment, last = now(), None
        while page := self._queue.to_settle(moment, last, _PAGE):
            yield from page
            last = page[-1]

    def run(self, seconds: float = 240.0) -> dict[str, int]:
        """Run the settles that are due, as far as the time allows; the rest stays due, however long. One that fails stops no other.

        :returns: counts: settled, moved (settles that had something to move), failed, held (by the switch, or because
            another merge has an account: the poll starts these).
        """
        counts = {"settled": 0, "moved": 0, "failed": 0, "held": 0}
        ends = time.monotonic() + seconds
        for parent in self.due():
            if time.monotonic() > ends or self._draining.note():
                break
            child = self._open(parent)
            if child is None:
                continue
            try:
                rows = self._merge(child)
            except MergeError:
                counts["failed"] += 1
            else:
                counts["held" if rows is None else "settled"] += 1
                counts["moved"] += bool(rows)
        return counts

    def _open(self, parent: Merge) -> uuid.UUID | None:
        """Open the parent's next settle and set the time of the one after; None when another process was faster."""
        number = parent.settles + 1
        name = f"settle-{number}"  # after a redo the settles begin anew
        child = uuid.uuid5(parent.merge_id, f"{parent.operation}/{name}" if parent.operation else name)
        request = replace(
            parent.request, origin=Origin.SETTLE, source_rows="keep", mid=None, raw=None, requested_by="", seeded=False,
            choices=parent.request.choices.later(), reason=f"settle {number} of merge {parent.merge_id}",
        )  # fmt: skip
        columns = next_settle(self._pauses, number, parent.settle_at or now())
        with self._journal.transaction():
            if not self._journal.change(parent, **columns):
                return None  # it may be undone or erased: nothing of its accounts is written anew
            self._journal.open(child, request, parent=parent.merge_id)
        return child

    def _merge(self, merge_id: uuid.UUID) -> int | None:
        """Return how many rows the settle wrote; None when it may not go on now."""
        written = 0

        def count(answer: TableAnswer) -> None:
            nonlocal written
            written += answer["created"] + answer["changed"]

        return written if self._merging.run(merge_id, told=count)["proceed"] else None
