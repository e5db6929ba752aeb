"""How far long searches have come, and what they have found; and small notes that every process sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Row, delete, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from account_merge.journal.clock import now
from account_merge.journal.database import Database
from account_merge.journal.schema import insert_once, scans

STRANDED = "stranded"  # the search for accounts that are switched off and were never merged
_PAGE = 100  # stretches read at once


class ScanProgress:
    """One search under its name: each row is a stretch of it, written once, in order; any process goes on behind the last."""

    def __init__(self, journal: Database, name: str) -> None:
        self._journal, self._name = journal, name
        self._mine = scans.c.name == name

    def last(self) -> tuple[int, dict[str, Any]]:
        """Return the newest stretch's number and content; -1 and nothing when there is none."""
        row = self._journal.row(select(scans).where(self._mine).order_by(scans.c.seq.desc()).limit(1))
        return (-1, {}) if row is None else (row.seq, row.entry)

    def append(self, seq: int, entry: dict[str, Any]) -> bool:
        """Write stretch `seq` if nobody has; False when another process goes on with the same search."""
        values = {"name": self._name, "seq": seq, "entry": entry, "at": now()}
        return bool(self._journal.run(insert_once(scans).values(values)))

    def _rows(self) -> Iterator[Row[Any]]:
        def page(after: int | None) -> Sequence[Row[Any]]:
            since = scans.c.seq > (-1 if after is None else after)
            return self._journal.rows(select(scans).where(self._mine, since).order_by(scans.c.seq).limit(_PAGE))

        return self._journal.page_by_page(page, lambda row: int(row.seq), _PAGE)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Every stretch in order, page by page."""
        return (row.entry for row in self._rows())

    def rewrite(self, rewritten: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Put what `rewritten` answers in the place of each stretch."""
        for row in self._rows():
            if (other := rewritten(row.entry)) != row.entry:
                self._journal.run(update(scans).where(self._mine, scans.c.seq == row.seq).values(entry=other))

    def forget(self) -> None:
        """Remove every stretch."""
        self._journal.run(delete(scans).where(self._mine))


class Note:
    """A small object under a name, which every process sees; the last one that was put counts."""

    def __init__(self, journal: Database, name: str) -> None:
        self._journal, self._name = journal, name

    def get(self) -> dict[str, Any]:
        """Return the object; empty when nobody put one."""
        found = self._journal.value(select(scans.c.entry).where(scans.c.name == self._name, scans.c.seq == 0))
        return dict(found or {})

    def put(self, entry: dict[str, Any]) -> None:
        """Put an object in the place of the one before."""
        put = upsert(scans).values(name=self._name, seq=0, entry=entry, at=now())
        new = {"entry": put.excluded.entry, "at": put.excluded.at}
        self._journal.run(put.on_conflict_do_update(index_elements=[scans.c.name, scans.c.seq], set_=new))
