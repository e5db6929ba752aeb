"""What the accounts' stored rows of other tables show about one course and batch, for a rule's derivations.

The answer is the same before, during and after a merge: what earlier merges brought is told apart by their logs.
"""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from account_merge.codec import Codec
from account_merge.derive import Evidence
from account_merge.journal import Cas
from account_merge.log import Log
from account_merge.model import Key
from account_merge.rules import Look, TableRule, rule_for
from account_merge.schema import TableSchema
from account_merge.store import Store

Place = tuple[str, str]


class Looks:
    """Evidence for one sweep over a table: keys must come in ascending order; the last place's answer is kept.

    :param merges_into: account -> merges that moved rows to it, undone ones left out.
    """

    def __init__(
        self,
        store: Store,
        cas: Cas,
        schemas: Mapping[str, TableSchema],
        rule: TableRule,
        merges_into: Mapping[str, Iterable[uuid.UUID]],
    ) -> None:
        self._store, self._cas, self._rule, self._merges_into = store, cas, rule, merges_into
        self._looks = [
            (look, rule_for(look.table), schemas[look.table]) for look in rule.looks if look.table in schemas
        ]
        self._place: Place | None = None
        self._found: Evidence = {}
        self._streams: dict[tuple[str, str], _Ahead] = {}

    def __call__(self, key: Key) -> Evidence:
        """The evidence for the row with this key: `<look>` and `<look>: brought`, account -> values."""
        if not self._looks:
            return {}
        place = self._rule.place(key)
        if place != self._place:
            self._place, self._found = place, dict(self._at(place))
        return self._found

    def _at(self, place: Place) -> Iterator[tuple[str, dict[str, Any]]]:
        for look, other, schema in self._looks:
            course, batch = (other.scope.course, other.scope.batch) if other.scope else other.key[:2]
            where = (course, place[0], batch, place[1])
            yield (
                look.name,
                {
                    account: self._store.collect(schema, account, where, look.collect, look.where)
                    for account in self._merges_into
                },
            )
            if look.where is not None:
                yield (
                    f"{look.name}: brought",
                    {account: self._ahead(look, other, schema, account).at(place) for account in self._merges_into},
                )

    def _ahead(self, look: Look, other: TableRule, schema: TableSchema, account: str) -> _Ahead:
        if (look.name, account) not in self._streams:
            logs = [Log(self._cas, m, other.table, Codec(schema)) for m in sorted(self._merges_into[account])]
            self._streams[look.name, account] = _Ahead(heapq.merge(*(brought(log, look, other) for log in logs)))
        return self._streams[look.name, account]


def brought(log: Log, look: Look, other: TableRule) -> Iterator[tuple[Place, Any]]:
    """(place, collected value) of each row that this log made match the look's `where`, in key order."""
    if look.where is None:
        return
    column, value = look.where
    for entry in log.entries():
        for change in entry.changes:
            write = change.writes.get(column)
            if write is not None and write.value == value and (change.before or {}).get(column) != value:
                values = dict(zip(other.key, change.key, strict=True))
                named = tuple(values.get(c) for c in look.collect)
                yield other.place(change.key), named[0] if len(named) == 1 else named


class _Ahead:
    """A sorted stream of (place, value) that is read along with ascending places."""

    def __init__(self, stream: Iterator[tuple[Place, Any]]) -> None:
        self._stream = stream
        self._next = next(stream, None)

    def at(self, place: Place) -> frozenset[Any]:
        """The values of exactly this place."""
        while self._next is not None and self._next[0] < place:
            self._next = next(self._stream, None)
        found = set()
        while self._next is not None and self._next[0] == place:
            found.add(self._next[1])
            self._next = next(self._stream, None)
        return frozenset(found)
