"""The target's places: which of them stay as they are under `on_conflict: skip`, and which the sync events are for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any

import msgspec

from account_merge.codec import Codec
from account_merge.journal import Journal
from account_merge.journal.log import Log
from account_merge.model import Merge, Row
from account_merge.rules import RULES, TABLES, TableRule, rule_for
from account_merge.schema import Tables
from account_merge.settings import Settings
from account_merge.sources import Sources
from account_merge.store import Store


class Places:
    """Looks at the rows that a merge's target has."""

    def __init__(self, store: Store, journal: Journal, tables: Tables, settings: Settings) -> None:
        self._store, self._journal, self._tables, self._settings = store, journal, tables, settings

    def keep(self, merge: Merge) -> None:
        """With `skip`: writes the places that the target has now as the merge's first entry, once; every table obeys it."""
        log = self._log(merge) if merge.request.on_conflict == "skip" else None
        if log is None or log.last() is not None:
            return
        places = [msgspec.msgpack.encode(place) for place in self._had(merge)]
        log.append(0, "skip", None, 0, places, {"places": len(places)})

    def kept(self, merge: Merge, rule: TableRule) -> frozenset[tuple[Any, ...]]:
        """Places of the rule's kind whose rows stay; a preview, which writes no entry, looks for itself."""
        log = self._log(merge) if merge.request.on_conflict == "skip" else None
        if log is None:
            return frozenset()
        written = (tuple(msgspec.msgpack.decode(place)) for place in log.payload(0))
        places = self._had(merge) if merge.state == "preview" else written
        return frozenset(place[1:] for place in places if place[0] == rule.belongs.kind)

    def enrolments(self, merge: Merge, operation: str = "") -> Iterator[tuple[Any, ...]]:
        """The places that sync events are for: the target's enrolments, or by setting, and after a settle, those touched.

        :param operation: `undo-1/`, say: touched by that undo instead of by the merge.
        """
        rule = next(r for r in RULES if r.enrolments)
        schema = self._tables.of(rule)
        if schema is None:
            return
        if self._settings.sync_scope == "touched" or merge.request.origin == "settle":
            log = Log(self._journal, merge.merge_id, f"{operation}{rule.table}", Codec(schema))
            touched = {c.key for entry in log.entries() for c in entry.changes if c.writes or c.create}
            yield from (rule.place(key) for key in sorted(touched))
            return
        for row in self._rows(merge, rule):
            yield rule.place(row.key)

    def _log(self, merge: Merge) -> Log | None:
        schema = next(iter(self._tables.schemas.values()), None)  # the entry holds places: any table's codec will do
        return None if schema is None else Log(self._journal, merge.merge_id, "skip", Codec(schema))

    def _had(self, merge: Merge) -> Iterator[tuple[Any, ...]]:
        """(kind, *place) of each course and batch, group, program and event that the target has a row of."""
        kinds = {rule_for(table).belongs.kind for table in merge.request.tables or TABLES}
        for rule in RULES:
            if rule.decides and rule.belongs.kind in kinds and self._tables.of(rule):
                yield from ((rule.belongs.kind, *rule.place(row.key)) for row in self._rows(merge, rule))

    def _rows(self, merge: Merge, rule: TableRule) -> Iterator[Row]:
        target = merge.survivor or merge.request.target
        # What leads to the target's rows may be the source's: a group that the target has left is not in its own list.
        found = Sources(self._store, self._tables, self._settings, (*sorted(merge.request.sources), target))
        return found.rows(rule, target)


def opened_ms(merge: Merge) -> int:
    """When the merge was opened, in ms since the epoch: the time of its sync events, the same however often they go."""
    return int(merge.created_at.replace(tzinfo=UTC).timestamp() * 1000) if merge.created_at else 0
