"""The values that travel between the modules of the core: rows, changes, merges. No I/O."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from account_merge.choices import COMBINE, Choices
from account_merge.states import EntryKind, Origin, State

Key = tuple[Any, ...]
Values = dict[str, Any]


#: What nothing is known of. Rows, writes and changes are made for each row that is read: they are tuples, and share it.
NONE: Mapping[Any, Any] = MappingProxyType({})


class Row(NamedTuple):
    """One account's row of one table, as it was read.

    :param key: the logical key without the account, in the rule's order.
    :param values: logical column -> value; absent and null are the same.
    :param written: logical column -> newest write time of the cell, µs since the epoch.
    :param base: µs; a clock taken before the page that holds this row was asked for, less `CLOCK_MARGIN`.
    :param elements: logical column -> element of a map or set -> its write time, where the server returns it.
    :param ends: logical column -> when the cell expires, s since the epoch; only cells that expire.
    :param frozen: columns that are written as a whole, frozen collections included.
    :param read: µs; that clock itself: a write time up to it is not ahead of us.
    """

    key: Key
    values: Values
    written: Mapping[str, int] = NONE
    base: int = 0
    elements: Mapping[str, Mapping[Any, int]] = NONE
    ends: Mapping[str, int] = NONE
    frozen: frozenset[str] = frozenset()
    read: int = 0


class Write(NamedTuple):
    """One absolute value to write into one column at one timestamp (µs); None deletes the cell.

    For a map or set that is not frozen: the elements to write, and in `remove` the keys or elements to delete.

    :param later: elements with a timestamp of their own: the element there was written ahead of the clock.
    :param expires: s since the epoch; 0: it never expires.
    """

    value: Any
    timestamp: int
    remove: frozenset[Any] = frozenset()
    later: Mapping[Any, int] = NONE
    expires: int = 0


class Change(NamedTuple):
    """What a merge does to one row of the target account, with everything needed to explain and undo it.

    :param sources: source account -> its row's values as read (also kept where nothing changes).
    :param before: the target's row as read, None when the target had no such row.
    :param writes: column -> what is put; empty when the target needs nothing.
    :param create_at: the row must exist afterwards and did not before: the timestamp (µs) of its marker; 0 = it did.
    :param delete_at: the row must be gone afterwards, at this timestamp (µs); 0 = it stays.
    :param why: column -> the strategy's words, for each column that is written.
    :param given: source account -> column -> highest absolute value of a total handed on (before, after) this merge.
    :param notes: readings that the data leaves open; each names both.
    :param unseen: columns of a fold whose value the platform wrote without having seen what it replaced.
    :param choice: whose row stands, where a person chose (see `choices`).
    :param missing: columns (for the row itself "") that were to be written and are not there: the merge was given up.
    :param ends: source account ("" for the target's row before) -> column -> when that cell expires, s since the epoch.
    :param known: source account -> the image of its row that an earlier merge had brought: only what differs is new.
    :param seeded: source account that the retired job had merged -> whether its totals counted as handed on.
    """

    key: Key
    sources: Mapping[str, Values]
    before: Values | None
    writes: Mapping[str, Write]
    create_at: int
    why: Mapping[str, str]
    given: Mapping[str, Mapping[str, tuple[int, int]]]
    notes: tuple[str, ...] = ()
    delete_at: int = 0
    unseen: frozenset[str] = frozenset()
    choice: str = COMBINE
    missing: frozenset[str] = frozenset()
    ends: Mapping[str, Mapping[str, int]] = NONE
    known: Mapping[str, Values] = NONE
    seeded: Mapping[str, bool] = NONE

    @property
    def after(self) -> Values | None:
        """The row as it is once this is written; None when it is deleted, or was not there and is not created."""
        if self.delete_at or (self.before is None and not self.create_at and not self.writes):
            return None
        row = dict(self.before or {})
        for column, write in self.writes.items():
            row[column] = applied(row.get(column), write)
        return {column: value for column, value in row.items() if value is not None}


def applied(old: Any, write: Write) -> Any:
    """Return a column's value once a write is applied; an empty collection is None, as Cassandra has it."""
    if isinstance(write.value, Mapping) or isinstance(old, Mapping) and write.remove:
        kept = {k: v for k, v in (old or {}).items() if k not in write.remove}
        return {**kept, **(write.value or {})} or None
    if isinstance(write.value, set | frozenset) or isinstance(old, set | frozenset) and write.remove:
        return (set(old or ()) - write.remove | set(write.value or ())) or None
    return write.value


class HandedOn(NamedTuple):
    """Share of one source's row that an earlier merge took.

    :param given: column -> highest absolute value of a total handed on.
    :param image: the row's values then, where the share lives in the account at hand.
    :param at: when that was logged, in seconds since the epoch.
    """

    given: Mapping[str, int]
    image: Values | None = None
    at: float = 0.0


class ChangeHeader(NamedTuple):
    """Fields of a change that a search compares; its values are not decoded."""

    key: Key
    delete_at: int
    create_at: int
    writes: Mapping[str, Any]
    notes: Sequence[str]


def row_outcome(kind: EntryKind, change: Change | ChangeHeader) -> str:
    """Return what happened to a row, by the word that counts and reports use."""
    if kind == EntryKind.FOLD:
        return "folded"
    if kind == EntryKind.CLOSED:
        return "left"
    return "deleted" if change.delete_at else "created" if change.create_at else "changed" if change.writes else "same"


def counts_of(kind: EntryKind, changes: Iterable[Change]) -> dict[str, int]:
    """Return rows of an entry by what happened to them, and those with notes as `ambiguous`."""
    counts: dict[str, int] = {}
    for change in changes:
        counts[row_outcome(kind, change)] = counts.get(row_outcome(kind, change), 0) + 1
        if change.notes:
            counts["ambiguous"] = counts.get("ambiguous", 0) + 1
    return counts


@dataclass(frozen=True)
class Entry:
    """One row of the log: a run of neighbouring changes of one table of one merge.

    :param last_key: the greatest key that the table's log has dealt with so far.
    :param base: µs; lowest timestamp of its writes.
    :param attempts: highest attempt number handed out; the writer of the entry owns 0.
    :param kept: the facts that stay of a redacted entry (see `journal.redaction`).
    """

    seq: int
    kind: EntryKind
    last_key: Key | None
    base: int
    changes: tuple[Change, ...]
    attempts: int
    created_at: datetime
    kept: bytes | None = None

    @property
    def seconds(self) -> float:
        """When it was written, in seconds since the epoch; now for an entry without a time."""
        return self.created_at.replace(tzinfo=UTC).timestamp() if self.created_at else time.time()


@dataclass(frozen=True)
class MergeRequest:
    """Request to merge one or more source accounts into one target account.

    :param tables: logical table names; empty means every rule's table.
    :param on_conflict: `combine`, or `skip`: where both accounts have a course and batch, a group, a program or an
        event, the target's rows stay.
    :param source_rows: `keep`, or `deactivate`: the source's enrolments become inactive.
    :param deactivate_sources: deactivate the source accounts themselves once the merge is verified.
    :param dry_run: plan and report; nothing is written to learners' tables.
    :param tenant: the organisation that the event came for (`edata.rootOrgId`); empty for merges by hand.
    :param dated: the event's own time, ms since the epoch; None when it is unknown.
    :param seeded: the retired job did this merge before: the totals of its sources count as handed on.
    :param choices: whose rows stand, where a person chose otherwise than to combine.
    :param doubt: the part of the request that was not believed, for the merge's note.
    """

    sources: tuple[str, ...]
    target: str
    tables: tuple[str, ...] = ()
    on_conflict: str = "combine"
    source_rows: str = "keep"
    dry_run: bool = False
    reason: str = ""
    requested_by: str = ""
    origin: Origin = Origin.API
    mid: str | None = None
    raw: bytes | None = None
    tenant: str = ""
    dated: int | None = None
    seeded: bool = False
    deactivate_sources: bool = False
    choices: Choices = field(default_factory=Choices)
    doubt: str = ""


@dataclass(frozen=True)
class Merge:
    """A merge as the journal has it.

    :param resume: a failed or paused merge is to go on: `wanted`, then `started` until `admit` of its new run begins.
    :param operation: the last undo or redo, `undo-1` say; its logs have that name.
    :param parent: the merge that this one repairs or settles, or whose remains it names.
    :param replayed_as: the merge that a refused event became after it was corrected.
    :param settles: settles that were opened so far; the next is due at `settle_at`, None without one.
    :param digests: log name -> digest of its last entry when the merge was closed; a redacted one has `kept/<log name>` too.
    :param closed_at: when it was closed.
    :param state_at: when it got its state; `updated_at` moves with every other change as well.
    :param expiry: `begun`, then `done` when its images are gone, at `images_gone`.
    :param former: the state that an erased merge had.
    :param plan: salt of the plan that a second person approves; gone once the merge is admitted or closed.
    """

    merge_id: uuid.UUID
    state: State
    attempt: int
    request: MergeRequest
    survivor: str | None = None
    waiting_for: str | None = None
    waiting_holder: uuid.UUID | None = None
    error_code: str | None = None
    error: str | None = None
    remedy: str | None = None
    failed_event: str = "none"
    failed_number: int = 1
    failed_at: datetime | None = None
    failed_offsets: Mapping[str, int] = field(default_factory=dict)
    run_ids: tuple[str, ...] = ()
    sync_sent: int | None = None
    rules_hash: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    note: str | None = None
    resume: str | None = None
    operation: str | None = None
    parent: uuid.UUID | None = None
    replayed_as: uuid.UUID | None = None
    digests: Mapping[str, bytes] = field(default_factory=dict)
    settles: int = 0
    settle_at: datetime | None = None
    closed_at: datetime | None = None
    expiry: str | None = None
    images_gone: datetime | None = None
    former: State | None = None
    plan: bytes | None = None
    approved_by: str | None = None
    approval_run: str | None = None
    state_at: datetime | None = None

    @classmethod
    def unopened(cls, merge_id: uuid.UUID, request: MergeRequest, state: State) -> Merge:
        """Return a merge that is not in the journal: a preview, or one that is checked before it is opened."""
        return cls(merge_id, state, 0, request)

    @property
    def target(self) -> str:
        """The account that it writes to: the one where the history of the requested target lives."""
        return self.survivor or self.request.target

    @property
    def effective_state(self) -> State:
        """The state; for an erased merge the one that it had, since its effect on rows and totals stays."""
        return self.former or self.state

    @property
    def ended_at(self) -> datetime | None:
        """When it was closed, or last changed."""
        return self.closed_at or self.updated_at

    @property
    def accounts(self) -> tuple[str, ...]:
        """Source accounts and the account the merge writes to, sorted, each once."""
        return tuple(sorted({*self.request.sources, self.target}))
