"""How far a search through the whole platform has come, and what it has found: entries that belong to no merge."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from account_merge.journal.cas import BUCKET, NO_MERGE, JournalSession, now

STRANDED = "stranded"  # the search for accounts that are switched off and were never merged


class ScanProgress:
    """One search under its name: each entry is a stretch of it, written once, in order; any process goes on behind the last."""

    def __init__(self, cas: JournalSession, name: str) -> None:
        self._cas, self._name = cas, name

    def last(self) -> tuple[int, dict[str, Any]]:
        """Return the newest entry's number and content (SERIAL); -1 and nothing when there is none."""
        found: tuple[int, dict[str, Any]] = (-1, {})
        bucket = 0
        while True:
            rows = self._cas.read(
                "SELECT seq, payload FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ? "
                "ORDER BY seq DESC LIMIT 1",
                [NO_MERGE, self._name, bucket],
            )
            if not rows or rows[0].payload is None:
                return found
            found = rows[0].seq, json.loads(rows[0].payload)
            if (rows[0].seq + 1) % BUCKET:
                return found
            bucket += 1

    def append(self, seq: int, entry: dict[str, Any]) -> bool:
        """Write entry `seq` if nobody has; False when another process goes on with the same search."""
        return self._cas.write_if(
            "INSERT INTO {ks}.log (merge_id, table_name, bucket, seq, kind, payload, created_at) "
            "VALUES (?, ?, ?, ?, 'scan', ?, ?) IF NOT EXISTS",
            [NO_MERGE, self._name, seq // BUCKET, seq, json.dumps(entry).encode(), now()],
        )

    def entries(self) -> Iterator[dict[str, Any]]:
        """Every entry in order, page by page."""
        for bucket in range(self.last()[0] // BUCKET + 1):
            yield from (
                json.loads(row.payload)
                for row in self._cas.stream(
                    "SELECT payload FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ?",
                    [NO_MERGE, self._name, bucket],
                    serial=False,
                )
                if row.payload is not None
            )

    def rewrite(self, rewritten: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Put what `rewritten` answers in the place of each entry."""
        for seq, entry in enumerate(self.entries()):
            if (other := rewritten(entry)) != entry:
                self._cas.write_if(
                    "UPDATE {ks}.log SET payload = ? WHERE merge_id = ? AND table_name = ? AND bucket = ? AND seq = ? "
                    "IF EXISTS",
                    [json.dumps(other).encode(), NO_MERGE, self._name, seq // BUCKET, seq],
                )

    def forget(self) -> None:
        """Remove every entry, the last one first: a search that is forgotten half-way still goes on where it ends."""
        for seq in range(self.last()[0], -1, -1):
            self._cas.write_if(
                "DELETE FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ? AND seq = ? IF EXISTS",
                [NO_MERGE, self._name, seq // BUCKET, seq],
            )
