"""The kill switch: stops all merging, or that of one tenant, in every process, until it is switched off again.

While it is on, a running merge is paused before its next entry and keeps its accounts, and nothing is started.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TypedDict

from account_merge.errors import TransientError, need_reason
from account_merge.journal import Journal, now
from account_merge.journal.state_log import StateHistory
from account_merge.lifecycle.answers import Act, acts, as_note
from account_merge.model import Merge
from account_merge.states import RESUMABLE, State

#: Stands for all tenants, and for merges without one.
ALL = ""


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
        self._log = StateHistory(journal, "switch")

    def active(self) -> dict[str, Stop]:
        """Return the switches that are on, by tenant (SERIAL)."""
        return _unpack(self._log.newest()[1])

    def stop_for(self, merge: Merge) -> Stop | None:
        """Return the switch that stops this merge now, or None (SERIAL)."""
        found = self.active()
        return found.get(ALL) or found.get(merge.request.tenant)

    def pause(self, tenant: str, by: str, reason: str) -> Turned:
        """Stop merging from the next entry on, wherever it runs; answer which switches are on then.

        :param tenant: `ALL`, or the `edata.rootOrgId` whose merges are stopped.
        :returns: `changed` is false when that very switch is on with that reason.
        :raises InvalidRequest: nobody says why.
        :raises TransientError: whether it is on is unknown; the same call again is safe.
        """
        need_reason(reason)
        stop = Stop(tenant.strip(), by, as_note(reason.strip()), now().isoformat(timespec="seconds") + "Z")
        return self._turned("on", stop)

    def resume(self, tenant: str, by: str, reason: str = "") -> Turned:
        """Let merges go on; the next poll starts what `pause` with the same tenant held up. Other switches stay as they are.

        :returns: `changed` is false when that switch was not on; `stopped` has those that are on then.
        :raises TransientError: whether it is off is unknown; the same call again is safe.
        """
        return self._turned("off", Stop(tenant.strip(), by, as_note(reason.strip()), ""))

    def _turned(self, what: str, stop: Stop) -> Turned:
        changed = self._turn(what, stop)
        return {"changed": changed, "stopped": [one.note for one in self.active().values()]}

    def history(self) -> list[Act]:
        """Return every switching, oldest first."""
        return acts(self._log)

    def _turn(self, what: str, stop: Stop) -> bool:
        for _ in range(20):
            seq, body = self._log.newest()
            found = _unpack(body)
            known = found.pop(stop.tenant, None)
            if what == "on":
                if known and (known.by, known.reason) == (stop.by, stop.reason):
                    return False
                found[stop.tenant] = stop
                note = stop.note
            else:
                if known is None:
                    return False
                words = f"merging for tenant {stop.tenant}" if stop.tenant else "all merging"
                note = f"{stop.by or 'somebody'} let {words} go on" + (f": {stop.reason}" if stop.reason else "")
            if self._log.append(seq + 1, what, _pack(found), note):
                return True
        raise TransientError("BUSY", "the switch is turned by too many at once", "Look at its status, then try again.")

    def pause_if_stopped(self, merge: Merge, asked: bool = False) -> str:
        """Return why this merge may not go on now, "" when nothing stops it. Pause a running one, with the note.

        A started one goes back to requested: it waits in the journal like those that nobody has started.

        :param asked: somebody wants the merge to go on: it does so by itself when the switch is off, also a failed one.
        """
        stop = self.stop_for(merge)
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

    def check(self, merge: Merge, asked: bool = False) -> None:
        """Let a task go on or not; only `admit` moves a paused merge on.

        :raises Paused: nothing may be written now.
        """
        if halted := self.pause_if_stopped(merge, asked):
            raise Paused(halted)
        if merge.state == State.PAUSED:
            raise Paused(merge.note or "the merge is paused")


def _pack(stops: dict[str, Stop]) -> bytes:
    return json.dumps([asdict(stop) for stop in stops.values()], ensure_ascii=False).encode()


def _unpack(body: bytes) -> dict[str, Stop]:
    return {stop["tenant"]: Stop(**stop) for stop in (json.loads(body) if body else [])}
