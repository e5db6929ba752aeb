"""The journal as people look at it: lists newest first, failed merges oldest first, numbers by state and by day."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Date, cast, func, select

from account_merge.failed_search import FailedMergeFilter
from account_merge.journal.accounts import Accounts
from account_merge.journal.clock import now
from account_merge.journal.merges import names
from account_merge.journal.rows import merge_of
from account_merge.journal.schema import beyond, merges
from account_merge.listings import MergeFilter, MergesByDay
from account_merge.model import Merge

#: Where a place in the list is: a merge's creation and its id.
ListPosition = tuple[datetime, uuid.UUID]
#: A state is counted up to here, and merges of days up to twice as many: an exact larger number is not worth the wait.
MOST = 100_000


def newest(journal: Accounts, wanted: MergeFilter, before: ListPosition | None, limit: int) -> list[Merge]:
    """Return the newest wanted merges before a place, at most `limit`."""
    m, where = merges.c, list[ColumnElement[bool]]()
    if wanted.account:
        where.append(names(wanted.account))
    if wanted.state:
        where.append(m.state == wanted.state)
    if wanted.origin:
        where.append(m.origin == wanted.origin)
    if wanted.but:
        where.append(m.origin != wanted.but)
    if wanted.since is not None:
        where.append(m.created_at >= wanted.since)
    if wanted.until is not None:
        where.append(m.created_at < wanted.until)
    if before is not None:
        where.append(beyond((m.created_at, m.merge_id), before, back=True))
    order = m.created_at.desc(), m.merge_id.desc()
    return [merge_of(row) for row in journal.rows(select(merges).where(*where).order_by(*order).limit(limit))]


def failed(journal: Accounts, wanted: FailedMergeFilter) -> list[Merge]:
    """Return failed merges, refused events and undeliverable failed events that fit, oldest failure first.

    One that was replayed or goes on by itself never does.
    """
    found = {merge.merge_id: merge for kind in wanted.kinds for merge in _failed(journal, wanted, kind)}
    return sorted(found.values(), key=lambda m: (m.state_at, m.merge_id))[: wanted.limit]


def _failed(journal: Accounts, wanted: FailedMergeFilter, kind: str) -> list[Merge]:
    m = merges.c
    where = [
        m.failed_event == kind if kind == "undeliverable" else m.state == kind,
        m.resume.is_(None), m.replayed_as.is_(None),
    ]  # fmt: skip
    if wanted.codes:
        where.append(m.error_code.in_(wanted.codes))
    if wanted.account:
        where.append(names(wanted.account))
    if wanted.since is not None:
        where.append(m.state_at >= wanted.since)
    if wanted.until is not None:
        where.append(m.state_at < wanted.until)
    found = journal.rows(select(merges).where(*where).order_by(m.state_at, m.merge_id).limit(wanted.limit))
    return [merge_of(row) for row in found]


def count(journal: Accounts, column: str, values: Iterable[str]) -> dict[str, int]:
    """Return value of `state`, `failed_event` or `resume` -> number of merges, up to `MOST`; those with none are left out."""
    found = {}
    for value in values:
        some = select(merges.c.merge_id).where(merges.c[column] == value).limit(MOST).subquery()
        found[value] = int(journal.value(select(func.count()).select_from(some)))
    return {value: number for value, number in found.items() if number}


def count_overdue(journal: Accounts, grace: timedelta) -> int:
    """Return how many settles are due for longer than that, up to `MOST`."""
    late = select(merges.c.merge_id).where(merges.c.settle_at < now() - grace).limit(MOST).subquery()
    return int(journal.value(select(func.count()).select_from(late)))


def by_day(journal: Accounts, span: int = 14) -> MergesByDay:
    """Return the last `span` days, today included, in UTC; the newest `2 * MOST` merges are counted."""
    today = now().date()
    first = today - timedelta(days=span - 1)
    found = MergesByDay({first + timedelta(days=n): Counter() for n in range(span)})
    m = merges.c
    since = datetime.combine(first, datetime.min.time())
    told = select(m.created_at, m.state, m.error_code).where(m.created_at >= since).order_by(m.created_at.desc())
    newest_ = told.limit(2 * MOST).subquery().c
    day = cast(func.timezone("UTC", newest_.created_at), Date)
    counted = select(day, newest_.state, newest_.error_code, func.count()).group_by(
        day, newest_.state, newest_.error_code
    )
    total = 0
    for at, state, code, number in journal.rows(counted):
        total += number
        if at not in found.days:
            continue
        found.days[at][state] += number
        if code:
            found.reasons[code] += number
    found.complete = total < 2 * MOST
    return found
