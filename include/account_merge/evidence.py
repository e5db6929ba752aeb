"""What the accounts' stored rows of other tables show about one course and batch, for a rule's derivations.

The answer is the same before, during and after a merge: what earlier merges brought is told apart by their logs.
"""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from account_merge.codec import Codec
from account_merge.cursor import Cursor, ascending
from account_merge.derive import Evidence
from account_merge.journal import Cas
from account_merge.journal.expired import Kept
from account_merge.journal.log import Log
from account_merge.model import Change, Key
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
    :param yielded: account -> places whose rows come from another account; the evidence `yielded` names them.
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
        yielded: Mapping[str, frozenset[Place]] | None = None,
    ) -> None:
        self._found, self._cas, self._rule, self._merges_into = found, cas, rule, merges_into
        others = ((look, rule_for(look.table)) for look in rule.looks)
        self._looks = [(look, other, schema) for look, other in others if (schema := tables.of(other)) is not None]
        self._yielded = yielded or {}
        self._always: dict[str, Mapping[str, Any]] = {
            "kept": {"places": kept}, "seeded": {"accounts": seeded}, "yielded": self._yielded,
        }  # fmt: skip
        self._place: Place | None = None
        self._shown: Evidence | None = None
        self._streams: dict[tuple[str, str], Cursor[Any]] = {}
        self._expired = Kept(cas)

    def __call__(self, key: Key) -> Evidence:
        """The evidence for the row with this key: `<look>`, `<look>: brought` and, of that, what has not expired,
        `<look>: lately`; each account -> values."""
        if not self._looks:
            return {}
        place = None if self._rule.collects else self._rule.place(key)
        if self._shown is None or place != self._place:
            self._place, self._shown = place, {**dict(self._at(place)), **self._always}
        return self._shown

    def _at(self, place: Place | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for look, other, schema in self._looks:
            found = self._found.look(look, place).items()
            shown = {a: values for a, values in found if place not in self._yielded.get(a, ())}
            yield look.name, shown
            if place is not None and look.where is not None:
                streams = {account: self._ahead(look, other, schema, account) for account in self._merges_into}
                lately = {account: frozenset(ahead.at(place)) for account, ahead in streams.items()}
                told = {a: values | self._told(look, a, place, shown.get(a, ())) for a, values in lately.items()}
                yield f"{look.name}: brought", told
                yield f"{look.name}: lately", lately

    def _told(self, look: Look, account: str, place: Place, shown: Iterable[Any]) -> frozenset[Any]:
        """Those of the shown values that expired logs know as brought."""
        where = look.where
        if where is None or not self._expired:
            return frozenset()
        return frozenset(v for v in shown if self._expired.brought(look.table, where, account, place, v))

    def _ahead(self, look: Look, other: TableRule, schema: TableSchema, account: str) -> Cursor[Any]:
        if (look.name, account) not in self._streams:
            logs = [Log(self._cas, m, other.table, Codec(schema)) for m in sorted(self._merges_into[account])]
            words = f"rows of {other.table} in the log"
            made = (ascending(brought(log, look, other, self._expired), words) for log in logs)
            self._streams[look.name, account] = Cursor(heapq.merge(*made, key=lambda item: item[0]), words)
        return self._streams[look.name, account]


def brought(log: Log, look: Look, other: TableRule, kept: Kept) -> Iterator[tuple[Place, Any]]:
    """(place, collected value) of each row that this log made match the look's `where`, in key order.

    :param kept: takes in what expired entries tell.
    """
    for entry in log.entries() if look.where else ():
        if entry.kept is not None:
            kept.add(entry.kept)
        for change in entry.changes:
            yield from brought_by(change, look, other)


def brought_by(change: Change, look: Look, other: TableRule) -> Iterator[tuple[Place, Any]]:
    """(place, collected value) when this change made its row match the look's `where`."""
    if look.where is None:
        return
    column, value = look.where
    write = change.writes.get(column)
    if write is not None and write.value == value and (change.before or {}).get(column) != value:
        values = dict(zip(other.key, change.key, strict=True))
        named = tuple(values.get(c) for c in look.collect)
        yield other.place(change.key), named[0] if len(named) == 1 else named
