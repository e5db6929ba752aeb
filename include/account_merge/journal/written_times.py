"""The times at which the merges of some accounts wrote their rows, as the journal knows them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC
from itertools import accumulate

from sqlalchemy import select

from account_merge.journal.accounts import Accounts
from account_merge.journal.schema import log, moves


class WrittenTimes:
    """What the journal says of when these accounts' rows were written; it is read once, when this is made.

    :param account_ids: by their own names; what stands under the hash of an erased one counts as well.
    """

    def __init__(self, journal: Accounts, account_ids: Iterable[str]) -> None:
        rows = [row for name in account_ids for row in journal.row_names(name)]
        entries = (
            select(log.c.base, log.c.created_at)
            .where(log.c.merge_id.in_(select(moves.c.merge_id).where(moves.c.account_id.in_(rows))), log.c.base > 0)
            .order_by(log.c.base)
        )
        found = [(row.base, int(row.created_at.replace(tzinfo=UTC).timestamp() * 1e6)) for row in journal.rows(entries)]
        self._begins = [base for base, _ in found]
        self._ends = list(accumulate((end for _, end in found), max))

    def knows(self, time: int) -> bool:
        """Whether an entry of the log can have written at this time (µs): it is dated back by `CLOCK_MARGIN` at least."""
        before = bisect_right(self._begins, time)
        return before > 0 and time <= self._ends[before - 1]
