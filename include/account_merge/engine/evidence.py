"""What the accounts' stored rows of other tables show about one course and batch, for a rule's derivations.

The answer is the same before, during and after a merge: what earlier merges brought is told apart by their logs.
"""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from account_merge.cursor import Cursor, ascending
from account_merge.journal import JournalSession
from account_merge.journal.encoding import Codec
from account_merge.journal.log import Log
from account_merge.journal.redaction import RedactedFacts
from account_merge.model import Change, Entry, Key, Values
from account_merge.planning.merge_join import Shown
from account_merge.rules import Lookup, TableRule, rule_for
from account_merge.rules.derivations import Evidence
from account_merge.states import EntryKind
from account_merge.sunbird.row_finder import RowFinder
from account_merge.sunbird.schema import Tables, TableSchema
from account_merge.values import usable

ScopeValues = tuple[Any, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """What one merge may see of other tables' rows.

    :param sources: the accounts whose rows it brings.
    :param target: the account that it writes to.
    :param kept: places whose rows stay as the target has them; the evidence `kept` names them.
    :param yielded: source -> places whose rows come from another source; the evidence `yielded` names them.
    :param seeded: sources whose rows the retired job had moved before; the evidence `seeded` names them.
    :param merge: of a merge that is replayed, its id: what its sources showed is read from its logs.
    :param logged: the tables that have such a log. A source may have gone on since, and what it has now was not brought.
    """

    sources: tuple[str, ...]
    target: str
    kept: frozenset[ScopeValues] = frozenset()
    yielded: Mapping[str, frozenset[ScopeValues]] = field(default_factory=dict)
    seeded: frozenset[str] = frozenset()
    merge: uuid.UUID | None = None
    logged: frozenset[str] = frozenset()

    def counts(self, account: str, scope: ScopeValues | None) -> bool:
        """Whether what an account shows in a place counts: it is of this merge and does not yield there."""
        return account in (*self.sources, self.target) and scope not in self.yielded.get(account, ())


@dataclass(frozen=True)
class Underway:
    """What an undo or redo does to an account's rows of other tables before it comes to the table at hand.

    :param changes: table -> its changes, in key order; a row that was folded in comes once more.
    :param planned: they are not written yet: a preview sees them as done.
    """

    account: str = ""
    changes: Mapping[str, Callable[[], Iterable[Change]]] = field(default_factory=dict)
    planned: bool = False

    def of(
        self, look: Lookup, other: TableRule, whole: bool
    ) -> Iterator[tuple[ScopeValues, tuple[set[Any], set[Any]]]]:
        """(place, (what a look saw of a row, what it sees then)) of each change.

        :param whole: the look is at all places at once.
        """
        for change in self.changes[other.table]():
            sights = (shown_by(look, other, change.key, values) for values in (change.before, change.after))
            yield () if whole else other.scope_of(change.key), (next(sights), next(sights))


NOTHING_UNDERWAY = Underway()


class EvidenceReader:
    """Evidence for one sweep over a table: keys must come in ascending order; the last place's answers are kept.

    What each account shows is looked up once for a place, whichever merges ask for it.

    :param found: finds the rows of the accounts.
    :param merges_into: account -> merges that moved rows to it, undone ones left out.
    :param underway: what the undo or redo that looks has done already, or of a preview will have done.
    """

    def __init__(
        self,
        found: RowFinder,
        cas: JournalSession,
        tables: Tables,
        rule: TableRule,
        merges_into: Mapping[str, Iterable[uuid.UUID]],
        underway: Underway = NOTHING_UNDERWAY,
    ) -> None:
        self._found, self._cas, self._rule, self._merges_into = found, cas, rule, merges_into
        others = ((look, rule_for(look.table)) for look in rule.lookups)
        self._looks = [(look, other, schema) for look, other in others if (schema := tables.of(other)) is not None]
        self._scope: ScopeValues | None = None
        self._shown: dict[tuple[str, str], tuple[frozenset[Any], frozenset[Any]]] = {}
        self._turned: dict[tuple[str, str], _Turned] = {}
        self._showed: dict[tuple[str, uuid.UUID], dict[str, frozenset[Any]]] = {}
        self._streams: dict[tuple[str, str], Cursor[Any]] = {}
        self._underway = underway
        self._changes = {
            look.name: Cursor(underway.of(look, other, rule.holds_scopes), f"changed rows of {other.table}")
            for look, other, _ in self._looks
            if other.table in underway.changes
        }
        self._expired = RedactedFacts(cas)

    def of(self, view: View) -> Shown:
        """Return what one merge sees."""
        return Shown(partial(self.at, view), partial(self.beside, view))

    def at(self, view: View, key: Key) -> Evidence:
        """Return the evidence for the row with this key: `<look>`, `<look>: brought` and, of that, what has not expired,
        `<look>: lately`; each account -> values. For an undo or redo `<look>: before` and `<look>: after` it, of the account
        whose rows it changes."""
        if not self._looks:
            return {}
        scope, found = self._go_to(key), dict[str, Mapping[str, Any]]()
        accounts = [account for account in self._merges_into if view.counts(account, scope)]
        for look, other, schema in self._looks:
            images = self._images(view.merge, look, other, schema) if view.merge and look.table in view.logged else None
            found[look.name] = {
                account: self._seen(look, account)
                if images is None or account == view.target
                else images.get(account, frozenset())
                for account in accounts
            }
            if scope is not None and look.where is not None:
                turned = {account: self._turns(look, other, schema, account) for account in self._merges_into}
                found[look.name] = {a: values | turned[a].taken for a, values in found[look.name].items()}
                found[f"{look.name}: brought"] = {a: one.brought for a, one in turned.items()}
                found[f"{look.name}: lately"] = {a: one.lately for a, one in turned.items()}
            if look.name in self._changes:
                before, after = self._sights(look, self._underway.account)
                found[f"{look.name}: before"] = {self._underway.account: before}
                found[f"{look.name}: after"] = {self._underway.account: after}
        return {
            **found, "kept": {"places": view.kept}, "seeded": {"accounts": view.seeded}, "yielded": view.yielded,
        }  # fmt: skip

    def beside(self, view: View, key: Key) -> frozenset[str]:
        """Return the sources that have rows in the tables looked at, in this key's place: they count also without a row here."""
        if not self._looks:
            return frozenset()
        scope = self._go_to(key)
        return frozenset(
            account
            for account in view.sources
            if view.counts(account, scope)
            and any(
                self._found.touches(other, account, scope) and self._seen(look, account)
                for look, other, _ in self._looks
            )
        )

    def _go_to(self, key: Key) -> ScopeValues | None:
        scope = None if self._rule.holds_scopes else self._rule.scope_of(key)
        if scope != self._scope:
            self._scope, self._shown, self._turned, self._showed = scope, {}, {}, {}
        return scope

    def _seen(self, look: Lookup, account: str) -> frozenset[Any]:
        return self._sights(look, account)[1]

    def _sights(self, look: Lookup, account: str) -> tuple[frozenset[Any], frozenset[Any]]:
        """Return what an account showed in the place at hand before the undo or redo that looks, and what it shows."""
        at = (look.name, account)
        if at not in self._shown:
            before = after = frozenset(self._found.look(look, account, self._scope))
            ours = account == self._underway.account and look.name in self._changes
            changes = self._changes[look.name].at(self._scope or ()) if ours else []
            if self._underway.planned:
                for old, new in changes:
                    after = (after - old) | new
            else:
                for old, new in reversed(changes):
                    before = (before - new) | old
            self._shown[at] = before, after
        return self._shown[at]

    def _images(
        self, merge: uuid.UUID, look: Lookup, other: TableRule, schema: TableSchema
    ) -> dict[str, frozenset[Any]]:  # fmt: skip
        """Source account -> what it showed in the place at hand when a merge was done, by that merge's log."""
        if (look.name, merge) not in self._showed:
            at, words = (look.name, str(merge)), f"rows of {other.table} in the log"
            if at not in self._streams:
                log = Log(self._cas, merge, other.table, Codec(schema))
                self._streams[at] = Cursor(images_of(log, look, other, self._rule.holds_scopes), words)
            found: dict[str, frozenset[Any]] = {}
            for account, values in self._streams[at].at(self._scope or ()):
                found[account] = found.get(account, frozenset()) | values
            self._showed[look.name, merge] = found
        return self._showed[look.name, merge]

    def _turns(self, look: Lookup, other: TableRule, schema: TableSchema, account: str) -> _Turned:
        """Return what merges made of an account's rows in the place at hand."""
        at = (look.name, account)
        if at not in self._turned:
            if at not in self._streams:
                logs = [Log(self._cas, m, other.table, Codec(schema)) for m in sorted(self._merges_into[account])]
                words = f"rows of {other.table} in the log"
                made = (ascending(turned(log, look, other, self._expired), words) for log in logs)
                self._streams[at] = Cursor(heapq.merge(*made, key=lambda item: item[0]), words)
            found = self._streams[at].at(self._scope)
            lately = frozenset(value for value, matches in found if matches)
            taken = frozenset(value for value, matches in found if not matches)
            told = self._told(look, account)
            self._turned[at] = _Turned(lately | told, lately, taken)
        return self._turned[at]

    def _told(self, look: Lookup, account: str) -> frozenset[Any]:
        """Those of the shown values that expired logs know as brought."""
        where = look.where
        if where is None or not self._expired:
            return frozenset()
        shown = self._seen(look, account)
        return frozenset(v for v in shown if self._expired.brought(look.table, where, account, self._scope, v))


@dataclass(frozen=True)
class _Turned:
    """What merges made of an account's rows in one place.

    :param brought: values of the rows that they made match a look's `where`; `lately`: those that have not expired.
    :param taken: values of the rows that matched, and do not any more by a merge: a person chose the source's rows.
    """

    brought: frozenset[Any]
    lately: frozenset[Any]
    taken: frozenset[Any]


def shown_by(look: Lookup, other: TableRule, key: Key, values: Values | None) -> set[Any]:
    """Return what a look collects of one row; nothing where there is none, or where it does not match the look's `where`."""
    if values is None or (look.where and values.get(look.where[0]) != look.where[1]):
        return set()
    known = {**dict(zip(other.key, key, strict=True)), **values}
    named = tuple(usable(known.get(c)) for c in look.collect)
    return set() if named[0] is None else {named[0] if len(named) == 1 else named}


def images_of(
    log: Log, look: Lookup, other: TableRule, whole: bool
) -> Iterator[tuple[ScopeValues, tuple[str, set[Any]]]]:  # fmt: skip
    """(place, (source account, what a look saw of its row)) of each row that a merge found.

    :param whole: the look is at all places at once.
    """
    for entry in log.entries():
        for change in entry.changes if entry.kind == EntryKind.CHANGES else ():
            for account, values in change.sources.items():
                yield () if whole else other.scope_of(change.key), (account, shown_by(look, other, change.key, values))


def in_runs(log: Log, of: Callable[[Entry], Iterable[T]], key: Callable[[T], Any]) -> Iterator[T]:
    """Yield what entries of a log tell, sorted: a fold goes back to rows of the entry that it mends, and stands behind it."""
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
    log: Log, look: Lookup, other: TableRule, kept: RedactedFacts
) -> Iterator[tuple[ScopeValues, tuple[Any, bool]]]:
    """(place, (collected value, whether it matches now)) of each row that this log made match, or not match, the look's
    `where`; by place.

    :param kept: takes in what expired entries tell.
    """

    def of(entry: Entry) -> Iterator[tuple[ScopeValues, tuple[Any, bool]]]:
        if entry.kept is not None:
            kept.add(entry.kept)
        for change in entry.changes:
            yield from turned_by(change, look, other)

    return in_runs(log, of, lambda item: item[0]) if look.where else iter(())


def turned_by(change: Change, look: Lookup, other: TableRule) -> Iterator[tuple[ScopeValues, tuple[Any, bool]]]:
    """(place, (collected value, whether it matches now)) when this change made its row match the look's `where`, or not."""
    if look.where is None:
        return
    column, value = look.where
    write = change.writes.get(column)
    before = (change.before or {}).get(column) == value
    if write is not None and before != (write.value == value):
        values = dict(zip(other.key, change.key, strict=True))
        named = tuple(values.get(c) for c in look.collect)
        yield other.scope_of(change.key), (named[0] if len(named) == 1 else named, not before)
