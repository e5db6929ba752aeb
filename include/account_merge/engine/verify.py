"""Verification: read what an entry wrote; where the platform wrote later, plan the row again so that nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from account_merge.choices import SOURCE
from account_merge.engine.resources import Resources
from account_merge.journal.log import LIST_ATTEMPTS
from account_merge.model import Change, Entry, Row, Write
from account_merge.planning.combining import Facts, folding
from account_merge.planning.lifetimes import alive, lasting
from account_merge.planning.lost_updates import holds, lost_updates, still_holds
from account_merge.planning.merge_join import EvidenceFor, plan_row
from account_merge.planning.news import Earlier
from account_merge.planning.write_times import above
from account_merge.rules import TableRule
from account_merge.settings import Settings
from account_merge.sunbird.schema import TableSchema
from account_merge.sunbird.store import Store


def floor_of(changes: Iterable[Change]) -> dict[str, Write]:
    """Return the least timestamps at which a column, and what was written ahead in it, is above all that these changes put."""
    floor: dict[str, Write] = {}
    for change in changes:
        for column, write in change.writes.items():
            known = floor.get(column, Write(None, 0))
            later = {e: max(t + LIST_ATTEMPTS + 1, known.later.get(e, 0)) for e, t in write.later.items()}
            least = max(write.timestamp + LIST_ATTEMPTS + 1, known.timestamp)
            floor[column] = Write(None, least, later={**known.later, **later})
    return floor


def fold_in(
    resources: Resources, schema: TableSchema, rule: TableRule, target: str, entry: Entry, sent: float,
    evidence_for: EvidenceFor,
) -> tuple[list[Change], int]:  # fmt: skip
    """Return the changes that fold later writes of the platform in, and their base (µs); empty when all rows hold.

    :param sent: seconds since the epoch; nobody can have seen the entry's writes before.
    :param evidence_for: what rows of other tables show, asked in key order.
    """
    wrote = [c for c in entry.changes if c.writes or c.create_at]
    if not wrote:
        return [], 0
    store, settings = resources.store, resources.settings
    rows = store.rows_by_key(schema, target, [c.key for c in wrote])
    base = max(next(iter(rows.values())).base if rows else store.safe_timestamp(), entry.base + LIST_ATTEMPTS)
    folds = []
    for change in wrote:
        row = rows.get(change.key)
        if still_holds(rule, change, row):
            continue
        lost, notes = lost_updates(rule, change, row, sent, settings)
        given = {account: {c: after for c, (_, after) in totals.items()} for account, totals in change.given.items()}
        instead = {c: _gone_on(change, row, c) for c in lost}
        by, evidence = folding(rule, change.choice), evidence_for(change.key)
        living = alive(change, time.time())
        sources = {account: one.values for account, one in living.items()}
        earlier = Earlier.of(rule, change)
        facts = Facts(given, evidence, earlier, notes=notes, instead=instead)
        again = plan_row(by, change.key, sources, row, target, base, facts)
        again = above(lasting(again, living, row, base), row, base, floor_of([change]))
        if again.writes or again.create_at or notes:
            folds.append(_keeping_ledger(again, change)._replace(unseen=lost, choice=change.choice))
    return folds, base


def _gone_on(change: Change, row: Row | None, column: str) -> int:
    """Return a total as it would be had the platform seen what was put: our difference on top of the number there.

    Where the total is gone, only the difference comes again; where a person chose the source's row, the whole.
    """
    wrote: int = (change.after or {}).get(column) or 0
    found: int | None = row.values.get(column) if row else None
    if found is None and change.choice == SOURCE:
        return wrote
    return max(0, (found or 0) + wrote - ((change.before or {}).get(column) or 0))


def arrived(rule: TableRule, change: Change, row: Row | None, sent: float, settings: Settings) -> Change:
    """Return a change as far as the row shows it, when nobody goes on with it; the other columns stand in `missing`.

    A missing column was not handed on either. A total that the platform wrote later counts as there, unless its value
    tells that the platform had not seen our write.
    """
    if change.delete_at:
        return (
            change if row is None else change._replace(writes={}, delete_at=0, missing=frozenset({"", *change.writes}))
        )
    if row is None:
        gone = frozenset(change.writes) | ({""} if change.create_at else set())
        return _lacking(change._replace(writes={}, create_at=0, missing=gone), gone) if gone else change
    lost, notes = lost_updates(rule, change, row, sent, settings)
    writes = {}
    for column, write in change.writes.items():
        if rule.strategy(column).ledger:
            older = row.written.get(column, write.timestamp) < write.timestamp
            part = None if column in lost or older else write
        else:
            part = _held(row.values.get(column), write)
        if part is not None:
            writes[column] = part
    missing = frozenset(c for c, write in change.writes.items() if writes.get(c) != write)
    if not missing:
        return change
    return _lacking(change._replace(writes=writes, missing=missing, notes=(*change.notes, *notes)), missing - {*writes})


def _held(now: Any, write: Write) -> Write | None:
    """Return the part of a write that the column shows; a map or set is compared element by element."""
    if holds(now, write):
        return write
    if isinstance(write.value, Mapping | set | frozenset) or write.remove:
        found = now or {}
        value = (
            {k: v for k, v in write.value.items() if k in found and holds(found[k], Write(v, 0))}
            if isinstance(write.value, Mapping)
            else {v for v in write.value or () if v in found}
        )
        part = write._replace(value=value, remove=frozenset(e for e in write.remove if e not in found))
        return part if part.value or part.remove else None
    return None


def _lacking(change: Change, columns: frozenset[str]) -> Change:
    """Return the change as if its sources brought nothing to these columns."""
    sources = {a: {c: v for c, v in values.items() if c not in columns} for a, values in change.sources.items()}
    given = {
        account: {c: (before, before if c in columns else after) for c, (before, after) in totals.items()}
        for account, totals in change.given.items()
    }
    return change._replace(sources=sources, given=given)


def _keeping_ledger(again: Change, change: Change) -> Change:
    """Return a fold that hands nothing new on: its ledger says at least what the entry's said."""
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
    return again._replace(given=given)


def without_right_lists(store: Store, schema: TableSchema, account: str, changes: Iterable[Change]) -> list[Change]:
    """Return the changes without the lists that hold already what is written: each writing of a list needs a later timestamp."""
    held = store.rows_by_key(schema, account, [c.key for c in changes if c.writes])
    kept = []
    for change in changes:
        row = held.get(change.key)
        right = {
            c
            for c, w in change.writes.items()
            if schema.columns[c].kind == "list"
            and row is not None
            and (row.values.get(c) == w.value or row.written.get(c, 0) >= w.timestamp + LIST_ATTEMPTS)
        }
        kept.append(change._replace(writes={c: w for c, w in change.writes.items() if c not in right}))
    return kept
