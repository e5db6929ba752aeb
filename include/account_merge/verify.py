"""Re-reads what an entry wrote; where the platform wrote later, plans the row again so that nothing of either is lost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from account_merge.log import LIST_ATTEMPTS
from account_merge.model import Change, Entry, Row
from account_merge.planner import EvidenceFor, no_evidence, plan_row
from account_merge.rules import TableRule
from account_merge.schema import TableSchema
from account_merge.settings import Settings
from account_merge.store import Store


def holds(now: Any, put: Any) -> bool:
    """Whether a column holds what was put: all elements of a map or set, the same value of anything else."""
    if isinstance(put, Mapping):
        return all((now or {}).get(k) == v for k, v in put.items())
    if isinstance(put, set | frozenset):
        return set(put) <= set(now or ())
    return bool(now == put)


def refold(
    store: Store,
    schema: TableSchema,
    rule: TableRule,
    target: str,
    entry: Entry,
    sent: float,
    settings: Settings,
    evidence_for: EvidenceFor = no_evidence,
) -> tuple[list[Change], int]:
    """The changes that bring rows written since back to nothing lost, and their base (µs); empty when all is well.

    :param sent: seconds since the epoch; the entry's writes cannot have been seen by anybody before.
    """
    acknowledged = time.time()
    wrote = [c for c in entry.changes if c.writes or c.create]
    if not wrote:
        return [], 0
    rows = store.rows_by_key(schema, target, [c.key for c in wrote])
    floor = max([entry.base, *(w.timestamp for c in wrote for w in c.writes.values())]) + LIST_ATTEMPTS
    base = max(next(iter(rows.values())).base if rows else store.base(), floor)
    folds = []
    for change in wrote:
        row = rows.get(change.key)
        if not _dirty(rule, change, row):
            continue
        given, notes = _given(rule, change, row, sent, acknowledged, settings)
        evidence = evidence_for(change.key)
        again = plan_row(rule, change.key, change.sources, row, target, base, given, evidence, notes)
        if again.writes or again.create or notes:
            folds.append(_keeping_ledger(again, change))
    return folds, base


def _dirty(rule: TableRule, change: Change, row: Row | None) -> bool:
    if row is None:
        return True
    for column, write in change.writes.items():
        if rule.strategy(column).ledger:
            if row.written.get(column, 0) > write.timestamp or row.values.get(column) is None:
                return True
        elif not holds(row.values.get(column), write.value):
            return True
    return False


def _given(
    rule: TableRule, change: Change, row: Row | None, sent: float, acknowledged: float, settings: Settings
) -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
    """For each total: is our share already in the value that is there now? Decided by time; the value is a hint."""
    contained: dict[str, bool] = {}
    notes = []
    for column, write in change.writes.items():
        if not rule.strategy(column).ledger:
            continue
        value = row.values.get(column) if row else None
        when = (row.written.get(column, 0) if row else 0) / 1e6
        share = write.value - ((change.before or {}).get(column) or 0)
        if value is None or (when * 1e6 > write.timestamp and when < sent - settings.clock_margin_seconds):
            contained[column] = False
        elif when * 1e6 <= write.timestamp or when > acknowledged + settings.platform_write_window_seconds:
            contained[column] = True
        else:
            contained[column] = value >= write.value
            if contained[column]:
                notes.append(
                    f"{column}: the platform wrote {value} while the merge added {share}; read as containing it "
                    f"({value}), otherwise it would be {value + share}"
                )
    given = {
        account: {c: (after if contained.get(c, True) else before) for c, (before, after) in totals.items()}
        for account, totals in change.given.items()
    }
    return given, tuple(notes)


def _keeping_ledger(again: Change, change: Change) -> Change:
    """A fold hands nothing new on: its ledger says at least what the entry's said."""
    given = {
        account: {
            c: (
                again.given.get(account, {}).get(c, (before, after))[0],
                max(after, again.given.get(account, {}).get(c, (0, 0))[1]),
            )
            for c, (before, after) in totals.items()
        }
        for account, totals in change.given.items()
    }
    return replace(again, given=given)
