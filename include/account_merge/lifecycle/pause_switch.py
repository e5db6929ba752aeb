"""The kill switch: stops all merging, or that of one tenant, in every process, until it is switched off again.

While it is on, a running merge is paused before its next entry and keeps its accounts, and nothing is started.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from account_merge.errors import need_reason
from account_merge.journal import Journal, now
from account_merge.journal.acts import Switches
from account_merge.journal.fence import ALL
from account_merge.lifecycle.answers import Act, acts, as_note
from account_merge.model import Merge
from account_merge.states import RESUMABLE, State


class Turned(TypedDict):
    """Answer of turning a switch: whether that changed anything, and the notes of the switches that are on then."""

    changed: bool
    stopped: list[str]


class Paused(Exception):
    """Signal, not an error: the merge was paused between two entries and goes on by itself. The text says by whom and why."""


@dataclass(frozen=True)
class Stop:
    """One switch that is on.

    :param tenant: the tenant whose merges it stops; `ALL` stops all.
    :param since: when it was switched on; UTC, ISO 8601.
    """

    tenant: str
    by: str
    reason: str
    since: str

    @property
    def note(self) -> str:
        """The person who stopped which merges, when and why."""
        what = f"merging for tenant {self.tenant}" if self.tenant else "all merging"
        return f"{self.by or 'somebody'} stopped {what} at {self.since}: {self.reason}"


class PauseSwitch:
    """Switches in the journal: every process sees them, they survive any restart, and they work without Airflow."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._switches = Switches(journal)

    def active(self) -> dict[str, Stop]:
        """Return the switches that are on, by tenant."""
        return {row.tenant: Stop(row.tenant, row.actor, row.reason, _written(row.since)) for row in self._switches.on()}

    def stop_for(self, merge: Merge) -> Stop | None:
        """Return the switch that stops this merge now, or None."""
        found = self.active()
        return found.get(ALL) or found.get(merge.request.tenant)

    def look(self, merge_id: uuid.UUID) -> tuple[Merge, Stop | None]:
        """Return a merge that must exist, and the switch that stops it now, by one statement."""
        merge, found = self._switches.beside(merge_id)
        rows = ((row.stop_tenant, row.stop_actor, row.stop_reason, _written(row.stop_since)) for row in found)
        return merge or self._journal.need(merge_id), next((Stop(*row) for row in rows), None)

    def pause(self, tenant: str, by: str, reason: str) -> Turned:
        """Stop merging from the next entry on, wherever it runs; answer which switches are on then.

        :param tenant: `ALL`, or the `edata.rootOrgId` whose merges are stopped.
        :returns: `changed` is false when that very switch is on with that reason.
        :raises InvalidRequest: nobody says why.
        :raises TransientError: whether it is on is unknown; the same call again is safe.
        """
        need_reason(reason)
        since = now()
        stop = Stop(tenant.strip(), by, as_note(reason.strip()), _written(since))
        return self._turned(self._switches.put(stop.tenant, by, stop.reason, since, stop.note))

    def resume(self, tenant: str, by: str, reason: str = "") -> Turned:
        """Let merges go on; the next poll starts what `pause` with the same tenant held up. Other switches stay as they are.

        :returns: `changed` is false when that switch was not on; `stopped` has those that are on then.
        :raises TransientError: whether it is off is unknown; the same call again is safe.
        """
        tenant, why = tenant.strip(), as_note(reason.strip())
        words = f"merging for tenant {tenant}" if tenant else "all merging"
        note = f"{by or 'somebody'} let {words} go on" + (f": {why}" if why else "")
        return self._turned(self._switches.remove(tenant, note))

    def _turned(self, changed: bool) -> Turned:
        return {"changed": changed, "stopped": [one.note for one in self.active().values()]}

    def history(self) -> list[Act]:
        """Return every switching, oldest first."""
        return acts(self._switches.acts)

    def pause_if_stopped(self, merge: Merge, stop: Stop | None, asked: bool = False) -> str:
        """Return why this merge may not go on now, "" when nothing stops it. Pause a running one, with the note.

        A started one goes back to requested: it waits in the journal like those that nobody has started.

        :param stop: the switch that stops it, as it was just read.
        :param asked: somebody wants the merge to go on: it does so by itself when the switch is off, also a failed one.
        """
        if stop is None:
            return ""
        for _ in range(10):
            if merge.state == State.RUNNING:
                done = self._journal.move(merge, State.PAUSED, note=stop.note, resume="wanted")
            elif merge.state == State.STARTED:
                done = self._journal.move(merge, State.REQUESTED)
            elif asked and merge.state in RESUMABLE and merge.resume != "wanted":
                done = self._journal.change(merge, resume="wanted")
            else:
                break
            if done:
                break
            merge = self._journal.need(merge.merge_id)
        return stop.note

    def check(self, merge: Merge) -> None:
        """Let the work on a merge go on or not.

        :raises Paused: nothing may be written now.
        """
        self.check_seen(merge, self.stop_for(merge))

    def check_seen(self, merge: Merge, stop: Stop | None, asked: bool = False) -> None:
        """Let a task go on or not, by what `look` has just answered; only `admit` moves a paused merge on.

        :raises Paused: nothing may be written now.
        """
        if halted := self.pause_if_stopped(merge, stop, asked):
            raise Paused(halted)
        if merge.state == State.PAUSED:
            raise Paused(merge.note or "the merge is paused")


def _written(since: datetime) -> str:
    return since.isoformat(timespec="seconds") + "Z"
