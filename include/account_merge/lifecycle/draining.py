"""Draining, before an upgrade: nothing new starts, and what is under way comes to its end. Nothing is paused.

An undo and a merge that a person begins by the command line are that person's: draining waits for them and stops neither.
"""

from __future__ import annotations

import time
from typing import TypedDict

from account_merge.errors import need_reason
from account_merge.journal import Journal, now
from account_merge.journal.queue import Queue
from account_merge.journal.scans import Note
from account_merge.lifecycle.answers import as_note
from account_merge.states import State

#: States in which somebody works on a merge, or is about to.
_UNDER_WAY = (State.STARTED, State.RUNNING, State.UNDOING, State.REDOING)
_PAUSE = 1.0  # s between two looks


class Drained(TypedDict):
    """Answer: whether nothing new starts, who asked for that and why, and how many merges are under way."""

    draining: bool
    note: str
    under_way: int


class Draining:
    """Whether the poll and the settles may start anything."""

    def __init__(self, journal: Journal) -> None:
        self._note, self._queue = Note(journal, "drain"), Queue(journal)

    def note(self) -> str:
        """Return who drains since when and why; empty when merges start as usual."""
        return str(self._note.get().get("note", ""))

    def begin(self, by: str, reason: str, wait: float = 0.0) -> Drained:
        """Let nothing new start, and wait until nothing is under way; may be repeated.

        :param wait: s, at most; then the answer says what is still under way.
        :raises InvalidRequest: nobody says why.
        """
        need_reason(reason)
        if not self.note():
            since = now().isoformat(timespec="seconds")
            self._note.put({"note": as_note(f"{by or 'somebody'} drains since {since}Z: {reason.strip()}")})
        ends = time.monotonic() + wait
        while (found := self.look())["under_way"] and time.monotonic() < ends:
            time.sleep(_PAUSE)
        return found

    def end(self) -> Drained:
        """Let merges start again; the next poll starts what has come meanwhile."""
        self._note.put({})
        return self.look()

    def look(self) -> Drained:
        """Return how it stands now."""
        note = self.note()
        return {"draining": bool(note), "note": note, "under_way": self._queue.under_way(_UNDER_WAY)}
