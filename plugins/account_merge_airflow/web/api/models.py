"""What goes in and out of the API, with examples; what comes in with unknown fields is refused."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from account_merge.report import Report
from account_merge.rules import TABLES
from account_merge.search import KINDS, MOST
from account_merge.states import STATES

SOURCE, TARGET = "b964d83a-c40f-4b3c-85e7-68b764efd14b", "191e6b5a-8581-46bd-b779-b3b534984649"
MERGE = "f9f25bc9-fb1d-5408-bcbd-b2003dcbcd4e"


def _plain(text: str) -> str:
    """Text that every server here can keep."""
    if "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError("no NUL, and no half of a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(_plain)]
AccountId = Annotated[Text, Field(min_length=1, max_length=1024)]
Reason = Annotated[Text, Field(max_length=1000, description="Why; kept in the journal.")]
State = Literal[STATES]  # type: ignore[valid-type] # the states are a table
Table = Literal[TABLES]  # type: ignore[valid-type] # so are the rules
Kind = Literal[KINDS]  # type: ignore[valid-type]
Action = Literal["undo", "redo", "abandon", "repair"]


class In(BaseModel):
    """What comes in."""

    model_config = ConfigDict(extra="forbid")


class PreviewIn(In):
    """Accounts, and how they would be merged."""

    source_accounts: list[AccountId] = Field(min_length=1, max_length=20, examples=[[SOURCE]])
    target_account: AccountId = Field(examples=[TARGET])
    tables: list[Table] = Field([], description="Only these tables; empty: all.", examples=[[TABLES[0]]])
    on_conflict: Literal["combine", "skip"] = Field(
        "combine", description="skip: where both have it, the target's stays."
    )
    source_rows: Literal["keep", "deactivate"] = Field("keep", description="deactivate: the source's enrolments end.")


class MergeIn(PreviewIn):
    """A merge to be done."""

    reason: Reason = Field("", examples=["one person, ticket 4711"])


class ActionIn(In):
    """Why an action is wanted, and whether it is only looked at."""

    dry_run: bool = Field(False, description="Answer what would be done; write nothing.")
    reason: Reason = Field("", examples=["two persons"])


class ReplayIn(In):
    """Which failed merges and refused events are opened again."""

    merge_ids: list[uuid.UUID] = Field([], max_length=MOST, description="These, whatever the filters say.")
    states: list[Kind] = Field([], description="Empty: refused, failed and needs_attention.")
    codes: list[Text] = Field([], max_length=100, description="Only with one of these error codes.")
    account: Text | None = Field(None, max_length=1024)
    since: Text | None = Field(None, max_length=40, examples=["2026-03-01T10:00:00Z"])
    until: Text | None = Field(None, max_length=40)
    limit: int = Field(100, ge=1, le=MOST)
    corrected: dict[Text, dict[str, Any]] = Field(
        {}, description="Merge id of a refused event: the event as it should be."
    )
    dry_run: bool = Field(True, description="Answer what would be done; write nothing.")
    reason: Reason = ""


class SwitchIn(In):
    """Stops merging, or lets it go on."""

    action: Literal["pause", "resume"]
    tenant: Text = Field("", max_length=1024, description="The rootOrgId of merge events; empty: all merging.")
    reason: Reason = Field("", examples=["maintenance"])


class UploadIn(In):
    """Lines that name merges: CSV (source, target, and if known when), merge events, lines of the user service's log."""

    lines: Text = Field(min_length=1, max_length=1048576, examples=["from,to\nold-account,new-account"])
    format: Literal["auto", "csv", "events", "log"] = "auto"
    seeded: Literal["by_date", "yes", "no"] = Field("by_date", description="Whether the retired job did these merges.")
    dry_run: bool = Field(True, description="Answer what would be done; write nothing.")
    reason: Reason = ""


class LineOut(BaseModel):
    """What became of one line."""

    line: int
    code: str = Field(examples=["OPENED"])
    merge_id: uuid.UUID | None
    note: str
    remedy: str
    counts: dict[str, dict[str, int]] = Field(description="Table: what the merge would do, for the first lines.")
    status_url: str | None


class UploadOut(BaseModel):
    """What became of each line; merges that were opened are started by the poll."""

    dry_run: bool
    codes: dict[str, int]
    bad: int = Field(description="Lines that name no merge, or one that cannot be.")
    lines: list[LineOut]


