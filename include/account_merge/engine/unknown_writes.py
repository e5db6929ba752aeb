"""Writes of merges that the journal does not know: it is older than the learners' tables, restored from a backup say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from account_merge.engine.resources import Resources
from account_merge.errors import NeedsAttention
from account_merge.journal.written_times import WrittenTimes
from account_merge.model import Merge, Row
from account_merge.planning.marks import NEAR, Marks
from account_merge.rules import RULES
from account_merge.sunbird.row_finder import RowFinder


class UnknownWrites:
    """Looks at the rows that a merge reads, and stops it before it writes where the journal has forgotten a merge.

    :param found: finds the rows of the merge's accounts.
    """

    def __init__(self, resources: Resources, merge: Merge, found: RowFinder) -> None:
        self._journal, self._tables = resources.journal, resources.tables
        self._merge, self._found = merge, found
        self.marks = marks_of(resources)
        self._known: WrittenTimes | None = None
        self._by_chance: set[int] = set()

    def watched(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows, each before anything can be planned with it.

        :raises NeedsAttention: two writes of this journal's are there that it does not know.
        """
        marked = self.marks.marked
        for row in rows:
            for time in {*row.written.values()}:
                if marked(time):
                    self._look(time)
            yield row

    def _look(self, time: int) -> None:
        if time in self._by_chance or self._knows(time):
            return
        unknown = {time}
        for other in self._times():
            if abs(other - time) <= NEAR and self.marks.marked(other) and not self._knows(other):
                unknown.add(other)
            if len(unknown) > 1:
                raise NeedsAttention(
                    "JOURNAL_BEHIND",
                    f"a merge that the journal has forgotten wrote rows of accounts {', '.join(self._merge.accounts)}: the "
                    f"journal was restored from a backup. Merge {self._merge.merge_id} stops before it writes here",
                    "Restore a newer backup of the journal, then clear the task. Where there is none, replay this merge "
                    "by its id: it then counts what the sources show as moved, and moves only what is missing. Or abandon it.",
                )
        self._by_chance.add(time)

    def _knows(self, time: int) -> bool:
        if self._known is not None and self._known.knows(time):
            return True
        # Another worker may have written since it was read.
        self._known = WrittenTimes(self._journal, self._merge.accounts)
        return self._known.knows(time)

    def _times(self) -> Iterator[int]:
        """Yield when the cells of the merge's accounts were written, in all tables."""
        for rule in RULES:
            if self._tables.of(rule) is not None:
                for account in self._merge.accounts:
                    for row in self._found.rows(rule, account):
                        yield from row.written.values()


def marks_of(resources: Resources) -> Marks:
    """Return the marks of the journal's writes."""
    return Marks(resources.journal.hashed(b"marks"))
