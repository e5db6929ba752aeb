"""Rows of accounts that have few, as they were a moment ago: one request reads a table for all accounts of a merge."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from account_merge.model import Row

#: s for which rows that were read count as those of this moment. What the platform writes later is seen when the entry is
#: verified, as what it writes behind any page that was read.
_MOMENT = 1.0
#: Account -> its rows, sorted by key.
Rows = Mapping[str, list[Row]]


class FewRows:
    """Keeps what was read for as long as it counts; lives as long as one operation that holds the accounts.

    :param ahead: tables that will be asked for: they are read together with the first.
    """

    def __init__(self, ahead: Iterable[str] = ()) -> None:
        self.ahead = frozenset(ahead)
        self._kept: dict[str, tuple[float, Rows]] = {}
        self._many: set[str] = set()

    def many(self, table: str) -> bool:
        """Whether these accounts have more rows of a table than one request reads."""
        return table in self._many

    def of(self, table: str) -> Rows | None:
        """Return the rows of a table; None where they were not read, or too long ago."""
        at, rows = self._kept.get(table, (0.0, {}))
        return rows if rows and time.monotonic() - at < _MOMENT else None

    def put(self, table: str, at: float, rows: Rows | None) -> None:
        """Keep what was read from a moment on, which the steady clock showed; None: there are too many rows."""
        if rows is None:
            self._many.add(table)
        else:
            self._kept[table] = at, rows

    def forget(self, table: str) -> None:
        """Forget the rows of a table because some of them were written."""
        self._kept.pop(table, None)
