"""Merges as people list them: the filter of a list, and the numbers of each day. No I/O."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime


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
