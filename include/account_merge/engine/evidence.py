"""Evidence for one sweep over a table, from the accounts' stored rows of other tables.

The answer is the same before, during and after a merge: the logs of earlier merges tell apart what they brought.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from functools import partial

from account_merge.engine.lookup_reader import LookupReader, Sweep
from account_merge.engine.view import NOTHING_UNDERWAY, Underway, View
from account_merge.journal import Journal
from account_merge.journal.redaction import RedactedFacts
from account_merge.model import Key
from account_merge.planning.merge_join import Shown
from account_merge.rules import TableRule, rule_for
from account_merge.rules.evidence import NO_EVIDENCE, Evidence, ScopeValues
from account_merge.sunbird.row_finder import RowFinder
from account_merge.sunbird.schema import Tables


class EvidenceReader:
    """Reads evidence key by key, in ascending order; each account is looked up once for a scope, whichever merges ask.

    :param found: finds the rows of the accounts.
    :param merges_into: account -> merges that moved rows to it, undone ones left out.
    :param underway: what the undo or redo that looks has done already, or in a preview will have done.
    """

    def __init__(
        self,
        found: RowFinder,
        journal: Journal,
        tables: Tables,
        rule: TableRule,
        merges_into: Mapping[str, Iterable[uuid.UUID]],
        underway: Underway = NOTHING_UNDERWAY,
    ) -> None:
        self._rule, self._merges_into = rule, merges_into
        self._scope: ScopeValues | None = None
        sweep = Sweep(found, journal, rule.holds_scopes, merges_into, underway, RedactedFacts(journal))
        others = ((lookup, rule_for(lookup.table)) for lookup in rule.lookups)
        self._lookups = [
            LookupReader(sweep, lookup, other, schema)
            for lookup, other in others
            if (schema := tables.of(other)) is not None
        ]

    def of(self, view: View) -> Shown:
        """Return what one merge sees."""
        return Shown(partial(self.at, view), partial(self.beside, view), self.expect)

    def expect(self, key: Key) -> None:
        """Be told that the row with this key comes soon: its evidence is read while others are worked on."""
        scope = self._scope_of(key)
        for one in self._lookups:
            one.expect(scope)

    def at(self, view: View, key: Key) -> Evidence:
        """Return the evidence for the row with this key, as one merge sees it."""
        if not self._lookups:
            return NO_EVIDENCE
        scope = self._go_to(key)
        accounts = [account for account in self._merges_into if view.counts(account, scope)]
        found = {one.lookup.name: one.findings(view, accounts) for one in self._lookups}
        return Evidence(found, view.kept, view.seeded, view.from_other_source)

    def beside(self, view: View, key: Key) -> frozenset[str]:
        """Return the sources that have rows in this key's scope of the tables looked at: they count also without a row here."""
        if not self._lookups:
            return frozenset()
        scope = self._go_to(key)
        counted = (account for account in view.sources if view.counts(account, scope))
        return frozenset(account for account in counted if any(one.touches(account) for one in self._lookups))

    def _go_to(self, key: Key) -> ScopeValues | None:
        scope = self._scope_of(key)
        if scope != self._scope:
            self._scope = scope
            for one in self._lookups:
                one.go_to(scope)
        return scope

    def _scope_of(self, key: Key) -> ScopeValues | None:
        return None if self._rule.holds_scopes else self._rule.scope_of(key)
