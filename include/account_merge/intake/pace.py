"""The pace of the poll: after a failed one the next look waits, longer with each failure that follows soon."""

from __future__ import annotations

from datetime import datetime, timedelta

from account_merge.journal import Journal, now
from account_merge.journal.scans import Note

FIRST = timedelta(seconds=10)
LONGEST = timedelta(minutes=1)
#: A failure this long after a pause is the first of its kind again.
_FORGOTTEN = timedelta(minutes=10)


class Pace:
    """The failures of polls, as the journal keeps them: any process that polls sees the same pause."""

    def __init__(self, journal: Journal) -> None:
        self._note = Note(journal, "poll")

    def failed(self) -> None:
        """Note that a poll failed just now."""
        number, ends = self._last()
        again = ends is not None and now() - ends < _FORGOTTEN
        self._note.put({"failures": number + 1 if again else 1, "at": now().isoformat()})

    def pause(self) -> float:
        """Return how many seconds the next look has to wait; 0 when the last polls went well."""
        _, ends = self._last()
        left = (ends - now()).total_seconds() if ends is not None else 0.0
        return min(max(left, 0.0), LONGEST.total_seconds())

    def _last(self) -> tuple[int, datetime | None]:
        """Return how many polls failed in a row, and when the pause after the last of them ends."""
        known = self._note.get()
        if not known:
            return 0, None
        number = int(known["failures"])
        return number, datetime.fromisoformat(known["at"]) + min(FIRST * 2 ** min(number - 1, 10), LONGEST)
