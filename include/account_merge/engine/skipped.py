"""Scopes of a merge's accounts: those that stay as they are under `on_conflict: skip`, and those of the sync events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

import msgspec

from account_merge.engine.resources import Resources
from account_merge.journal.encoding import Codec
from account_merge.journal.log import Draft, Log
from account_merge.model import Merge, Row
from account_merge.rules import RULES, TABLES, TableRule, rule_for
from account_merge.states import EntryKind, Origin, State
from account_merge.values import sound

ScopeValues = tuple[Any, ...]


class SkippedScopes:
    """The scopes that a merge skips, from the rows that its accounts have."""

    def __init__(self, resources: Resources) -> None:
        self._resources, self._settings = resources, resources.settings
        self._journal, self._tables = resources.journal, resources.tables

    def keep(self, merge: Merge) -> None:
        """Write the scopes that stay under `skip` as the merge's first entries, once; every table obeys them.

        Entry 0 has the scopes that the target has by itself; entry 1 whose rows stand in each scope of a source. A settle
        or repair obeys its parent's entries: only scopes that are new since then are looked at anew.
        """
        log = self._log(merge) if merge.request.on_conflict == "skip" else None
        last = log.last() if log else None
        if log is None or (last is not None and last.seq):
            return
        family = self._family(merge)
        if last is None:
            scopes = [msgspec.msgpack.encode(scope) for scope in self._stay(merge, family)]
            log.append(Draft(0, EntryKind.SKIP, changes=scopes, counts={"places": len(scopes)}))
        stay = frozenset(tuple(msgspec.msgpack.decode(scope)) for scope in log.payload(0))
        shares = list(self._shares(merge, stay, family))
        left = sum(source != stands for source, stands, *_ in shares)
        packed = [msgspec.msgpack.encode(share) for share in shares]
        log.append(Draft(1, EntryKind.SKIP, changes=packed, counts={"left": left}))

    def kept(self, merge: Merge, rule: TableRule) -> frozenset[tuple[Any, ...]]:
        """Return scopes of the rule's kind whose rows stay; a preview, which writes no entry, looks for itself."""
        log = self._log(merge) if merge.request.on_conflict == "skip" else None
        if log is None:
            return frozenset()
        written = (tuple(msgspec.msgpack.decode(scope)) for scope in log.payload(0))
        scopes = self._stay(merge, self._family(merge)) if merge.state == State.PREVIEW else written
        return frozenset(scope[1:] for scope in scopes if scope[0] == rule.scope.kind)

    def not_merged(self, merge: Merge) -> Iterator[tuple[str, str, ScopeValues]]:
        """Yield (source, account, (kind, *scope)) of each scope that was not merged from that source under `skip`.

        The account's rows stand there: it is the one that the merge writes to, or the source that was listed first.
        """
        log = self._log(merge) if merge.request.on_conflict == "skip" else None
        if log is None:
            return
        written = (msgspec.msgpack.decode(item) for item in log.payload(1))
        family = self._family(merge) if merge.state == State.PREVIEW else ()
        stay = frozenset(self._stay(merge, family)) if merge.state == State.PREVIEW else frozenset()
        items = self._shares(merge, stay, family) if merge.state == State.PREVIEW else written
        yield from ((account, by, tuple(scope)) for account, by, *scope in items if account != by)

    def from_other_source(self, merge: Merge, rule: TableRule) -> dict[str, frozenset[ScopeValues]]:
        """Return source -> scopes of the rule's kind that come from another source, which was listed first."""
        target = merge.target
        found: dict[str, set[ScopeValues]] = {}
        for account, by, scope in self.not_merged(merge):
            if by != target and scope[0] == rule.scope.kind:
                found.setdefault(account, set()).add(scope[1:])
        return {account: frozenset(scopes) for account, scopes in found.items()}

    def enrolments(self, merge: Merge, operation: str = "") -> Iterator[tuple[Any, ...]]:
        """Yield the scopes of the sync events: the target's enrolments; by setting, and after a settle, only those touched.

        :param operation: `undo-1/`, say: those that this undo touched, not the merge.
        """
        rule = next(r for r in RULES if r.enrolments)
        schema = self._tables.of(rule)
        if schema is None:
            return
        if self._settings.sync_scope == "touched" or merge.request.origin == Origin.SETTLE:
            log = Log(self._journal, merge.merge_id, f"{operation}{rule.table}", Codec(schema))
            touched = {c.key for entry in log.entries() for c in entry.changes if c.writes or c.create_at}
            yield from filter(sound, (rule.scope_of(key) for key in sorted(touched)))
            return
        for row in self._rows(merge, rule, merge.target):
            if sound(scope := rule.scope_of(row.key)):  # no consumer could read it
                yield scope

    def _log(self, merge: Merge) -> Log | None:
        schema = next(iter(self._tables.schemas.values()), None)  # the entry holds scopes: any table's codec will do
        return None if schema is None else Log(self._journal, merge.merge_id, "skip", Codec(schema))

    def _family(self, merge: Merge) -> list[Merge]:
        """Return the merge that a settle or repair comes from, and the others that come from that; undone ones are left out."""
        root = merge
        while root.parent is not None:
            root = self._journal.need(root.parent)
        if root.merge_id == merge.merge_id:
            return []
        found = (self._journal.get(i) for i in self._journal.gave(merge.request.sources[0]))
        others = [
            m for m in found if m is not None and m.effective_state != State.UNDONE and m.merge_id != merge.merge_id
        ]
        return [m for m in others if m.merge_id == root.merge_id or self._comes_from(m, root)]

    def _comes_from(self, merge: Merge, root: Merge) -> bool:
        while merge.parent is not None and merge.parent != root.merge_id:
            merge = self._journal.need(merge.parent)
        return merge.parent is not None

    def _stay(self, merge: Merge, family: Sequence[Merge]) -> Iterator[ScopeValues]:
        """Yield the scopes that the target has by itself: those that its family moved there are not its own, skipped ones stay."""
        stayed = {scope for one in family for scope in self._entry(one, 0)}
        moved = {tuple(scope) for one in family for _, stands, *scope in self._entry(one, 1)} - stayed
        yield from sorted(stayed | (set(self._had(merge)) - moved))

    def _entry(self, merge: Merge, number: int) -> Iterator[tuple[Any, ...]]:
        log = self._log(merge) if merge.request.on_conflict == "skip" else None
        yield from (tuple(msgspec.msgpack.decode(item)) for item in (log.payload(number) if log else ()))

    def _shares(self, merge: Merge, stay: frozenset[ScopeValues], family: Sequence[Merge]) -> Iterator[tuple[Any, ...]]:
        """Yield (source, whose rows stand, kind, *scope) of each scope that a source has."""
        target, first = merge.target, dict[ScopeValues, str]()
        for one in family:
            first |= {tuple(scope): source for source, stands, *scope in self._entry(one, 1) if source == stands}
        for source in merge.request.sources:  # in the order of the request
            for scope in sorted(set(self._had(merge, source))):
                yield source, target if scope in stay else first.setdefault(scope, source), *scope

    def _had(self, merge: Merge, account: str = "") -> Iterator[ScopeValues]:
        """Yield (kind, *scope) of each course and batch, group, program and event that an account (the target) has a counting row of."""
        account = account or merge.target
        kinds = {rule_for(table).scope.kind for table in merge.request.tables or TABLES}
        for rule in RULES:
            if rule.decides_skip and rule.scope.kind in kinds and self._tables.of(rule):
                rows = (row for row in self._rows(merge, rule, account) if rule.decides_skip.of(row.values))
                found = (rule.scope_of(row.key) for row in rows)
                yield from ((rule.scope.kind, *scope) for scope in found if sound(scope))

    def _rows(self, merge: Merge, rule: TableRule, account: str) -> Iterator[Row]:
        target = merge.target
        # The source's list may lead to rows of the target: a group that the target has left is not in its own list.
        found = self._resources.finder((*sorted(merge.request.sources), target))
        return found.rows(rule, account)


def opened_ms(merge: Merge) -> int:
    """Return when the merge was opened, in ms since the epoch: the time of its sync events, however often they are sent."""
    return int(merge.created_at.replace(tzinfo=UTC).timestamp() * 1000) if merge.created_at else 0
