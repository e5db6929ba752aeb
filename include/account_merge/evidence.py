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
from account_merge.journal.log import Log
from account_merge.model import Key
from account_merge.rules import Look, TableRule, rule_for
from account_merge.schema import Tables, TableSchema
from account_merge.sources import Sources

Place = tuple[Any, ...]


class Looks:
    """Evidence for one sweep over a table: keys must come in ascending order; the last place's answer is kept.

    :param found: finds the rows of the accounts.
    :param merges_into: account -> merges that moved rows to it, undone ones left out.
    :param kept: places whose rows stay as the target has them; the evidence `kept` names them.
    :param seeded: source accounts whose rows the retired job had moved before; the evidence `seeded` names them.
    """

    def __init__(
        self,
        found: Sources,
        cas: Cas,
        tables: Tables,
        rule: TableRule,
        merges_into: Mapping[str, Iterable[uuid.UUID]],
        kept: frozenset[Place] = frozenset(),
        seeded: frozenset[str] = frozenset(),
    ) -> None:
        self._found, self._cas, self._rule, self._merges_into = found, cas, rule, merges_into
        others = ((look, rule_for(look.table)) for look in rule.looks)
        self._looks = [(look, other, schema) for look, other in others if (schema := tables.of(other)) is not None]
        self._always: dict[str, Mapping[str, Any]] = {"kept": {"places": kept}, "seeded": {"accounts": seeded}}
        self._place: Place | None = None
        self._shown: Evidence | None = None
        self._streams: dict[tuple[str, str], _Ahead] = {}

    def __call__(self, key: Key) -> Evidence:
        """The evidence for the row with this key: `<look>` and `<look>: brought`, account -> values."""
        if not self._looks:
            return {}
        place = None if self._rule.collects else self._rule.place(key)
        if self._shown is None or place != self._place:
            self._place, self._shown = place, {**dict(self._at(place)), **self._always}
        return self._shown

    def _at(self, place: Place | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for look, other, schema in self._looks:
            yield look.name, self._found.look(look, place)
            if place is not None and look.where is not None:
                streams = {account: self._ahead(look, other, schema, account) for account in self._merges_into}
                yield f"{look.name}: brought", {account: ahead.at(place) for account, ahead in streams.items()}

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
