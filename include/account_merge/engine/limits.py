"""Limits of the platform that a merge passes: they are counted afterwards and hold nothing back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from account_merge.model import Change
from account_merge.rules import Limit, TableRule
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
