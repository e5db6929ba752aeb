"""The status: which switches are on, how many merges are in which state, and which merges wait for which."""

from __future__ import annotations

from datetime import timedelta
from typing import TypedDict

from account_merge.journal import Journal
from account_merge.journal.lists import count, count_overdue
from account_merge.jsonable import jsonable
from account_merge.lifecycle.draining import Draining
from account_merge.lifecycle.pause_switch import PauseSwitch
from account_merge.model import Merge
from account_merge.states import STATES, State

_LATE = timedelta(hours=1)  # a settle that is due for longer is overdue
_SHOWN = 50


class Switch(TypedDict):
    """A switch that is on."""

    tenant: str
    by: str
    reason: str
    since: str
    note: str


class Waiting(TypedDict):
    """A merge that waits for an account, and the merge that holds it."""

    merge_id: str
    account: str | None
    since: str | None
    holder: str | None
    holder_state: str | None


class Status(TypedDict):
    """A snapshot: switches that are on, merges and failed events by state, and the first merges that wait.

    :param draining: who lets nothing new start, since when and why; empty when nobody does.
    :param overdue_settles: settles that are due for more than an hour.
    """

    switches: list[Switch]
    draining: str
    states: dict[str, int]
    resuming: int
    failed_events: dict[str, int]
    overdue_settles: int
    waiting: list[Waiting]
    waiting_more: int


def status_of(journal: Journal, switch: PauseSwitch) -> Status:
    """Return a snapshot: numbers of one moment may be a little older than others."""
    stops = switch.active()
    counts = count(journal, "state", STATES)
    owed = count(journal, "failed_event", ("due", "sending", "undeliverable"))
    waiting = journal.find("state", State.WAITING, limit=_SHOWN)
    return {
        "switches": [{"tenant": s.tenant, "by": s.by, "reason": s.reason, "since": s.since, "note": s.note}
                     for s in stops.values()],
        "draining": Draining(journal).note(),
        "states": counts,
        "resuming": count(journal, "resume", ("wanted",)).get("wanted", 0),
        "failed_events": owed,
        "overdue_settles": count_overdue(journal, _LATE),
        "waiting": [_waiting(journal, merge) for merge in waiting],
        "waiting_more": max(0, counts.get("waiting", 0) - len(waiting)),
    }  # fmt: skip


def _waiting(journal: Journal, merge: Merge) -> Waiting:
    holder = journal.holder(merge.waiting_for) if merge.waiting_for else None
    return {
        "merge_id": str(merge.merge_id),
        "account": merge.waiting_for,
        "since": jsonable(merge.state_at),
        "holder": str(holder.merge_id) if holder else None,
        "holder_state": holder.state.value if holder else None,
    }
