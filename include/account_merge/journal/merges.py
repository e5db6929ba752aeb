"""The table merges: what was asked, and how far it is. A change names what it read; the history says how it came."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    any_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from account_merge.acting import actor
from account_merge.errors import MergeError, NeedsAttention
from account_merge.journal.changing import change_of, freed, new_names, opening, overtakes, with_times
from account_merge.journal.clock import now
from account_merge.journal.identity import Identity
from account_merge.journal.rows import merge_of, request_columns
from account_merge.journal.schema import accounts, failed_events, history, merge_accounts, merges
from account_merge.model import Merge, MergeRequest
from account_merge.states import CLOSED, Origin, State, allowed

#: These come from a merge; they have no settles themselves.
CHILDREN = frozenset({Origin.REPAIR, Origin.SETTLE})
_AT_ONCE = 100  # merges opened by one statement
# Statements that every merge needs are made once: making one takes longer than the server does with it.
_ONE = select(merges).where(merges.c.merge_id == bindparam("merge", type_=merges.c.merge_id.type))
_ONE_LOCKED = _ONE.with_for_update(key_share=True)


@dataclass(frozen=True)
class Opened:
    """One merge to open.

    :param position: where the request stands: topic, partition and offset of an event.
    :param error: why it is refused; it owes a failed event then.
    :param parent: the merge that this one repairs.
    """

    merge_id: uuid.UUID
    request: MergeRequest
    position: str = ""
    state: State = State.REQUESTED
    error: MergeError | None = None
    parent: uuid.UUID | None = None


class Merges(Identity):
    """Merges and their states."""

    def open(
        self,
        merge_id: uuid.UUID,
        request: MergeRequest,
        position: str = "",
        state: State = State.REQUESTED,
        error: MergeError | None = None,
        parent: uuid.UUID | None = None,
    ) -> bool:
        """Write a merge once; False when it is already there (a redelivered event, a cleared run).

        :param parent: the merge that this one repairs.
        """
        return merge_id in self.open_all([Opened(merge_id, request, position, state, error, parent)])

    def open_all(self, wanted: Sequence[Opened]) -> set[uuid.UUID]:
        """Write merges once; return the ids of those that were not there. All of a call, or none."""
        if len(wanted) <= _AT_ONCE:
            return self._open(wanted)
        with self.transaction():
            portions = (wanted[at : at + _AT_ONCE] for at in range(0, len(wanted), _AT_ONCE))
            return set().union(*(self._open(portion) for portion in portions))

    def _open(self, wanted: Sequence[Opened]) -> set[uuid.UUID]:
        if not wanted:
            return set()
        moment, who = now(), actor()
        # They are opened in this order, and the oldest starts first.
        order = enumerate({one.merge_id: one for one in wanted}.values())
        values = [self._row_of(one, moment + timedelta(microseconds=place)) for place, one in order]
        given = {f"{name}_{number}": value for number, row in enumerate(values) for name, value in row.items()}
        told = {"told_at": moment, "told_actor": who.name, "told_run_id": who.run_id, "told_task_id": who.task_id}
        return {row.merge_id for row in self.rows(opening(tuple(values[0]), len(values)), given | told)}

    def _row_of(self, one: Opened, moment: datetime) -> dict[str, Any]:
        request, error = one.request, one.error
        return {
            "merge_id": one.merge_id, "state": one.state, "tables": list(request.tables),
            **request_columns(replace(request, choices=request.choices.hidden(self.hidden))),
            "reason": request.reason, "requested_by": request.requested_by, "origin": request.origin,
            "topic_position": one.position, "raw": request.raw, "parent": one.parent,
            "failed_event": "due" if error else "none", "error_code": error.code if error else None,
            "error": error.message if error else None, "remedy": error.remedy if error else None,
            "created_at": moment, "state_at": moment, "updated_at": moment,
            "closed_at": moment if one.state in CLOSED else None,
        }  # fmt: skip

    # --- reading ----------------------------------------------------------------------------------------------------
    def get(self, merge_id: uuid.UUID) -> Merge | None:
        """Return a merge as it is now, or None."""
        row = self.row(_ONE, {"merge": merge_id})
        return None if row is None else merge_of(row)

    def get_all(self, merge_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Merge]:
        """Return those of these merges that there are, by one statement."""
        if not merge_ids:
            return {}
        found = self.rows(select(merges).where(merges.c.merge_id.in_(list(merge_ids))))
        return {row.merge_id: merge_of(row) for row in found}

    def need(self, merge_id: uuid.UUID) -> Merge:
        """Return a merge that must exist."""
        merge = self.get(merge_id)
        if merge is None:
            raise NeedsAttention(
                "UNKNOWN_MERGE",
                f"the journal has no merge {merge_id}",
                "Check the id with `python -m account_merge list`.",
            )
        return merge

    def needed(self, merge_ids: Iterable[str]) -> list[Merge]:
        """Return merges that must exist, by their ids as text, in this order."""
        ids = [uuid.UUID(text) for text in merge_ids]
        found = self.get_all(ids)
        return [found[one] if one in found else self.need(one) for one in ids]

    def lock(self, merge_id: uuid.UUID) -> Merge:
        """Return a merge that must exist; nobody else changes it until this transaction ends."""
        row = self.row(_ONE_LOCKED, {"merge": merge_id})
        return self.need(merge_id) if row is None else merge_of(row)

    # --- changing ---------------------------------------------------------------------------------------------------
    def move(self, merge: Merge, state: State, **columns: Any) -> bool:
        """Change a merge from the state that was read to another; False when somebody else was faster."""
        return self.moved(merge, state, **columns) is not None

    def moved(self, merge: Merge, state: State, **columns: Any) -> Merge | None:
        """Change a merge from the state that was read to another, and return it; None when somebody else was faster."""
        if state != merge.state and not allowed(merge.state, state):
            raise NeedsAttention(
                "WRONG_STATE",
                f"merge {merge.merge_id} is {merge.state} and cannot become {state}",
                "Look at the merge's report: python -m account_merge show " + str(merge.merge_id),
            )
        return self._changed(merge, {**columns, "state": state})

    def change(self, merge: Merge, **columns: Any) -> bool:
        """Set columns of a merge's row if state, attempt, failed event, undo, plan and expiry are still those that were read.

        A merge that is closed by it gives its accounts back by the same statement. One that waits for an account is found
        when that account is free. A failed event that is still owed when the next one is armed stays owed.
        """
        return self._changed(merge, columns) is not None

    def _changed(self, merge: Merge, columns: dict[str, Any]) -> Merge | None:
        state = columns.get("state", merge.state)
        columns = with_times(merge, state, columns)
        statement, values = change_of(merge, state, columns)
        names = new_names(merge, columns)
        if names is None and (state == merge.state or state != State.WAITING) and not overtakes(merge, columns):
            row = self.row(statement, values)
            return None if row is None else merge_of(row)
        with self.transaction():
            row = self.row(statement, values)
            if row is not None:
                self._follow(merge, columns, names)
        return None if row is None else merge_of(row)

    def _follow(self, merge: Merge, columns: Mapping[str, Any], names: Collection[str] | None) -> None:
        """Do what a change of a merge's row means for other rows, in its transaction."""
        if names is not None:
            self.run(delete(merge_accounts).where(merge_accounts.c.merge_id == merge.merge_id))
            if names:
                rows = [{"account_id": name, "merge_id": merge.merge_id} for name in sorted(names)]
                self.run(insert(merge_accounts), rows)
        if overtakes(merge, columns):
            self._keep_owed(merge)
        if columns.get("state", merge.state) == State.WAITING != merge.state:
            self.want([columns["waiting_for"]])

    def _keep_owed(self, merge: Merge) -> None:
        """Keep the failed event that a merge owes when its next failure gets one of its own."""
        self.run(insert(failed_events), [{
            "merge_id": merge.merge_id, "number": merge.failed_number, "state": merge.failed_event,
            "code": merge.error_code or "RUN_FAILED", "error": merge.error or "", "remedy": merge.remedy or "",
            "refused": merge.state == State.REFUSED, "sent_at": merge.failed_at, "offsets": dict(merge.failed_offsets),
        }])  # fmt: skip

    def want(self, account_ids: Iterable[str]) -> None:
        """Mark accounts that merges wait for, also those that nobody has held yet."""
        rows = [{"account_id": name, "wanted": True} for name in sorted(set(account_ids))]
        put = upsert(accounts).values(rows)
        self.run(put.on_conflict_do_update(index_elements=[accounts.c.account_id], set_={"wanted": True}))

    def free(self, merge_id: uuid.UUID) -> None:
        """Give all accounts back that a merge holds."""
        self.run(freed(literal(merge_id, merges.c.merge_id.type)))

    # --- searching --------------------------------------------------------------------------------------------------
    def find(self, column: str, value: Any, limit: int = 2000, but: Collection[str] = ()) -> list[Merge]:
        """Return merges by `state`, `failed_event`, `resume`, `parent` or `accounts`, oldest first.

        :param but: tenants whose merges are left out before they count towards `limit`.
        """
        wanted = names(value) if column == "accounts" else merges.c[column] == value
        return self.search([wanted], limit, but)

    def search(self, where: Sequence[ColumnElement[bool]], limit: int, but: Collection[str] = ()) -> list[Merge]:
        """Return merges that meet all conditions, oldest first.

        :param but: see `find`.
        """
        others = [merges.c.tenant.not_in(sorted(but))] if but else []
        order = merges.c.created_at, merges.c.merge_id
        found = self.rows(select(merges).where(*where, *others).order_by(*order).limit(limit))
        return [merge_of(row) for row in found]

    def nameless(self) -> Iterator[Merge]:
        """Yield the refused events whose accounts could not be read and whose text is there."""
        m = merges.c
        wanted = select(merges).where(m.state == State.REFUSED, m.target == "", m.expiry.is_distinct_from("done"))

        def page(after: uuid.UUID | None) -> Sequence[Row[Any]]:
            behind = wanted if after is None else wanted.where(m.merge_id > after)
            return self.rows(behind.order_by(m.merge_id).limit(_AT_ONCE))

        return map(merge_of, self.page_by_page(page, lambda row: row.merge_id, _AT_ONCE))

    def history(self, merge_id: uuid.UUID) -> list[Row[Any]]:
        """Return every change of a merge's state, oldest first."""
        return self.rows(select(history).where(history.c.merge_id == merge_id).order_by(history.c.position))

    def forget_words(self, merge_id: uuid.UUID, names: Collection[str] = ()) -> None:
        """Take the free texts out of a merge's history, and who acted when it was one of these."""
        words = dict.fromkeys(("note", "error"))
        mine = history.c.merge_id == merge_id
        self.run(update(history).where(mine).values(**words))
        if names:
            self.run(update(history).where(mine).values(run_id=None))
            self.run(update(history).where(mine, history.c.actor.in_(sorted(names))).values(actor=None))

    def all(self, limit: int = 1000) -> list[Merge]:
        """Return merges for listings, oldest first."""
        return self.search([], limit)


def names(account_id: str) -> ColumnElement[bool]:
    """Return the condition that a merge names an account.

    Its merges are looked up before anything else: else PostgreSQL may go through all merges by time to find old ones.
    """
    mine = select(merge_accounts.c.merge_id).where(merge_accounts.c.account_id == account_id)
    return merges.c.merge_id == any_(func.array(mine.scalar_subquery()))


def next_settle(pauses: tuple[float, ...], done: int, since: datetime) -> dict[str, Any]:
    """Return columns of the merge's row: how many settles were opened, and when the next one is due.

    :param pauses: seconds between the merge's end and each settle.
    :param done: how many were opened, this time included.
    :param since: the merge's end, or for a later one the time when the one before was due.
    """
    if done >= len(pauses):
        return {"settles": done, "settle_at": None}
    return {"settles": done, "settle_at": since + timedelta(seconds=pauses[done] - (pauses[done - 1] if done else 0))}
