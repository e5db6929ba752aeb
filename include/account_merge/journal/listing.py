"""The journal as lists for people: merges newest first, and when a log was written. By index, so hints only."""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

from account_merge.errors import NeedsAttention
from account_merge.journal.cas import BUCKET, JournalSession, now
from account_merge.journal.log import last_row
from account_merge.listings import MergeFilter
from account_merge.states import CLOSED, EntryKind

#: Where a place in the list is: a merge's creation and its id.
ListPosition = tuple[datetime, uuid.UUID]
#: No journal is older.
EARLIEST = date(2024, 1, 1)
_COLUMNS = "merge_id, state, origin, accounts, created_at"


def newest(cas: JournalSession, wanted: MergeFilter, before: ListPosition | None, limit: int) -> list[ListPosition]:
    """Return the newest wanted merges before a place, at most `limit`; memory for these only, however many there are.

    Of an account or an open state all are looked through; else windows of days, each twice as long as the one before,
    until enough are found.
    """
    found: list[ListPosition] = []
    for rows in _windows(cas, wanted, before):
        places = ((row.created_at, row.merge_id) for row in rows if wanted.fits(row))
        found += heapq.nlargest(limit - len(found), (p for p in places if before is None or p < before))
        if len(found) >= limit:
            break
    return found


def _windows(cas: JournalSession, wanted: MergeFilter, before: ListPosition | None) -> Iterator[Iterator[Any]]:
    """Yield rows in portions, each older than the one before."""
    if wanted.account:
        yield _stream(cas, "accounts CONTAINS ?", [wanted.account])
        return
    if wanted.state and wanted.state not in CLOSED:
        yield _stream(cas, "state = ?", [wanted.state])
        return
    newer = [moment for moment in (wanted.until, before[0] if before else None) if moment is not None]
    last = min([*(moment.date() for moment in newer), now().date() + timedelta(days=1)])
    earliest = max(EARLIEST, wanted.since.date()) if wanted.since else EARLIEST
    days = 1
    while last >= earliest:
        first = max(earliest, last - timedelta(days=min(days, (last - date.min).days) - 1))
        yield _days(cas, first, last)
        last, days = first - timedelta(days=1), days * 2


def _days(cas: JournalSession, first: date, last: date) -> Iterator[Any]:
    try:
        yield from _stream(cas, "day >= ? AND day <= ?", [first, last])
    except NeedsAttention as error:
        if error.code != "CASSANDRA_REFUSED":
            raise
        # A secondary index, which serves where the server knows no storage-attached one, knows no ranges.
        for row in _stream(cas, "", []):
            if row.created_at is not None and first <= row.created_at.date() <= last:
                yield row


def _stream(cas: JournalSession, where: str, values: list[Any]) -> Iterator[Any]:
    return cas.stream(
        f"SELECT {_COLUMNS} FROM {{ks}}.merges" + (f" WHERE {where}" if where else ""), values, serial=False
    )


def span(cas: JournalSession, merge_id: uuid.UUID, log: str) -> tuple[datetime, datetime] | None:
    """When a log's first and last entry were written; None when it has none. Reads no payload.

    The entry that closes a log is written by an undo or when a merge is given up, maybe weeks later: it does not count.
    """
    where = "FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = ?"
    first = cas.read(f"SELECT kind, created_at {where} AND seq = 0", [merge_id, log, 0], serial=False)
    if not first or first[0].created_at is None or first[0].kind == EntryKind.CLOSED:
        return None
    cql = f"SELECT seq, kind, created_at {where} ORDER BY seq DESC LIMIT 1"
    last = last_row(cas, merge_id, log, cql, serial=False)
    if last is not None and last.kind == EntryKind.CLOSED:  # nothing follows it, so the entry before it is the last
        seq = last.seq - 1
        found = cas.read(f"SELECT created_at {where} AND seq = ?", [merge_id, log, seq // BUCKET, seq], serial=False)
        last = found[0] if found else None
    return first[0].created_at, last.created_at if last else first[0].created_at
