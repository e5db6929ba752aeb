"""Queries of pages and programs: the status, lists, the history of an account and of a merge. Nothing is written."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from account_merge.errors import InvalidRequest, MergeError
from account_merge.journal import Journal
from account_merge.journal.lists import ListPosition, by_day, newest
from account_merge.journal.log_ends import spans
from account_merge.lifecycle.pause_switch import PauseSwitch
from account_merge.lifecycle.undoing import Undoing
from account_merge.listings import MergeFilter, MergesByDay
from account_merge.model import Merge
from account_merge.reports.reader import ReportReader
from account_merge.reports.status import Status, status_of
from account_merge.states import ACTIONS, AT_ONCE, State


class Queries:
    """Reads the journal."""

    def __init__(self, journal: Journal, switch: PauseSwitch, undoing: Undoing, reader: ReportReader) -> None:
        self._journal, self._switch, self._undoing, self._reader = journal, switch, undoing, reader

    def status(self) -> Status:
        """Return which switches are on, how many merges are in which state, and which merges wait for which."""
        return status_of(self._journal, self._switch)

    def by_day(self, span: int = 14) -> MergesByDay:
        """Count the merges of each of the last days by state, and the failed ones by error code."""
        return by_day(self._journal, span)

    def merges(
        self, wanted: MergeFilter, before: ListPosition | None = None, limit: int = 50
    ) -> tuple[list[Merge], ListPosition | None]:
        """Return a page of merges, newest first, and the place before which the next page begins."""
        found = newest(self._journal, wanted, before, limit)
        last = found[-1] if len(found) == limit else None
        return found, None if last is None or last.created_at is None else (last.created_at, last.merge_id)

    def account(self, account_id: str) -> dict[str, Any]:
        """Return the history of an account: the merge that holds it, where its history lives, what it gave and received.

        :raises InvalidRequest: the journal has nothing about it.
        """
        merges = self._journal.find("accounts", account_id)
        gave, received = self._journal.gave(account_id), self._journal.received(account_id)
        if not (merges or gave or received or self._journal.known(account_id)):
            raise InvalidRequest("UNKNOWN_ACCOUNT", "the journal has nothing about this account", "Check its id.")
        holder, away = self._journal.holder(account_id), self._journal.moved_by(account_id)
        return {
            "account": account_id,
            "survivor": self._journal.survivor(account_id),
            "held_by": str(holder.merge_id) if holder else None,
            "merged_by": str(away.merge_id) if away else None,
            "gave": sorted(map(str, gave)),
            "received": list(received),
            "merges": merges,
        }

    def possible(self, merge: Merge) -> dict[str, MergeError | None]:
        """Return for each action on a merge None when it is possible now, else the error that says why not."""
        return {action: self._why_not(merge, action) for action in (*ACTIONS, *AT_ONCE)}

    def _why_not(self, merge: Merge, action: str) -> MergeError | None:
        try:
            self._undoing.check(merge, action)
        except MergeError as error:
            return error
        return None

    def timeline(self, merge: Merge) -> list[tuple[datetime, str, str]]:
        """Return (time, what, note) of each known event of a merge, oldest first."""
        found = [
            (
                merge.created_at,
                State.REQUESTED.value,
                f"by {merge.request.requested_by}" * bool(merge.request.requested_by),
            )
        ]
        times = spans(self._journal, merge.merge_id)
        for name in self._reader.logs(merge):
            if name in times:
                found += [(times[name][0], "first entry", name), (times[name][1], "last entry", name)]
        children = self._journal.find("parent", merge.merge_id)
        found += [(m.created_at, m.request.origin.value, f"merge {m.merge_id}") for m in children]
        changes = self._journal.history(merge.merge_id)
        if changes and changes[0].after == State.REQUESTED:
            del changes[0]  # it is the first moment of all
        found += [(row.at, row.after, row.note or row.error or "") for row in changes]
        # What happened in the same moment stays in the order above.
        known = [(at, what, note) for at, what, note in found if at is not None]
        return sorted(known, key=lambda moment: moment[0])


def place_of(text: str) -> ListPosition | None:
    """Return a place in the list of merges as `text_of` writes it; None for an empty text.

    :raises InvalidRequest: it is not such a place.
    """
    if not text:
        return None
    try:
        moment, _, merge_id = text.partition("_")
        return datetime.fromisoformat(moment).replace(tzinfo=None), uuid.UUID(merge_id)
    except ValueError:
        raise InvalidRequest(
            "BAD_CURSOR", "the cursor is not one of this list", "Take it from the page before."
        ) from None


def text_of(place: ListPosition | None) -> str | None:
    """Return a place in the list of merges as text."""
    return f"{place[0].isoformat(timespec='milliseconds')}_{place[1]}" if place else None
