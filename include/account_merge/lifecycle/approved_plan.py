"""The plan of a proposed merge: kept as digests when it is proposed, and compared with what would be done by then."""

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
from account_merge.model import Change, EntryKind, Key, Merge, Values, row_outcome
from account_merge.rules import RULES, TableRule
from account_merge.states import State

#: (kind, account whose row it is, key) of a row that is otherwise than planned; of one that vanished nothing is known.
Difference = tuple[str, tuple[str, Key] | None]


class ApprovedPlan:
    """Writes and compares plans. The digests cover key, rows before and row after; not the times of a read."""

    def __init__(self, tables: MergeTables) -> None:
        self._tables, self._journal = tables, tables.resources.journal

    def write(self, merge: Merge) -> None:
        """Plan every table and keeps the digests under the merge's salt."""
        for rule, changes in self._planned(merge):
            counts: dict[str, int] = {}

            def rows(changes: Iterator[tuple[str, Change]] = changes, counts: dict[str, int] = counts) -> Any:
                for account, change in changes:
                    for kind in (row_outcome(EntryKind.CHANGES, change), *(["ambiguous"] if change.notes else [])):
                        counts[kind] = counts.get(kind, 0) + 1
                    yield _pair(merge, account, change)

            self._log(merge, rule).write(rows(), counts)

    def counts(self, merge: Merge) -> dict[str, Mapping[str, int]] | None:
        """Table -> rows by what would happen to them, as proposed; None when the plan is not there as a whole."""
        found = {rule.table: self._log(merge, rule).counts() for rule in RULES} if merge.plan else {"": None}
        whole = {table: counts for table, counts in found.items() if counts is not None}
        return whole if len(whole) == len(found) else None

    def differences(self, merge: Merge) -> Iterator[tuple[TableRule, Iterator[Difference]]]:
        """By table what would be done otherwise than planned. Writes nothing."""
        for rule, changes in self._planned(merge):
            planned = ((*_pair(merge, account, change), (account, change.key)) for account, change in changes)
            yield rule, differences(self._log(merge, rule).rows(), planned)

    def changed(self, merge: Merge) -> NeedsAttention | None:
        """Return the error that says by numbers what would be done otherwise than planned; None when it is exactly that."""
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
        """Of every rule's table the (account, change) of each row, in key order, as a preview plans them."""
        seen = replace(merge, state=State.PREVIEW, survivor=leases.check_survivors(self._journal, merge))
        asked = self._tables.rules(merge)
        for rule in RULES:
            works = self._tables.works(TableJob(seen, rule)) if rule in asked else []
            yield rule, chain.from_iterable(((w.account, change) for change, _ in w.plan()) for w in works)


def plan_name(merge: Merge) -> str:
    """Return what an approval names the plan by; empty when there is none."""
    return hashlib.blake2b(merge.plan, digest_size=8).hexdigest() if merge.plan else ""


def _pair(merge: Merge, account: str, change: Change) -> tuple[bytes, bytes]:
    key = [account, *map(jsonable, change.key)]
    rows = [_row(change.before), {a: _row(values) for a, values in change.sources.items()}, _row(change.after)]
    return _digest(merge, key), _digest(merge, [key, *rows, jsonable(change.given)])


def _row(values: Values | None) -> Any:
    """Return a row without what is null, which is the same as absent."""
    return None if values is None else {c: jsonable(v) for c, v in values.items() if v is not None}


def _digest(merge: Merge, about: Any) -> bytes:
    return hashlib.blake2b(
        json.dumps(about, sort_keys=True).encode(), key=merge.plan or b"", digest_size=DIGEST
    ).digest()
