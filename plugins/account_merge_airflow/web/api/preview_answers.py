"""The answers that say what would be done; nothing is written for them."""

from __future__ import annotations

import uuid

from pydantic import BaseModel, Field

from account_merge_airflow.web.api.answers import MergeOut, Row


class PreviewTable(BaseModel):
    """The effect on one table."""

    table: str
    note: str
    counts: dict[str, int]
    complete: bool = Field(description="False: there are more rows than a preview counts; run the DAG with dry_run.")
    rows: list[Row] = Field(description="The first of them.")


class BalanceLine(BaseModel):
    """One number of one course, group or program."""

    kind: str = Field(examples=["course"])
    place: list[str]
    what: str = Field(examples=["lessons done"])
    sources: dict[str, float] = Field(description="Source account: what its rows have.")
    target: float
    should: float = Field(description="The accounts' total; values that an earlier merge moved count once.")
    result: float
    short: float = Field(description="How much of `should` the result lacks.")
    why: dict[str, float] = Field(description="Reason: how much of `short` it explains.")


class BehindOut(BaseModel):
    """Rows whose result differs from that of combining everything."""

    table: str
    why: str
    rows: int


class BalanceOut(BaseModel):
    """The balance of a merge for the learner."""

    nothing_lost: bool = Field(description="Everything that the accounts have was compared, and is in the result.")
    complete: bool = Field(description="False: an account has more rows than are compared.")
    lines: list[BalanceLine] = Field(description="At most 1,000; those that lack something come first.")
    all_lines: int
    behind: list[BehindOut]
    not_looked_for: dict[str, str] = Field(description="Table: rows that cannot be found, with the remedy.")
    ambiguous: int = Field(description="Rows that can be read two ways; each names both readings.")


class Warned(BaseModel):
    """A known fact about an account before it is merged."""

    code: str = Field(examples=["NO_ROWS"])
    account: str
    words: str
    remedy: str
    serious: bool = Field(description="The id is probably wrong.")
    merge_id: uuid.UUID | None


class PreviewOut(BaseModel):
    """The effect of a merge; nothing was written."""

    merge: MergeOut
    tables: list[PreviewTable]
    balance: BalanceOut
    warnings: list[Warned] = Field(description="Known facts about the accounts; the serious ones come first.")


class Checked(BaseModel):
    """The effect of a possible action; nothing was written."""

    merge_id: uuid.UUID
    action: str
    tables: list[PreviewTable]
