"""The answers about an account, the rules and the tables that they cover."""

from __future__ import annotations

import uuid
from typing import Any

from pydantic import BaseModel, Field

from account_merge_airflow.web.api.answers import MergeOut


class AccountOut(BaseModel):
    """The whole story of an account."""

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
    """The source's and the target's row, and the target's afterwards."""

    source: dict[str, Any]
    target: dict[str, Any] | None
    merged: dict[str, Any]


class ColumnOut(BaseModel):
    """The strategy of a column."""

    strategy: str
    why: str


class RuleOut(BaseModel):
    """The rule of one table."""

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
