"""Liveness: finds the merges under way that no worker works on any more, and leaves the others alone.

A merge under way shows life by an entry in its logs, a change of its row, or a task that Airflow runs or is about to run.
Without any of these for long enough it gets another run. The log makes a second worker safe: a mistake costs only work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from account_merge.journal import Journal, now
from account_merge.journal.log_ends import newest_at
from account_merge.model import Merge
from account_merge.rules import RULES
from account_merge.settings import Settings
from account_merge.states import BY_COMMAND, LOST, State

#: Returns the state of a run by its id: Airflow's own word, `LOST`, or None when Airflow has no such run.
Life = Callable[[str], str | None]
#: States of a merge whose rows are being taken back, or brought again, and the action that does it.
TAKING_BACK = {State.UNDOING: "undo", State.REDOING: "redo"}
#: States in which somebody writes a merge's rows.
UNDER_WAY = frozenset({State.RUNNING, *TAKING_BACK})
#: Time for which a merge without a run is left alone. One that was started lost its run between two steps of the poll;
#: one that is running is most often done long before.
GRACE = {State.STARTED: timedelta(seconds=30), State.RUNNING: timedelta(minutes=5)}


class Liveness:
    """Tells a merge that is worked on from one that hangs."""

    def __init__(self, journal: Journal, settings: Settings) -> None:
        self._journal = journal
        self._stalled = timedelta(seconds=settings.stalled_after_seconds)

    @staticmethod
    def shortest_grace() -> timedelta:
        """Return the time after its last change for which nobody has to look at any merge's run."""
        return min(GRACE.values())

    def shortest(self, merge: Merge) -> timedelta:
        """Return the time for which nobody has to look at the merge's run."""
        return self._stalled if merge.state in TAKING_BACK else GRACE.get(merge.state, GRACE[State.STARTED])

    def stalled(self, merge: Merge, run: str | None) -> bool:
        """Whether a merge under way needs another run.

        :param run: the state of its newest run, by `Life`.
        """
        patience = self._patience(merge, run)
        if patience is None or merge.updated_at is None:
            return patience is not None
        moment = now()
        if moment - merge.updated_at <= patience:
            return False
        written = newest_at(self._journal, merge.merge_id, _logs(merge)) if merge.state in UNDER_WAY else None
        return written is None or moment - written > patience

    def _patience(self, merge: Merge, run: str | None) -> timedelta | None:
        """Return how long a merge may show no life; None when Airflow works on it, or a person has to."""
        back = merge.state in TAKING_BACK
        if run == LOST:
            return self._stalled
        if run == "failed":
            # A failed merge waits for a person. An undo has no such state: it is tried again, ever more rarely.
            runs = sum(name.startswith(f"{TAKING_BACK.get(merge.state)}__{merge.merge_id}") for name in merge.run_ids)
            return self._stalled * (1 + runs) if back else None
        if run is None and (back or (merge.run_ids and merge.run_ids[-1].startswith(BY_COMMAND))):
            return self._stalled  # no run of Airflow's: a command may be at work
        return self.shortest(merge) if run in (None, "success") else None


def _logs(merge: Merge) -> Iterator[str]:
    """Yield the names of the logs that somebody who works on the merge appends to."""
    before = f"{merge.operation}/" if merge.state in TAKING_BACK else ""
    for rule in RULES:
        yield f"{before}{rule.table}"
        if rule.deactivated and merge.request.source_rows == "deactivate":
            yield from (f"{before}{rule.table}/{account}" for account in merge.request.sources)
