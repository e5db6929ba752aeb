"""The plan of a proposed merge: stored as digests with the proposal, and compared with the present plan later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from account_merge.engine.merge_tables import MergeTables
from account_merge.engine.resources import TableJob
from account_merge.errors import NeedsAttention
from account_merge.journal import leases
from account_merge.journal.plans import DIGEST, PlanDigests, differences
from account_merge.jsonable import jsonable
from account_merge.model import Change, Key, Merge, Values, row_outcome
from account_merge.rules import RULES, TableRule
from account_merge.states import EntryKind, State

#: (kind, account whose row it is, key) of a row that differs from the plan; None for one that vanished.
PlanDifference = tuple[str, tuple[str, Key] | None]


class ApprovedPlan:
    """Writes and compares plans. The digests cover the key, the rows before and the row after, but no time of a read."""

    def __init__(self, tables: MergeTables) -> None:
        self._tables, self._journal = tables, tables.resources.journal

    def write(self, merge: Merge) -> None:
        """Plan every table and store the digests under the merge's salt."""
        for rule, changes in self._planned(merge):
            counts: dict[str, int] = {}

            def rows(changes: Iterator[tuple[str, Change]] = changes, counts: dict[str, int] = counts) -> Any:
                for account, change in changes:
                    for kind in (row_outcome(EntryKind.CHANGES, change), *(["ambiguous"] if change.notes else [])):
                        counts[kind] = counts.get(kind, 0) + 1
                    yield _pair(merge, account, change)

            self._log(merge, rule).write(rows(), counts)

    def counts(self, merge: Merge) -> dict[str, Mapping[str, int]] | None:
        """Return table -> proposed rows by what would happen to them; None when the plan is not whole."""
        found = {rule.table: self._log(merge, rule).counts() for rule in RULES} if merge.plan else {"": None}
        whole = {table: counts for table, counts in found.items() if counts is not None}
        return whole if len(whole) == len(found) else None

    def differences(self, merge: Merge) -> Iterator[tuple[TableRule, Iterator[PlanDifference]]]:
        """Yield the differences from the plan by table. Writes nothing."""
        for rule, changes in self._planned(merge):
            planned = ((*_pair(merge, account, change), (account, change.key)) for account, change in changes)
            yield rule, differences(self._log(merge, rule).rows(), planned)

    def changed(self, merge: Merge) -> NeedsAttention | None:
        """Return the error with the numbers of rows that differ from the plan; None when none does."""
        numbers = {}
        for rule, found in self.differences(merge):
            counts: dict[str, int] = {}
            for kind, _ in found:
                counts[kind] = counts.get(kind, 0) + 1
            if counts:
                numbers[rule.table] = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
        if not numbers:
            return None
        words = "; ".join(f"{table}: {counts}" for table, counts in numbers.items())
        return NeedsAttention(
            "PLAN_CHANGED",
            f"merge {merge.merge_id} would do otherwise than was proposed, by rows: {words}",
            "Nothing was written. Its page names the rows: propose it anew, or reject it.",
        )

    def forget(self, merge: Merge) -> None:
        """Remove the digests of every table; may be repeated."""
        for rule in RULES:
            self._log(merge, rule).forget()

    def _log(self, merge: Merge, rule: TableRule) -> PlanDigests:
        return PlanDigests(self._journal, merge.merge_id, rule.table)

    def _planned(self, merge: Merge) -> Iterator[tuple[TableRule, Iterator[tuple[str, Change]]]]:
        """Yield each rule with (account, change) of each row, in key order, as a preview plans them."""
        seen = replace(merge, state=State.PREVIEW, survivor=leases.check_survivors(self._journal, merge))
        asked = self._tables.rules(merge)
        for rule in RULES:
            works = self._tables.works(TableJob(seen, rule)) if rule in asked else []
            yield rule, chain.from_iterable(((w.account, change) for change, _ in w.plan()) for w in works)


def plan_name(merge: Merge) -> str:
    """Return the name of the plan that an approval gives; empty without a plan."""
    return hashlib.blake2b(merge.plan, digest_size=8).hexdigest() if merge.plan else ""


def _pair(merge: Merge, account: str, change: Change) -> tuple[bytes, bytes]:
    key = [account, *map(jsonable, change.key)]
    rows = [_row(change.before), {a: _row(values) for a, values in change.sources.items()}, _row(change.after)]
    return _digest(merge, key), _digest(merge, [key, *rows, jsonable(change.given)])


def _row(values: Values | None) -> Any:
    """Return a row without its nulls: null and absent are the same."""
    return None if values is None else {c: jsonable(v) for c, v in values.items() if v is not None}


def _digest(merge: Merge, about: Any) -> bytes:
    return hashlib.blake2b(
        json.dumps(about, sort_keys=True).encode(), key=merge.plan or b"", digest_size=DIGEST
    ).digest()