class ErrorOut(BaseModel):
    """What went wrong with a merge, and what to do."""

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
    resume: str | None
    replayed_as: uuid.UUID | None
    note: str | None
    run_ids: list[str]
    created_at: str | None
    updated_at: str | None

    @classmethod
    def of(cls, merge: Any) -> MergeOut:
        """Of the core's merge."""
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
    """Whether an action makes sense now, and why not."""

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
    """A merge, its story, its runs and what can be done with it."""

    merge: MergeOut
    timeline: list[Moment]
    actions: dict[str, Possible]
    runs: list[RunOut]


class Accepted(BaseModel):
    """What was asked for will be done; ask `status_url` how far it is."""

    merge_id: uuid.UUID | None
    state: str | None
    status_url: str
    run: RunOut | None = Field(description="The run that does it; null: the poll starts one when it can.")


class TableOut(BaseModel):
    """One table of a report."""

    table: str
    note: str
    counts: dict[str, int]
    rows_url: str | None


class ReportOut(BaseModel):
    """What a merge did, and its undos: counts, and where the rows are."""

    merge: MergeOut
    coverage: dict[str, Any]
    tables: list[TableOut]


class Row(BaseModel):
    """One row of the target: before, of the sources, after, and why."""

    key: dict[str, Any]
    what: str = Field(examples=["changed"])
    before: dict[str, Any] | None
    sources: dict[str, Any]
    after: dict[str, Any] | None
    columns: list[str] = Field(description="What was written.")
    why: dict[str, str]
    notes: list[str]


class RowsOut(BaseModel):
    """A page of a report's rows, in key order."""

    rows: list[Row]
    next: str | None = Field(description="The cursor of the next page; null on the last.")


class PreviewTable(BaseModel):
    """What would be done in one table."""

    table: str
    note: str
    counts: dict[str, int]
    complete: bool = Field(description="False: there are more rows than a preview counts; run the DAG with dry_run.")
    rows: list[Row] = Field(description="The first of them.")


class PreviewOut(BaseModel):
    """What would be done; nothing was written."""

    merge: MergeOut
    tables: list[PreviewTable]


class Checked(BaseModel):
    """An action that would be possible; nothing was written."""

    merge_id: uuid.UUID
    action: str
    tables: list[PreviewTable]


class ReplayItem(BaseModel):
    """What a replay would do with one merge."""

    merge_id: str
    before: str | None
    after: str | None
    code: str
    note: str


class Replayed(BaseModel):
    """What a replay would do."""

    dry_run: bool
    replayed: int
    left_alone: int
    items: list[ReplayItem]


class AccountOut(BaseModel):
    """All that ever happened to an account."""

    account: str
    survivor: str = Field(description="Where its history lives now.")
    held_by: uuid.UUID | None = Field(description="The open merge that holds it.")
    merged_by: uuid.UUID | None = Field(description="The completed merge that merged it away.")
    gave: list[uuid.UUID] = Field(description="Merges that it was a source of.")
    received: list[str] = Field(description="What wrote to it as a target, in order: merges, and undos as undo-1/….")
    merges: list[MergeOut]


class CoverageTable(BaseModel):
    """A table with a column like a user id."""

    keyspace: str
    table: str
    columns: list[str]
    state: str = Field(examples=["covered"])
    why: str


class ExampleOut(BaseModel):
    """What the source and the target have, and the target afterwards."""

    source: dict[str, Any]
    target: dict[str, Any] | None
    merged: dict[str, Any]


class ColumnOut(BaseModel):
    """What becomes of a column."""

    strategy: str
    why: str


class RuleOut(BaseModel):
    """What a merge does with one table."""

    table: str
    why: str
    user: str
    key: list[str]
    columns: dict[str, ColumnOut]
    examples: list[ExampleOut]


class RulesOut(BaseModel):
    """Every rule, and the tables that are left alone with the reason."""

    rules: list[RuleOut]
    left_alone: dict[str, str]


class StatusOut(BaseModel):
    """How things stand."""

    model_config = ConfigDict(extra="allow")

    switches: list[dict[str, Any]]
    states: dict[str, int]


class SessionOut(BaseModel):
    """Who is logged in and may do what."""

    user: str
    may_start: dict[str, bool] = Field(description="DAG: whether the user may start runs of it.")
    csrf_token: str = Field(description="For the header x-csrf-token of changes that a browser sends with its cookie.")
