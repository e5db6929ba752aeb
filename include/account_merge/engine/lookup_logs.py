"""Logs as lookups see them: rows that a merge found, and rows that it made match or not match."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from account_merge.journal.log import Log
from account_merge.journal.redaction import RedactedFacts
from account_merge.model import Change, Entry, Key, Values
from account_merge.rules import Lookup, TableRule
from account_merge.rules.evidence import ScopeValues
from account_merge.states import EntryKind
from account_merge.values import usable

T = TypeVar("T")


def collected(lookup: Lookup, other: TableRule, key: Key, values: Values | None) -> set[Any]:
    """Return the value that a lookup collects of one row; nothing where there is no row, or it does not match `where`.

    :param other: the rule of the table that the lookup is at.
    """
    if values is None or (lookup.where and values.get(lookup.where[0]) != lookup.where[1]):
        return set()
    known = {**dict(zip(other.key, key, strict=True)), **values}
    named = tuple(usable(known.get(c)) for c in lookup.collect)
    return set() if named[0] is None else {named[0] if len(named) == 1 else named}


def images_of(
    log: Log, lookup: Lookup, other: TableRule, whole: bool
) -> Iterator[tuple[ScopeValues, tuple[str, set[Any]]]]:
    """Yield (scope, (source account, what a lookup saw of its row)) of each row that a merge found.

    :param whole: the lookup is at all scopes at once.
    """
    for entry in log.entries():
        for change in entry.changes if entry.kind == EntryKind.CHANGES else ():
            scope = () if whole else other.scope_of(change.key)
            for account, values in change.sources.items():
                yield scope, (account, collected(lookup, other, change.key, values))


def in_runs(log: Log, of: Callable[[Entry], Iterable[T]], key: Callable[[T], Any]) -> Iterator[T]:
    """Yield what entries of a log tell, sorted: a fold goes back to rows of the entry that it corrects, and stands behind it."""
    run: list[T] = []
    for entry in log.entries():
        if entry.kind == EntryKind.CHANGES:
            yield from sorted(run, key=key)
            run = []
        run += of(entry)
    yield from sorted(run, key=key)


def in_key_order(log: Log) -> Iterator[Change]:
    """Yield the changes of a log; a row that was folded in comes once more behind its first change."""
    return in_runs(log, lambda entry: entry.changes, lambda change: change.key)


def turned(
    log: Log, lookup: Lookup, other: TableRule, expired: RedactedFacts
) -> Iterator[tuple[ScopeValues, tuple[Any, bool]]]:
    """Yield what `turned_by` yields of each change of a log, sorted by scope.

    :param expired: takes in what expired entries tell.
    """

    def of(entry: Entry) -> Iterator[tuple[ScopeValues, tuple[Any, bool]]]:
        if entry.kept is not None:
            expired.add(entry.kept)
        for change in entry.changes:
            yield from turned_by(change, lookup, other)

    return in_runs(log, of, lambda item: item[0]) if lookup.where else iter(())


def turned_by(change: Change, lookup: Lookup, other: TableRule) -> Iterator[tuple[ScopeValues, tuple[Any, bool]]]:
    """Yield (scope, (collected value, whether the row matches now)) when a change made its row match `where`, or not match."""
    if lookup.where is None:
        return
    column, value = lookup.where
    write = change.writes.get(column)
    before = (change.before or {}).get(column) == value
    if write is not None and before != (write.value == value):
        values = dict(zip(other.key, change.key, strict=True))
        named = tuple(values.get(c) for c in lookup.collect)
        yield other.scope_of(change.key), (named[0] if len(named) == 1 else named, not before)
