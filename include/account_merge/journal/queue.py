"""The queue: which merges can start, which settles and expiries are due. Each question reads a small index, in order.

A merge that another one blocks hangs under the account that it waits for. An account that merges wait for is `wanted`; as
soon as nobody holds it, its oldest waiting merge is found. So what waits costs nothing while it waits.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Text, and_, exists, func, insert, literal, or_, select, true, update
from sqlalchemy import column as named_column
from sqlalchemy import values as table_of

from account_merge.acting import actor
from account_merge.journal.accounts import Accounts
from account_merge.journal.clock import now
from account_merge.journal.rows import merge_of
from account_merge.journal.schema import accounts, beyond, history, merge_accounts, merges
from account_merge.model import Merge
from account_merge.states import RESUMABLE, State

_STARTED = merges.c.state == State.STARTED
#: A failed merge that goes on: until its run has begun, nobody overtakes it.
_RESUMING = and_(merges.c.resume == "started", merges.c.state.in_([s.value for s in RESUMABLE]))
_AGE = merges.c.created_at, merges.c.merge_id


@dataclass(frozen=True)
class Parked:
    """A merge that has to wait: for which account, and for whom."""

    merge: Merge
    account: str
    holder: uuid.UUID


class Queue:
    """Questions about what can be done now; `stopped` are the tenants whose merges a switch stops."""

    def __init__(self, journal: Accounts) -> None:
        self._journal = journal

    def requested(self, stopped: Collection[str], after: Merge | None, limit: int) -> list[Merge]:
        """Return requested merges, oldest first, behind one of them."""
        behind = [beyond(_AGE, (after.created_at, after.merge_id))] if after else []
        return self._merges([merges.c.state == State.REQUESTED, *_others(stopped), *behind], limit)

    def released(self, stopped: Collection[str], limit: int) -> list[Merge]:
        """Return the oldest waiting merge of each account that is free again."""
        w = merges.c
        oldest = (
            select(merges)
            .where(w.state == State.WAITING, w.waiting_for == accounts.c.account_id, *_others(stopped))
            .order_by(*_AGE)
            .limit(1)
            .lateral()
        )
        about = merges.alias("starting").c
        named = merge_accounts.c.account_id == accounts.c.account_id, merge_accounts.c.merge_id == about.merge_id
        starting = exists().where(*named, about.state == State.STARTED)
        free = accounts.c.wanted, accounts.c.held_by.is_(None), ~starting
        found = select(oldest).select_from(accounts).join(oldest, true()).where(*free).limit(limit)
        return [merge_of(row) for row in self._journal.rows(found)]

    def of_run(self, run_id: str, limit: int) -> list[Merge]:
        """Return the merges that a run has begun, or is to begin, and has not ended; oldest first."""
        return self._merges(_of_run(run_id), limit)

    def number_of_run(self, run_id: str) -> int:
        """Return how many these are."""
        return int(self._journal.value(select(func.count()).select_from(merges).where(*_of_run(run_id))))

    def resumable(self, stopped: Collection[str], limit: int) -> list[Merge]:
        """Return failed and paused merges that are to go on, oldest first."""
        wanted = merges.c.resume == "wanted", merges.c.state.in_([s.value for s in RESUMABLE])
        return self._merges([*wanted, *_others(stopped)], limit)

    def forget_unwanted(self) -> None:
        """Take the mark off accounts that nobody waits for any more."""
        journal, waiting = (
            self._journal,
            exists().where(merges.c.state == State.WAITING, merges.c.waiting_for == accounts.c.account_id),
        )
        free = select(accounts.c.account_id).where(accounts.c.wanted, accounts.c.held_by.is_(None), ~waiting)
        with journal.transaction():
            rows = journal.rows(free.order_by(accounts.c.account_id).limit(1000).with_for_update(skip_locked=True))
            names = [row.account_id for row in rows]
            if names:  # asked again now that they are locked: a merge may have begun to wait between the two
                journal.run(update(accounts).where(accounts.c.account_id.in_(names), ~waiting).values(wanted=False))

    def starting(self) -> dict[str, uuid.UUID]:
        """Return account -> merge, of the merges whose run has begun and that do not hold their accounts yet."""
        about = select(merge_accounts).join(merges, merges.c.merge_id == merge_accounts.c.merge_id)
        return {row.account_id: row.merge_id for row in self._journal.rows(about.where(or_(_STARTED, _RESUMING)))}

    def held(self, names: Iterable[str]) -> dict[str, uuid.UUID]:
        """Return account -> the open merge that holds it, of those accounts that are held."""
        wanted = sorted(set(names))
        held = accounts.c.account_id.in_(wanted), accounts.c.held_by.is_not(None)
        return {row.account_id: row.held_by for row in self._journal.rows(select(accounts).where(*held))}

    def under_way(self, states: Iterable[State]) -> int:
        """Return how many merges are in these states."""
        wanted = merges.c.state.in_([state.value for state in states])
        return int(self._journal.value(select(func.count()).select_from(merges).where(wanted)))

    def park(self, parked: Sequence[Parked]) -> None:
        """Let merges wait, each under the account that another one has; those that changed meanwhile stay as they are."""
        if not parked:
            return
        moment, who, m = now(), actor(), merges.c
        rows = table_of(
            named_column("merge_id", m.merge_id.type), named_column("account", Text), named_column("holder", m.merge_id.type),
            named_column("note", Text), name="parked",
        ).data([(p.merge.merge_id, p.account, p.holder, f"waits for account {p.account}, which merge {p.holder} has")
                for p in parked])  # fmt: skip
        waits = (
            update(merges)
            .where(m.merge_id == rows.c.merge_id, m.state.in_([State.REQUESTED.value, State.WAITING.value]))
            .values(state=State.WAITING, waiting_for=rows.c.account, waiting_holder=rows.c.holder, note=rows.c.note,
                    updated_at=moment, state_at=moment)
            .returning(m.merge_id, m.note)
            .cte("waits")
        )  # fmt: skip
        told = insert(history).from_select(
            ["merge_id", "at", "before", "after", "actor", "run_id", "task_id", "note"],
            select(waits.c.merge_id, literal(moment, m.created_at.type), literal("requested", Text), literal("waiting", Text),
                   literal(who.name, Text), literal(who.run_id, Text), literal(who.task_id, Text), waits.c.note),
        )  # fmt: skip
        with self._journal.transaction():
            self._journal.run(told)
            self._journal.want(one.account for one in parked)

    def untouched(self, since: datetime, states: Iterable[State], stopped: Collection[str], limit: int) -> list[Merge]:
        """Return merges in these states whose row nobody changed since then, the longest untouched first."""
        m = merges.c
        where = m.state.in_([state.value for state in states]), m.updated_at < since, *_others(stopped)
        return [
            merge_of(row)
            for row in self._journal.rows(select(merges).where(*where).order_by(m.updated_at).limit(limit))
        ]

    def resuming(self, since: datetime, stopped: Collection[str], limit: int) -> list[Merge]:
        """Return failed and paused merges whose new run was begun and did not come to them since then."""
        return self._merges([_RESUMING, merges.c.updated_at < since, *_others(stopped)], limit)

    def to_settle(self, until: datetime, after: Merge | None, limit: int) -> list[Merge]:
        """Return the completed merges whose next settle is due by then, the longest due first."""
        m = merges.c
        behind = [beyond((m.settle_at, m.merge_id), (after.settle_at, after.merge_id))] if after else []
        due = select(merges).where(m.settle_at <= until, m.state == State.COMPLETED, *behind)
        return [merge_of(row) for row in self._journal.rows(due.order_by(m.settle_at, m.merge_id).limit(limit))]

    def with_images(self, until: datetime, after: tuple[datetime, uuid.UUID] | None, limit: int) -> list[Merge]:
        """Return merges that were closed by then and still have their images, oldest first, behind a place."""
        m = merges.c
        behind = [beyond((m.closed_at, m.merge_id), after)] if after else []
        old = select(merges).where(m.closed_at <= until, m.expiry.is_distinct_from("done"), *behind)
        return [merge_of(row) for row in self._journal.rows(old.order_by(m.closed_at, m.merge_id).limit(limit))]

    def _merges(self, where: Sequence[ColumnElement[bool]], limit: int) -> list[Merge]:
        return [merge_of(row) for row in self._journal.rows(select(merges).where(*where).order_by(*_AGE).limit(limit))]


def _of_run(run_id: str) -> list[ColumnElement[bool]]:
    newest = merges.c.run_ids[func.cardinality(merges.c.run_ids)] == run_id
    return [merges.c.state.in_([State.STARTED.value, State.RUNNING.value]), newest]


def _others(stopped: Collection[str]) -> list[ColumnElement[bool]]:
    return [merges.c.tenant.not_in(sorted(stopped))] if stopped else []
