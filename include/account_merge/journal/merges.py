"""The table merges: what was asked, and how far it is. Searches are by index: a hint, confirmed by key."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from account_merge.choices import Choices
from account_merge.errors import MergeError, NeedsAttention
from account_merge.journal.cas import JournalSession, now
from account_merge.journal.options import options_of, tenant_of
from account_merge.model import Merge, MergeRequest
from account_merge.states import CLOSED, Origin, State, allowed

#: These come from a merge; they have no settles themselves.
CHILDREN = frozenset({Origin.REPAIR, Origin.SETTLE})


class Merges(JournalSession):
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
        moment = now()
        return self.write_if(
            "INSERT INTO {ks}.merges (merge_id, state, attempt, accounts, sources, target, tables, options, reason, "
            "requested_by, origin, mid, topic_position, raw, failed_event, failed_number, error_code, error, remedy, "
            "run_ids, parent, day, created_at, state_at, updated_at, closed_at) VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
            "?, 1, ?, ?, ?, [], ?, ?, ?, ?, ?, ?) IF NOT EXISTS",
            [
                merge_id,
                state,
                {*request.sources, request.target} - {""},
                list(request.sources),
                request.target,
                list(request.tables),
                options_of(replace(request, choices=request.choices.hidden(self.hidden))),
                request.reason,
                request.requested_by,
                request.origin,
                request.mid,
                position,
                request.raw,
                "due" if error else "none",
                error.code if error else None,
                error.message if error else None,
                error.remedy if error else None,
                parent,
                moment.date(),
                moment,
                moment,
                moment,
                moment if state in CLOSED else None,
            ],
        )

    def get(self, merge_id: uuid.UUID) -> Merge | None:
        """Return a merge as it is now (SERIAL), or None."""
        rows = self.read("SELECT * FROM {ks}.merges WHERE merge_id = ?", [merge_id])
        return self._known(rows[0]) if rows and rows[0].state else None

    def _known(self, row: Any) -> Merge:
        try:
            return _merge(row)
        except AttributeError as error:
            if error.obj is not row:
                raise
            raise self.not_created() from error  # the row lacks a column

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
        """Merge that must exist, by their ids as text."""
        return [self.need(uuid.UUID(text)) for text in merge_ids]

    def move(self, merge: Merge, state: State, **columns: Any) -> bool:
        """One conditional write from the state that was read to another; False when somebody else was faster."""
        if state != merge.state and not allowed(merge.state, state):
            raise NeedsAttention(
                "WRONG_STATE",
                f"merge {merge.merge_id} is {merge.state} and cannot become {state}",
                "Look at the merge's report: python -m account_merge show " + str(merge.merge_id),
            )
        return self.change(merge, state=state, **columns)

    def change(self, merge: Merge, **columns: Any) -> bool:
        """Set columns of a merge's row if state, attempt, failed event, undo, plan and expiry are still those that were read.

        An undo and a redo lead back to the same state: only their name tells that they happened.
        """
        columns["updated_at"] = now()
        if columns.get("state", merge.state) != merge.state:
            columns["state_at"] = columns["updated_at"]
        if columns.get("state") in CLOSED - {merge.state, State.ERASED}:
            columns["closed_at"] = columns["updated_at"]
            if merge.plan and columns["state"] != State.REFUSED:  # a refused one may be opened again, with its plan
                columns["plan"] = None
        sets = ", ".join(f"{name} = ?" for name in columns)
        return self.write_if(
            f"UPDATE {{ks}}.merges SET {sets} WHERE merge_id = ? IF state = ? AND attempt = ? AND failed_event = ? "
            "AND failed_number = ? AND expiry = ? AND operation = ? AND plan = ?",
            [
                *columns.values(),
                merge.merge_id,
                merge.state,
                merge.attempt,
                merge.failed_event,
                merge.failed_number,
                merge.expiry,
                merge.operation,
                merge.plan,
            ],
        )

    def hints(self, column: str, value: Any) -> Iterator[Any]:
        """Merge by an index (see `find`), page by page and unconfirmed: enough to count them or to sort some out."""
        test = "CONTAINS" if column == "accounts" else "="
        columns = (
            "merge_id, options, accounts, error_code, state_at, updated_at, resume, replayed_as, closed_at, expiry"
        )
        cql = f"SELECT {columns} FROM {{ks}}.merges WHERE {column} {test} ?"
        yield from self.stream(cql, [value], serial=False)

    def find(self, column: str, value: Any, limit: int = 2000, but: Collection[str] = ()) -> list[Merge]:
        """Merge by `state`, `failed_event`, `resume`, `day` or `accounts`: hints, each confirmed by key (SERIAL).

        :param but: tenants whose merges are left out before they count towards `limit`.
        """
        rows = (row for row in self.hints(column, value) if not but or tenant_of(row.options) not in but)
        found = [m for row in islice(rows, limit) if (m := self.get(row.merge_id)) is not None]
        kept = [m for m in found if column not in ("state", "failed_event", "resume") or getattr(m, column) == value]
        return sorted(kept, key=lambda m: (m.created_at or datetime.min, str(m.merge_id)))

    def all(self, limit: int = 1000) -> list[Merge]:
        """Merge in no promised order, for listings."""
        rows = self.read(f"SELECT * FROM {{ks}}.merges LIMIT {limit}", serial=False)
        return sorted((self._known(r) for r in rows if r.state), key=lambda m: m.created_at or datetime.min)


def next_settle(pauses: tuple[float, ...], done: int, since: datetime) -> dict[str, Any]:
    """Return columns of the merge's row: how many settles were opened, and when the next one is due.

    :param pauses: seconds between the merge's end and each settle.
    :param done: how many were opened, this time included.
    :param since: the merge's end, or for a later one the time when the one before was due.
    """
    if done >= len(pauses):
        return {"settles": done, "settle_at": None, "settle_day": None}
    due = since + timedelta(seconds=pauses[done] - (pauses[done - 1] if done else 0))
    return {"settles": done, "settle_at": due, "settle_day": due.date()}


def _merge(row: Any) -> Merge:
    options: Mapping[str, str] = row.options or {}
    request = MergeRequest(
        tuple(row.sources or ()),
        row.target or "",
        tuple(row.tables or ()),
        options.get("on_conflict", "combine"),
        options.get("source_rows", "keep"),
        options.get("dry_run") == "true",
        row.reason or "",
        row.requested_by or "",
        Origin(row.origin or Origin.API),
        row.mid,
        row.raw,
        tenant_of(options),
        int(options["dated"]) if "dated" in options else None,
        options.get("seeded") == "true",
        options.get("deactivate_sources") == "true",
        Choices.of_text(options.get("choices", "")),
        options.get("doubt", ""),
    )
    return Merge(
        row.merge_id,
        State(row.state),
        row.attempt or 0,
        request,
        row.survivor,
        row.waiting_for,
        row.waiting_holder,
        row.error_code,
        row.error,
        row.remedy,
        row.failed_event or "none",
        row.failed_number or 1,
        row.failed_at,
        dict(row.failed_offsets or {}),
        tuple(row.run_ids or ()),
        row.sync_sent,
        row.rules_hash,
        row.created_at,
        row.updated_at,
        row.note,
        row.resume,
        row.operation,
        row.parent,
        row.replayed_as,
        dict(row.digests or {}),
        row.settles or 0,
        row.settle_at,
        row.closed_at,
        row.expiry,
        row.images_gone,
        State(row.former) if row.former else None,
        row.plan,
        row.approved_by,
        row.approval_run,
        state_at=row.state_at,
    )
