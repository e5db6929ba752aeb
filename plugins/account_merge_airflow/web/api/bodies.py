"""The bodies of requests, with examples; an unknown field is refused."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from account_merge.choices import CHOICES
from account_merge.choices import MOST as MOST_CHOSEN
from account_merge.failed_search import KINDS, MOST
from account_merge.rules import TABLES
from account_merge.states import STATES

SOURCE, TARGET = "b964d83a-c40f-4b3c-85e7-68b764efd14b", "191e6b5a-8581-46bd-b779-b3b534984649"


def _plain(text: str) -> str:
    """Return a text that every server here can keep."""
    if "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError("text has a NUL or half of a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(_plain)]
AccountId = Annotated[Text, Field(min_length=1, max_length=1024)]
Reason = Annotated[Text, Field(max_length=1000, description="Why; kept in the journal.")]
State = Literal[STATES]  # type: ignore[valid-type] # the states are a table
Table = Literal[TABLES]  # type: ignore[valid-type] # so are the rules
Kind = Literal[KINDS]  # type: ignore[valid-type]
Choice = Literal[CHOICES]  # type: ignore[valid-type]
Action = Literal["undo", "redo", "abandon", "repair"]


class In(BaseModel):
    """A body of a request."""

    model_config = ConfigDict(extra="forbid")


class RowChoice(In):
    """A person's choice of whose row stands, for one row."""

    table: Table
    key: dict[Text, Text | int] = Field(description="As a preview names it: the key without the account.")
    choice: Choice


class ChoicesIn(In):
    """A person's choices of whose rows stand; a row's choice goes before its table's."""

    tables: dict[Table, Choice] = Field({}, examples=[{TABLES[0]: "target"}])
    rows: list[RowChoice] = Field([], max_length=MOST_CHOSEN)


class PreviewIn(In):
    """Accounts, and how they would be merged."""

    source_accounts: list[AccountId] = Field(min_length=1, max_length=20, examples=[[SOURCE]])
    target_account: AccountId = Field(examples=[TARGET])
    tables: list[Table] | None = Field(
        None, description="Only these tables, at least one; absent or null: all.", examples=[[TABLES[0]]]
    )
    on_conflict: Literal["combine", "skip"] = Field(
        "combine", description="skip: where both have it, the target's stays."
    )
    source_rows: Literal["keep", "deactivate"] = Field("keep", description="deactivate: the source's enrolments end.")
    choices: ChoicesIn = Field(
        ChoicesIn(tables={}, rows=[]),
        description="combine: the rules decide. target: its row stays. source: its values stand, totals too.",
    )


class MergeIn(PreviewIn):
    """A merge to be done."""

    reason: Reason = Field("", examples=["one person, ticket 4711"])
    deactivate_sources: bool = Field(
        False,
        description="Deactivate the source accounts themselves when all is merged and verified; the undo gives them back.",
    )


class RenewalIn(In):
    """The days in which a person may answer."""

    answer_within_days: int = Field(7, ge=1, le=90, description="After that the proposal expires.")


class ProposalIn(MergeIn, RenewalIn):
    """A merge that a second person approves."""


class ActionIn(In):
    """The reason for an action, and whether it is a dry run."""

    dry_run: bool | None = Field(
        None,
        description="true: return what would be done, write nothing. Undo and redo need it; for the others absent means "
        "false.",
        examples=[True],
    )
    reason: Reason = Field("", examples=["two persons"])


class ReplayIn(In):
    """The choice of failed merges and refused events that are opened again."""

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
    dry_run: bool = Field(True, description="Return what would be done; write nothing.")
    reason: Reason = ""


class SwitchIn(In):
    """A switch that stops merging, or lets it go on."""

    action: Literal["pause", "resume"]
    tenant: Text = Field("", max_length=1024, description="The rootOrgId of merge events; empty: all merging.")
    reason: Annotated[Text, Field(max_length=1000, description="Why; needed to pause, shown in every note.")] = Field(
        "", examples=["maintenance"]
    )


class UploadIn(In):
    """Lines that name merges: CSV (source, target, and the time if known), merge events, lines of the user service's log."""

    lines: Text = Field(min_length=1, max_length=1048576, examples=["from,to\nold-account,new-account"])
    format: Literal["auto", "csv", "events", "log"] = "auto"
    seeded: Literal["by_date", "yes", "no"] = Field("by_date", description="Whether the retired job did these merges.")
    dry_run: bool = Field(True, description="Return what would be done; write nothing.")
    reason: Reason = ""
