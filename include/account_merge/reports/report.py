"""A merge as people and programs read it: per table and row, target before, source, after and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypedDict

from account_merge.jsonable import jsonable
from account_merge.model import Change, Entry, Merge, row_outcome
from account_merge.states import EntryKind, State
from account_merge.sunbird.schema import TableSchema

#: Why a table is left out.
NOT_CHOSEN, NO_TABLE = "not among the tables of this merge", "this cluster has no such table"
#: Why a row of a merge that was given up does not hold what its log says.
NOT_WRITTEN = "not written: the merge was given up"


class ReportRow(TypedDict):
    """A row of a report, in JSON's types.

    :param columns: those that were written, or were to be.
    :param missing: those that were to be written and are not there; "" is the row itself.
    """

    key: dict[str, Any]
    what: str
    before: dict[str, Any] | None
    sources: dict[str, dict[str, Any]]
    after: dict[str, Any] | None
    columns: list[str]
    why: dict[str, str]
    missing: list[str]
    notes: list[str]
    choice: str


def row_of(change: Change, schema: TableSchema, kind: EntryKind = EntryKind.CHANGES) -> ReportRow:
    """Return a change as a row of a report."""
    return {
        "key": dict(zip(schema.key, map(jsonable, change.key), strict=True)),
        "what": row_outcome(kind, change),
        "before": None if change.before is None else jsonable(change.before),
        "sources": jsonable(change.sources),
        "after": None if change.after is None else jsonable(change.after),
        "columns": sorted({*change.writes, *change.missing} - {""}),
        "why": dict(change.why) | dict.fromkeys(sorted(change.missing), NOT_WRITTEN),
        "missing": sorted(change.missing),
        "notes": list(change.notes),
        "choice": change.choice,
    }


def _dated(ms: int | None) -> str | None:
    return None if ms is None else jsonable(datetime(1970, 1, 1) + timedelta(milliseconds=ms))


#: How far one table of a merge, or of an undo, is.
STAGES = ("done", "begun", "not reached", "left out")


@dataclass(frozen=True)
class TableReport:
    """One table of a report. `rows` may be a stream that is read once.

    :param entries: how many entries its log has.
    :param digest: the digest of the last of them (hexadecimal), which covers all.
    :param stage: how far the table is, one of STAGES.
    :param operation: the undo or redo whose log this is, `undo-1` say; empty for the merge's own.
    """

    table: str
    note: str
    counts: Mapping[str, int] = field(default_factory=dict)
    rows: Iterable[ReportRow] = ()
    entries: int = 0
    digest: str = ""
    stage: str = ""
    operation: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the table with all its rows, in JSON's types."""
        return {**vars(self), "counts": dict(self.counts), "rows": list(self.rows)}


@dataclass(frozen=True)
class Report:
    """A merge with its tables.

    :param coverage: counts of tables that rules know, and the unknown ones by name.
    """

    merge: Merge
    tables: tuple[TableReport, ...]
    preview: bool = False
    coverage: Mapping[str, Any] = field(default_factory=dict)

    def head(self) -> dict[str, Any]:
        """Return the merge without its rows: ids, state, error. All but the typed reason is safe for logs."""
        m = self.merge
        return {
            "merge_id": str(m.merge_id),
            "state": (State.PREVIEW if self.preview else m.state).value,
            "source_accounts": list(m.request.sources),
            "target_account": m.request.target,
            "survivor": m.survivor,
            "mid": m.request.mid,
            "origin": m.request.origin.value,
            "reason": m.request.reason,
            "waiting_for": m.waiting_for,
            "waiting_holder": str(m.waiting_holder) if m.waiting_holder else None,
            "error": {"code": m.error_code, "message": m.error, "remedy": m.remedy} if m.error_code else None,
            "failed_event": m.failed_event,
            "sync_sent": m.sync_sent,
            "approved_by": m.approved_by,
            "tenant": m.request.tenant,
            "seeded": m.request.seeded,
            "dated": _dated(m.request.dated),
            "resume": m.resume,
            "replayed_as": str(m.replayed_as) if m.replayed_as else None,
            "note": m.note,
            "run_ids": list(m.run_ids),
            "expiry": m.expiry,
            "images_gone": jsonable(m.images_gone),
            "state_before_erasure": m.former and m.former.value,
            "created_at": jsonable(m.created_at),
            "state_at": jsonable(m.state_at),
            "closed_at": jsonable(m.closed_at),
            "updated_at": jsonable(m.updated_at),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the whole report; reads every table's rows."""
        return {
            **self.head(),
            "coverage": dict(self.coverage),
            "tables": [t.to_dict() for t in self.tables],
        }


def rows_of(entries: Iterable[Entry], schema: TableSchema) -> Iterator[ReportRow]:
    """Yield the report's rows of a log, entry by entry."""
    for entry in entries:
        yield from (row_of(change, schema, entry.kind) for change in entry.changes)
