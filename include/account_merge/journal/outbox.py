"""The outbox: failed events that are owed. The newest of a merge stands in its row, those of earlier failures in a table."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, or_, select, update

from account_merge.journal.accounts import Accounts
from account_merge.journal.schema import failed_events, merges
from account_merge.model import Merge
from account_merge.states import OWED, State


@dataclass(frozen=True)
class OwedEvent:
    """One failed event of a merge.

    :param number: counts the failures of the merge.
    :param refused: the request is at fault.
    :param sent_at: when the last attempt began.
    :param offsets: partition -> where that attempt's event stands, at the earliest.
    :param newest: it is that of the merge's last failure.
    """

    merge: Merge
    number: int
    state: str
    code: str
    error: str
    remedy: str
    refused: bool
    sent_at: datetime | None
    offsets: Mapping[str, int]
    newest: bool

    @property
    def failed_id(self) -> str:
        """The id that travels in the event and in its Kafka header."""
        return f"{self.merge.merge_id}.{self.number}"


class Outbox:
    """The failed events of merges. Each change names the state that was read."""

    def __init__(self, journal: Accounts) -> None:
        self._journal = journal

    def of(self, merge: Merge) -> list[OwedEvent]:
        """Return the failed events of a merge that are owed, oldest first, and its newest whatever its state."""
        mine = failed_events.c.merge_id == merge.merge_id, failed_events.c.state.in_(OWED)
        earlier = self._journal.rows(select(failed_events).where(*mine).order_by(failed_events.c.number))
        newest = OwedEvent(
            merge, merge.failed_number, merge.failed_event, merge.error_code or "", merge.error or "", merge.remedy or "",
            merge.state == State.REFUSED, merge.failed_at, merge.failed_offsets, newest=True,
        )  # fmt: skip
        return [*(_event(merge, row) for row in earlier), newest]

    def owing(self, limit: int) -> list[uuid.UUID]:
        """Return the merges that owe a failed event, oldest first."""
        own = select(merges.c.merge_id, merges.c.created_at).where(merges.c.failed_event.in_(OWED))
        earlier = select(failed_events.c.merge_id).where(failed_events.c.state.in_(OWED)).limit(limit)
        found = [row.merge_id for row in self._journal.rows(own.order_by(merges.c.created_at).limit(limit))]
        return list(dict.fromkeys([*(row.merge_id for row in self._journal.rows(earlier)), *found]))

    def due(self, before: datetime) -> bool:
        """Whether an event can be published now: it is due, or its last attempt began before then and nobody said how it ended."""
        own, earlier = merges.c, failed_events.c
        mine = or_(own.failed_event == "due", (own.failed_event == "sending") & (own.failed_at < before))
        others = or_(earlier.state == "due", (earlier.state == "sending") & (earlier.sent_at < before))
        found = (
            select(own.merge_id).where(own.failed_event.in_(OWED), mine),
            select(earlier.merge_id).where(earlier.state.in_(OWED), others),
        )
        return any(self._journal.row(one.limit(1)) is not None for one in found)

    def owes(self, merge: Merge) -> bool:
        """Whether an event of the merge is not published yet."""
        return any(event.state in OWED for event in self.of(merge))

    def mark(self, event: OwedEvent, state: str, **attempt: Any) -> bool:
        """Give an event its next state, if it still has the one that was read.

        :param attempt: `sent_at` and `offsets` of an attempt that begins; `note`: why it cannot be published.
        """
        if event.newest:
            names = {"sent_at": "failed_at", "offsets": "failed_offsets"}
            return self._journal.change(
                event.merge, failed_event=state, **{names.get(n, n): v for n, v in attempt.items()}
            )
        attempt.pop("note", None)
        this = failed_events.c.merge_id == event.merge.merge_id, failed_events.c.number == event.number
        where = *this, failed_events.c.state == event.state
        return bool(self._journal.run(update(failed_events).where(*where).values(state=state, **attempt)))


def _event(merge: Merge, row: Row[Any]) -> OwedEvent:
    return OwedEvent(
        merge, row.number, row.state, row.code, row.error, row.remedy, row.refused, row.sent_at, dict(row.offsets or {}),
        newest=False,
    )  # fmt: skip
