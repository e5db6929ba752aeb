"""The journal by days: how many merges came each day, what became of them, and why some failed. By index, unconfirmed."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from itertools import islice
from typing import Any

from account_merge.errors import NeedsAttention
from account_merge.journal.cas import JournalSession, now
from account_merge.listings import MergesByDay

#: Rows looked at for one plot; beyond it the older days are left out, and that is said.
MOST = 200_000
_COLUMNS = "day, state, error_code"


def daily(cas: JournalSession, span: int = 14) -> MergesByDay:
    """Return the last `span` days, today included; day by day from the newest, so that memory is for the counts only."""
    today = now().date()
    found = MergesByDay({today - timedelta(days=n): Counter() for n in range(span - 1, -1, -1)})
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


def _day(cas: JournalSession, day: date) -> Any:
    try:
        yield from cas.stream(f"SELECT {_COLUMNS} FROM {{ks}}.merges WHERE day = ?", [day], serial=False)
    except NeedsAttention as error:
        if error.code == "NO_JOURNAL":
            return  # a journal that was never made has no merges
        raise
