"""One lookup of one sweep over a table: the values that accounts show in a scope now, showed then, and got by merges."""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from account_merge.cursor import Cursor, ascending
from account_merge.engine.lookup_logs import collected, images_of, turned
from account_merge.engine.view import Underway, View
from account_merge.journal import Journal
from account_merge.journal.encoding import Codec
from account_merge.journal.log import Log
from account_merge.journal.redaction import RedactedFacts
from account_merge.rules import Lookup, TableRule
from account_merge.rules.evidence import Findings, ScopeValues
from account_merge.sunbird.row_finder import RowFinder
from account_merge.sunbird.schema import TableSchema

_Seen = frozenset[Any]


@dataclass(frozen=True)
class Sweep:
    """The parts that the lookups of one sweep share.

    :param finder: finds the rows of the accounts.
    :param whole: the lookups are at all scopes at once.
    :param merges_into: account -> merges that moved rows to it, undone ones left out.
    :param underway: what the undo or redo that looks has done already, or in a preview will have done.
    :param expired: what expired entries tell.
    """

    finder: RowFinder
    journal: Journal
    whole: bool
    merges_into: Mapping[str, Iterable[uuid.UUID]]
    underway: Underway
    expired: RedactedFacts


@dataclass(frozen=True)
class _Turned:
    """Values of an account's rows in one scope that merges turned.

    :param brought: values of the rows that merges made match `where`.
    :param lately: those of them whose merge has not expired.
    :param taken: values of the rows that matched before a merge and do not since: a person chose the source's rows.
    """

    brought: _Seen
    lately: _Seen
    taken: _Seen


class LookupReader:
    """Reads one lookup scope by scope, in ascending order; the answers for the scope at hand are kept.

    :param other: the rule of the table that the lookup is at.
    """

    def __init__(self, sweep: Sweep, lookup: Lookup, other: TableRule, schema: TableSchema) -> None:
        self.lookup, self._sweep, self._other, self._schema = lookup, sweep, other, schema
        self._scope: ScopeValues | None = None
        self._sights: dict[str, tuple[_Seen, _Seen]] = {}
        self._images: dict[uuid.UUID, dict[str, _Seen]] = {}
        self._turned: dict[str, _Turned] = {}
        self._image_logs: dict[uuid.UUID, Cursor[tuple[str, set[Any]]]] = {}
        self._turned_logs: dict[str, Cursor[tuple[Any, bool]]] = {}
        changed = other.table in sweep.underway.changes
        words = f"changed rows of {other.table}"
        self._changes = Cursor(self._changed(), words) if changed else None

    def go_to(self, scope: ScopeValues | None) -> None:
        """Go on to a scope; None stands for all scopes at once."""
        self._scope, self._sights, self._turned, self._images = scope, {}, {}, {}

    def expect(self, scope: ScopeValues | None) -> None:
        """Have what the accounts show in a later scope read meanwhile."""
        self._sweep.finder.expect(self.lookup, scope)

    def findings(self, view: View, accounts: Collection[str]) -> Findings:
        """Return what one merge sees.

        :param accounts: those whose rows count for the merge.
        """
        replayed = view.merge if self.lookup.table in view.logged else None
        images = self._images_of(replayed) if replayed else None
        shown = {
            account: self.seen(account)
            if images is None or account == view.target
            else images.get(account, frozenset())
            for account in accounts
        }
        brought, lately, before, after = {}, {}, {}, {}
        if self._scope is not None and self.lookup.where is not None:
            made = {account: self._turned_in(account) for account in self._sweep.merges_into}
            shown = {account: values | made[account].taken for account, values in shown.items()}
            brought = {account: one.brought for account, one in made.items()}
            lately = {account: one.lately for account, one in made.items()}
        if self._changes is not None:
            account = self._sweep.underway.account
            before[account], after[account] = self._sight(account)
        return Findings(shown, brought, lately, before, after)

    def touches(self, account: str) -> bool:
        """Whether an account has rows in the scope at hand that the lookup collects."""
        return self._sweep.finder.touches(self._other, account, self._scope) and bool(self.seen(account))

    def seen(self, account: str) -> _Seen:
        """Return what an account shows in the scope at hand."""
        return self._sight(account)[1]

    def _changed(self) -> Iterator[tuple[ScopeValues, tuple[set[Any], set[Any]]]]:
        """Yield (scope, (what the lookup saw of a row, what it sees then)) of each change that is under way."""
        for change in self._sweep.underway.changes[self._other.table]():
            saw, sees = (
                collected(self.lookup, self._other, change.key, values) for values in (change.before, change.after)
            )
            yield () if self._sweep.whole else self._other.scope_of(change.key), (saw, sees)

    def _sight(self, account: str) -> tuple[_Seen, _Seen]:
        """Return what an account showed in the scope at hand before the undo or redo that looks, and what it shows."""
        if account not in self._sights:
            underway = self._sweep.underway
            before = after = frozenset(self._sweep.finder.look(self.lookup, account, self._scope))
            ours = self._changes if account == underway.account else None
            changes = ours.at(self._scope or ()) if ours is not None else []
            if underway.planned:
                for old, new in changes:
                    after = (after - old) | new
            else:
                for old, new in reversed(changes):
                    before = (before - new) | old
            self._sights[account] = before, after
        return self._sights[account]

    def _log(self, merge: uuid.UUID) -> Log:
        return Log(self._sweep.journal, merge, self._other.table, Codec(self._schema))

    def _images_of(self, merge: uuid.UUID) -> dict[str, _Seen]:
        """Return source account -> what it showed in the scope at hand when a merge was done, by that merge's log."""
        if merge not in self._images:
            if merge not in self._image_logs:
                images = images_of(self._log(merge), self.lookup, self._other, self._sweep.whole)
                self._image_logs[merge] = Cursor(images, f"rows of {self._other.table} in the log")
            found: dict[str, _Seen] = {}
            for account, values in self._image_logs[merge].at(self._scope or ()):
                found[account] = found.get(account, frozenset()) | values
            self._images[merge] = found
        return self._images[merge]

    def _turned_in(self, account: str) -> _Turned:
        """Return what merges made of an account's rows in the scope at hand."""
        if account not in self._turned:
            if account not in self._turned_logs:
                self._turned_logs[account] = self._turned_log(account)
            found = self._turned_logs[account].at(self._scope)
            lately = frozenset(value for value, matches in found if matches)
            taken = frozenset(value for value, matches in found if not matches)
            self._turned[account] = _Turned(lately | self._expired(account), lately, taken)
        return self._turned[account]

    def _turned_log(self, account: str) -> Cursor[tuple[Any, bool]]:
        words = f"rows of {self._other.table} in the log"
        logs = [self._log(merge) for merge in sorted(self._sweep.merges_into[account])]
        streams = (ascending(turned(log, self.lookup, self._other, self._sweep.expired), words) for log in logs)
        return Cursor(heapq.merge(*streams, key=lambda item: item[0]), words)

    def _expired(self, account: str) -> _Seen:
        """Return those of the shown values that expired logs know as brought."""
        where, expired = self.lookup.where, self._sweep.expired
        if where is None or not expired:
            return frozenset()
        shown = self.seen(account)
        return frozenset(v for v in shown if expired.brought(self.lookup.table, where, account, self._scope, v))
