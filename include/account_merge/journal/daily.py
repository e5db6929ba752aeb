"""The journal by days: how many merges came each day, what became of them, and why some failed. By index, unconfirmed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import islice
from typing import Any

from account_merge.errors import NeedsAttention
from account_merge.journal.cas import Cas, now

#: Rows looked at for one plot; beyond it the older days are left out, and that is said.
MOST = 200_000
_COLUMNS = "day, state, error_code"


@dataclass
class Days:
    """Merges by the day on which they were asked for.

    :param days: day -> state -> merges; every day of the span is there, oldest first.
    :param reasons: error code -> merges that it stopped.
    :param complete: false when there are more merges than are looked at.
    """

    days: dict[date, Counter[str]]
    reasons: Counter[str] = field(default_factory=Counter)
    complete: bool = True


def daily(cas: Cas, span: int = 14) -> Days:
    """The last `span` days, today included; day by day from the newest, so that memory is for the counts only."""
    today = now().date()
    found = Days({today - timedelta(days=n): Counter() for n in range(span - 1, -1, -1)})
    left = MOST
    for day in reversed(found.days):
        rows = 0
        for row in islice(_day(cas, day), left):
            rows += 1
            if not row.state:
                continue
            found.days[day][row.state] += 1
            if row.error_code:
                found.reasons[row.error_code] += 1
        left -= rows
        if left <= 0:
            found.complete = False
            break
    return found


def _day(cas: Cas, day: date) -> Any:
    try:
        yield from cas.stream(f"SELECT {_COLUMNS} FROM {{ks}}.merges WHERE day = ?", [day], serial=False)
    except NeedsAttention as error:
        if error.code == "NO_JOURNAL":
            return  # a journal that was never made has no merges
        raise
