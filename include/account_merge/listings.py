"""Merges as people list them: the filter of a list, and the numbers of each day. No I/O."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any


@dataclass(frozen=True)
class MergeFilter:
    """Filter of a list of merges; an empty field filters nothing.

    :param but: an origin that is left out.
    :param since: created at or after this time (UTC, without a zone), and before `until`.
    """

    account: str = ""
    state: str = ""
    origin: str = ""
    since: datetime | None = None
    until: datetime | None = None
    but: str = ""

    def fits(self, row: Any) -> bool:
        """Whether the merge of an index row is wanted."""
        return (
            row.created_at is not None
            and (not self.state or row.state == self.state)
            and (not self.origin or row.origin == self.origin)
            and (not self.but or row.origin != self.but)
            and (not self.account or self.account in (row.accounts or ()))
            and (self.since is None or row.created_at >= self.since)
            and (self.until is None or row.created_at < self.until)
        )


@dataclass
class MergesByDay:
    """Merges by the day on which they were asked for.

    :param days: day -> state -> merges; every day of the span is there, oldest first.
    :param reasons: error code -> merges that it stopped.
    :param complete: false when there are more merges than are looked at.
    """

    days: dict[date, Counter[str]]
    reasons: Counter[str] = field(default_factory=Counter)
    complete: bool = True
