"""The answers about merges, runs and reports, with examples."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from account_merge.reports.report import Report

MERGE = "f9f25bc9-fb1d-5408-bcbd-b2003dcbcd4e"


class LineOut(BaseModel):
    """The result of one line."""

    line: int
    code: str = Field(examples=["OPENED"])
    merge_id: uuid.UUID | None
    note: str
    remedy: str
    counts: dict[str, dict[str, int]] = Field(description="Table: what the merge would do, for the first lines.")
    status_url: str | None


class UploadOut(BaseModel):
    """The result of each line; the poll starts the merges that were opened."""

    dry_run: bool
    codes: dict[str, int]
    bad: int = Field(description="Lines that name no merge, or one that cannot be.")
    lines: list[LineOut]


class ErrorOut(BaseModel):
    """The error of a merge, and what to do."""

    code: str
    message: str
    remedy: str | None


class MergeOut(BaseModel):
    """A merge as the journal knows it."""

    merge_id: uuid.UUID = Field(examples=[MERGE])
    state: str = Field(examples=["completed"])
    source_accounts: list[str]
    target_account: str
    survivor: str | None = Field(description="Where the rows went: the target, or what it was itself merged into.")
    mid: str | None
    origin: str = Field(examples=["api"])
    reason: str
    tenant: str
    waiting_for: str | None
    waiting_holder: uuid.UUID | None
    error: ErrorOut | None
    failed_event: str
    sync_sent: int | None
    approved_by: str | None = Field(description="The second person, where a merge was proposed.")
    resume: str | None
    replayed_as: uuid.UUID | None
    note: str | None
    run_ids: list[str]
    created_at: str | None
    state_at: str | None = Field(description="Since when it is in its state.")
    closed_at: str | None = Field(description="When it ended, the last time; null: it never did.")
    updated_at: str | None = Field(description="When the journal noted anything of it last, a settle for instance.")

    @classmethod
    def of(cls, merge: Any) -> MergeOut:
        """Return the answer for a merge of the core."""
        return cls.model_validate(Report(merge, ()).head())


class MergesOut(BaseModel):
    """A page of merges, newest first."""

    merges: list[MergeOut]
    next: str | None = Field(description="The cursor of the next page; null on the last.")


class Moment(BaseModel):
    """One thing that happened to a merge."""

    at: str
    what: str
    note: str


class Possible(BaseModel):
    """Whether an action is possible now, and why not."""

    possible: bool
    code: str | None = None
    detail: str | None = None
    remedy: str | None = None


class RunOut(BaseModel):
    """A DAG run."""

    dag_id: str = Field(examples=["account_merge"])
    run_id: str
    state: str | None = Field(None, examples=["running"])
    status_url: str = Field(description="Where its state can be asked for.")
    page: str = Field(description="Its page in Airflow.")


class MergeStatus(BaseModel):
    """A merge, its story, its runs and its possible actions."""

    merge: MergeOut
    timeline: list[Moment]
    actions: dict[str, Possible]
    runs: list[RunOut]
    approval: RunOut | None = Field(None, description="The run that waits, or waited, for a second person.")


class Accepted(BaseModel):
    """A request that will be carried out; `status_url` tells how far it is."""

    merge_id: uuid.UUID | None
    state: str | None
    status_url: str
    run: RunOut | None = Field(description="The run that does it; null: the poll starts one when it can.")


class ChangedRow(BaseModel):
    """A row whose result is not the proposed one any more."""

    table: str
    what: str = Field(examples=["changed"], description="changed or appeared; a row that vanished is only counted.")
    account: str = Field(description="Whose row it is.")
    key: dict[str, Any]


class ChangesOut(BaseModel):
    """The rows whose result is not the proposed one any more; no table: there are none."""

    merge_id: uuid.UUID
    tables: dict[str, dict[str, int]] = Field(description="Table: rows that changed, appeared or vanished.")
    rows: list[ChangedRow] = Field(description="The first of them.")


class TableOut(BaseModel):
    """One table of a report."""

    table: str
    note: str
    counts: dict[str, int]
    stage: Literal["done", "begun", "not reached", "left out"] = Field(description="How far the table is.")
    operation: str = Field(description="The undo or redo that did it, undo-1 say; empty: the merge itself.")
    rows_url: str | None


class ReportOut(BaseModel):
    """The report of a merge and its undos: counts, and where the rows are."""

    merge: MergeOut
    coverage: dict[str, Any]
    tables: list[TableOut]


class Row(BaseModel):
    """One row of the target: before, the sources' rows, after, and why."""

    key: dict[str, Any]
    what: str = Field(examples=["changed"])
    before: dict[str, Any] | None
    sources: dict[str, Any]
    after: dict[str, Any] | None
    columns: list[str] = Field(description="The columns that were written.")
    why: dict[str, str]
    notes: list[str]
    choice: str = Field("combine", description="Whose row stands: combine by the rules, or target or source by choice.")
    missing: list[str] = Field(
        [], description="In a row that is left: the values that were to be written and are not there."
    )


class RowsOut(BaseModel):
    """A page of a report's rows, in key order."""

    rows: list[Row]
    next: str | None = Field(description="The cursor of the next page; null on the last.")


class ReplayItem(BaseModel):
    """The effect of a replay on one merge."""

    merge_id: str
    before: str | None
    after: str | None
    code: str
    note: str


class Replayed(BaseModel):
    """The effect of a replay."""

    dry_run: bool
    replayed: int
    left_alone: int
    items: list[ReplayItem]


class StatusOut(BaseModel):
    """The present state of the product."""

    model_config = ConfigDict(extra="allow")

    switches: list[dict[str, Any]]
    states: dict[str, int]


class SessionOut(BaseModel):
    """The logged-in user, and what the user may start."""

    user: str
    may_start: dict[str, bool] = Field(description="DAG: whether the user may start runs of it.")
    csrf_token: str = Field(description="For the header x-csrf-token of changes that a browser sends with its cookie.")
