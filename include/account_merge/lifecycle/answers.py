"""Answers of the steps of a merge: ids, counts and notes, never a learner's values. Tasks return them unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

from account_merge.journal.acts import Acts
from account_merge.model import Merge


class MergeAnswer(TypedDict):
    """Answer of a step of a whole merge.

    :param proceed: whether the run goes on.
    :param idle: the tables in which a merge that was admitted now has nothing to do.
    """

    merge_id: str
    state: str
    note: str
    proceed: bool
    idle: NotRequired[list[str]]


class PublishAnswer(MergeAnswer):
    """Answer of the last step of a merge.

    :param sent: sync events that the brokers acknowledged.
    """

    sent: int


class UndoAnswer(MergeAnswer):
    """Answer of a step of an undo, redo, abandonment or repair.

    :param operation: the name of the undo or redo.
    """

    operation: str | None


class UndoneAnswer(UndoAnswer):
    """Answer of the last step of an undo or redo."""

    sent: int


class TableAnswer(TypedDict):
    """Answer of the work on one table: rows by what happened to them."""

    merge_id: str
    table: str
    state: str
    note: str
    proceed: bool
    created: int
    changed: int
    deleted: int
    same: int
    folded: int
    ambiguous: int


class Act(TypedDict):
    """Act of a person that belongs to no merge: when (UTC, ISO 8601), which, and the note."""

    at: str
    what: str
    note: str


def acts(record: Acts) -> list[Act]:
    """Return the acts of a record, oldest first."""
    return [
        {"at": at.isoformat(timespec="seconds") + "Z", "what": what, "note": note} for at, what, note in record.all()
    ]


def merge_answer(merge: Merge, proceed: bool, note: str = "") -> MergeAnswer:
    """Return the answer of a step of a whole merge; without a note, the merge's own."""
    return {
        "merge_id": str(merge.merge_id),
        "state": merge.state.value,
        "note": note or merge.note or "",
        "proceed": proceed,
    }


def undo_answer(merge: Merge, note: str, proceed: bool) -> UndoAnswer:
    """Return the answer of a step of an undo, redo, abandonment or repair."""
    return {
        "merge_id": str(merge.merge_id), "state": merge.state.value, "operation": merge.operation, "note": note,
        "proceed": proceed,
    }  # fmt: skip


def table_answer(
    merge: Merge, table: str, counts: Mapping[str, int], note: str, proceed: bool = True
) -> TableAnswer:  # fmt: skip
    """Return the answer of the work on one table."""
    return {
        "merge_id": str(merge.merge_id), "table": table, "state": merge.state.value, "note": note, "proceed": proceed,
        "created": counts.get("created", 0), "changed": counts.get("changed", 0), "deleted": counts.get("deleted", 0),
        "same": counts.get("same", 0), "folded": counts.get("folded", 0), "ambiguous": counts.get("ambiguous", 0),
    }  # fmt: skip


def as_note(text: str) -> str:
    """Return a text as long as the journal keeps a note or a reason: its first 1,000 characters."""
    return text[:1000]
