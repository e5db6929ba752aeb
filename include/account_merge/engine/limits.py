"""Limits that a merge passes: the platform's are counted afterwards and hold nothing back, the servers' are told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from account_merge.errors import NeedsAttention
from account_merge.journal.log import Log
from account_merge.model import Change
from account_merge.rules import Limit, TableRule
from account_merge.states import EntryKind
from account_merge.sunbird.schema import TableSchema
from account_merge.sunbird.store import Store


def passed(rule: TableRule, schema: TableSchema, store: Store, target: str, changes: Iterable[Change]) -> Iterator[str]:
    """Yield one sentence for each limit that these changes pass; read `changes` only when the rule has limits."""
    for change in changes if rule.limits else ():
        for limit in rule.limits if change.create_at or change.writes else ():
            number = _elements(limit, change) if limit.column else _rows(rule, limit, schema, store, target, change)
            if number > limit.most:
                counted = " ".join((limit.words, *map(str, change.key)))
                yield f"{number} {counted}: the platform's limit is {limit.most}"


def _after(change: Change, column: str) -> object:
    return change.writes[column].value if column in change.writes else (change.before or {}).get(column)


def _elements(limit: Limit, change: Change) -> int:
    put = change.writes[limit.column].value if limit.column in change.writes else ()
    return len({*((change.before or {}).get(limit.column) or ()), *put})


def _rows(rule: TableRule, limit: Limit, schema: TableSchema, store: Store, target: str, change: Change) -> int:
    """Return how many rows of the scope count, the target's included as it is after the merge."""
    column, wanted = limit.where or (schema.user.logical, target)
    if limit.where and _after(change, column) != wanted:
        return 0
    rows = store.values(schema, (schema.user.logical, column), rule.scope.bind(rule.scope_of(change.key)))
    return len({target, *(user for user, value in rows if limit.where is None or value == wanted)})


def larger_than_an_entry(refused: NeedsAttention, log: Log, changes: Sequence[Change]) -> NeedsAttention:
    """Return the error of rows whose images pass what the servers take in one request; none of them was written.

    It names no key, since it is logged: a preview lists the rows in the same order.
    """
    before = sum(len(entry.changes) for entry in log.entries() if entry.kind == EntryKind.CHANGES)
    images = [image for change in changes for image in (*change.sources.values(), change.before or {})]
    widths = ((len(str(value)), column) for image in images for column, value in image.items())
    _, widest = max(widths, default=(0, ""))
    which = f"row {before + 1}" if len(changes) == 1 else f"rows {before + 1} to {before + len(changes)}"
    return NeedsAttention(
        "TOO_LARGE",
        f"{log.table}, merge {log.merge_id}: {which} of it, as a preview lists them, cannot be logged (the widest column is "
        f"{widest}), so nothing of it was written: {refused.message}",
        f"{refused.remedy} Several rows fit with a lower ACCOUNT_MERGE_ENTRY_BYTES.",
    )
