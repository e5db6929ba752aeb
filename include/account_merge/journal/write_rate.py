"""How fast learners' rows are written: one rate for all processes on this journal, for the live platform's sake."""

from __future__ import annotations

import time

from sqlalchemy import Column, DateTime, Table, text

from account_merge.journal.database import Database
from account_merge.journal.schema import metadata

#: One row: from when on the next rows may be written, by the database's clock.
write_rate = Table("write_rate", metadata, Column("free_at", DateTime(timezone=True)))

#: Whoever asks gets the next stretch of time. Time that nobody took is gone: it is not made up for.
_NEXT = text(
    "INSERT INTO write_rate AS w (free_at) VALUES (clock_timestamp() + make_interval(secs => :seconds)) "
    "ON CONFLICT (only_one) DO UPDATE "
    "SET free_at = greatest(w.free_at, clock_timestamp()) + make_interval(secs => :seconds) "
    "RETURNING extract(epoch FROM w.free_at - make_interval(secs => :seconds) - clock_timestamp())"
)


class WriteRate:
    """A rate of rows that all processes keep together.

    :param most: rows per second; 0: as fast as the servers are, and nothing is asked.
    """

    def __init__(self, journal: Database, most: int) -> None:
        self._journal, self._most = journal, most

    def portion(self, rows: int) -> int:
        """Return how many of these rows may be written at once: those of one second, at most."""
        return min(rows, self._most) if self._most else rows

    def wait(self, rows: int) -> None:
        """Return when so many rows may be written. Who waits holds no lock, and is served in the order of asking.

        :raises TransientError: the journal does not answer.
        """
        if self._most and rows:
            time.sleep(max(0.0, float(self._journal.value(_NEXT, {"seconds": rows / self._most}))))
