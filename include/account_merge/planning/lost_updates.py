"""Lost updates: the platform wrote over what we had put, from a row that it had read before.

An update that the platform had begun before we wrote may end after our verification. A redelivered event, a repair or a
settle looks at the row again and corrects it. Counters only rise: a total below the value that we put has lost our share.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from account_merge.cursor import Cursor
from account_merge.model import Change, Key, Row, Values, Write, applied
from account_merge.planning.merge_join import NO_CORRECTION, Correction, Corrections
from account_merge.planning.rebuild import AppliedChange, Effective, Given, rebuild
from account_merge.rules import TableRule
from account_merge.rules.comparing import ATOMS
from account_merge.rules.strategies import Strategy
from account_merge.settings import Settings


def holds(now: Any, write: Write) -> bool:
    """Whether a column holds what was put: all elements of a map or set and none removed, else the same value.

    A value that was put for a time only may be gone when that time is over.
    """
    if write.expires and now is None:
        return write.expires <= time.time() + 1
    if isinstance(write.value, Mapping | set | frozenset) or write.remove:
        return bool(applied(now, write) == (now or None))
    return bool(now == write.value)


def shows(rule: TableRule, column: str, write: Write, row: Row) -> bool:
    """Whether a column of a row shows what was put; a total must be the same number, also when its cell has expired."""
    value = row.values.get(column)
    return bool(value == write.value) if rule.strategy(column).ledger else holds(value, write)


def still_holds(rule: TableRule, change: Change, row: Row | None) -> bool:
    """Whether a row is as a change left it, so that nothing of it has to be looked at again.

    A total that was written later does not hold, even where the number is the same: the platform may have overwritten our
    share and counted as much by itself.
    """
    if change.delete_at or row is None:
        # A row without a value is one whose marker lies ahead of the clock. Deleting it would hide what is written until
        # then, so such a row counts as deleted.
        return (row is None or not row.values) == bool(change.delete_at)
    for column, write in change.writes.items():
        value, later = row.values.get(column), row.written.get(column, 0) > write.timestamp
        if not later and type(value) in ATOMS and value == write.value:  # as nearly all cells are
            continue
        if not shows(rule, column, write, row) or (later and rule.strategy(column).ledger):
            return False
    return True


def lost_updates(
    rule: TableRule, change: Change, row: Row | None, sent: float, settings: Settings, until: float | None = None
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the totals that the platform wrote without having seen what we wrote, and notes where that stays open.

    Counters rise: a value below what whoever saw our write would have written tells for certain. So does time: what was
    written before our entry was sent cannot have seen it. Elsewhere the value is a hint, and both readings are named.

    :param until: seconds since the epoch; what was written later, by a clock that is not ahead, has seen our write.
    """
    lost = set()
    notes = []
    for column, (wrote, timestamp) in _totals_put(rule, change).items():
        value = row.values.get(column) if row else None
        written = row.written.get(column, 0) if row else 0
        share = wrote - ((change.before or {}).get(column) or 0)
        if value is None:
            lost |= {column} if wrote else set()
            continue
        if written <= timestamp or not share:
            continue
        below = value < max(
            wrote, wrote - share
        )  # a writer that had read the greater of both would have written no less
        ahead = time.time() + settings.max_clock_skew_seconds
        if (below and share > 0) or (not below and written / 1e6 < sent - settings.clock_margin_seconds):
            lost.add(column)
        elif not below and (until is None or written / 1e6 <= until or written / 1e6 > ahead):
            lost |= {column} if share < 0 else set()
            one, other = (value, max(0, value + share))[:: 1 if share > 0 else -1]
            notes.append(
                f"{column}: the platform wrote {value} while {share:+} was put there; read as "
                f"{'containing that' if share > 0 else 'not containing that'} ({one}), otherwise it would be {other}"
            )
    return frozenset(lost), tuple(notes)


def _totals_put(rule: TableRule, change: Change) -> dict[str, tuple[int, int]]:
    """Return column -> (value, timestamp) of each total that a change put; one that it deleted is 0."""
    found = {c: (w.value or 0, w.timestamp) for c, w in change.writes.items() if rule.strategy(c).ledger}
    if change.delete_at:
        found |= {c: (0, change.delete_at) for c in change.before or () if rule.strategy(c).ledger}
    return found


def lost_since(
    rule: TableRule, steps: Sequence[AppliedChange], row: Row | None, settings: Settings
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return `lost_updates` for the last write of each total, looked at any time later."""
    lost: set[str] = set()
    notes: list[str] = []
    seen: set[str] = set()
    for step in reversed(steps):
        columns = {c for c in step.change.writes if rule.strategy(c).ledger} - seen
        columns |= {c for c in step.change.before or () if rule.strategy(c).ledger and step.change.delete_at} - seen
        seen |= columns
        if columns and row is not None:
            one = step.change._replace(writes={c: w for c, w in step.change.writes.items() if c in columns})
            until = step.sent + settings.platform_write_window_seconds + settings.clock_margin_seconds
            more, said = lost_updates(rule, one, row, step.sent, settings, until)
            lost |= more & columns
            notes += said
    return frozenset(lost), tuple(notes)


def overwritten(
    rule: TableRule, steps: Sequence[AppliedChange], row: Row, settings: Settings
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return columns in which the platform replaced what we had put, from a row that it had read before; totals left out.

    A write long after our entry is a decision and stands. Within the time that an update of the platform takes, the value
    tells: one that shows nothing of what we had put, and goes on from the value before, is a lost update. A state that
    people turn on and off is always a decision.

    :param steps: all that was ever done to the row, in order; at least one.
    """
    found: set[str] = set()
    seen: set[str] = set()
    for step in reversed(steps):
        until = step.sent + settings.platform_write_window_seconds + settings.clock_margin_seconds
        for column, write in step.change.writes.items():
            strategy, at = rule.strategy(column), row.written.get(column, 0)
            if strategy.ledger or strategy.switch or column in seen:
                continue
            ahead = time.time() + settings.max_clock_skew_seconds  # a write time ahead of the clock tells nothing
            if at > write.timestamp and (at / 1e6 <= until or at / 1e6 > ahead):
                before, put = ((values or {}).get(column) for values in (step.change.before, step.change.after))
                found |= {column} if _stale(strategy, before, put, row.values.get(column)) else set()
        seen |= set(step.change.writes)
    notes = (
        f"{column}: the platform replaced what a merge had just put; read as an update that had begun before (put again), "
        "otherwise it was changed on purpose"
        for column in sorted(found)
    )
    return frozenset(found), tuple(notes)


def _stale(strategy: Strategy, before: Any, put: Any, now: Any) -> bool:
    """Whether a value goes on from what stood there before, as if nobody had put anything."""
    if isinstance(put, Mapping):
        brought = {key for key, value in put.items() if (before or {}).get(key) != value}
        return bool(brought) and all((now or {}).get(key) == (before or {}).get(key) for key in brought)
    if isinstance(put, set | frozenset):
        added = put - set(before or ())
        return bool(added) and not added & set(now or ())
    if isinstance(put, list):
        new = [element for element in put if element not in (before or [])]
        return bool(new) and not any(element in (now or []) for element in new) and not _replaced(new, before, now)
    if now == before or put is None or now is None:
        return bool(now == before)
    if not strategy.commutative:
        return False
    rose = before is None or strategy.merge(before, now) == now
    return rose and now != put and bool(strategy.merge(now, put) == put)


def _replaced(new: Sequence[Any], before: Any, now: Any) -> bool:
    """Whether the platform issued one of these anew: another of the same name stands in its place."""
    names = {element.get("name") for element in new if isinstance(element, Mapping)} - {None}
    since = [element for element in now or [] if element not in (before or [])]
    return any(isinstance(element, Mapping) and element.get("name") in names for element in since)


def correct(
    rule: TableRule,
    steps: Sequence[AppliedChange],
    row: Row | None,
    account: str,
    effective: Callable[[uuid.UUID], bool],
    settings: Settings,
) -> Correction:
    """Return the correction of a row that has lost what effective merges put into it; an empty one in the usual case.

    :param steps: all that was ever done to the row, in order; at least one.
    """
    first: Given = {}
    most: Given = {}
    for step in steps:
        for source, totals in step.change.given.items() if step.merge and effective(step.merge) else ():
            for column, (before, after) in totals.items():
                first.setdefault(source, {}).setdefault(column, before)
                most.setdefault(source, {})[column] = max(after, most.get(source, {}).get(column, 0))
    if row is None:  # removed by the platform: that stands, and its totals stay handed on
        return NO_CORRECTION
    replaced, said = overwritten(rule, steps, row, settings)
    if not any(strategy.ledger for strategy in rule.columns.values()):
        return Correction(notes=said, overwritten=replaced)
    lost, notes = lost_since(rule, steps, row, settings)
    short = [replace(step, change=_totals(rule, step.change)) for step in steps]
    lean, now = replace(rule, derive=()), {c: v for c, v in row.values.items() if rule.strategy(c).ledger}
    done = rebuild(lean, short, now, account, Effective(effective, first, unseen=lost))
    given = {
        source: less
        for source, totals in most.items()
        if (less := {c: n for c, m in totals.items() if (n := done.handed.get(source, {}).get(c, m)) < m})
    }
    values = {c: v for c, v in (done.row or {}).items() if c in done.lost and v != now.get(c)}
    return Correction(values, given, done.lost, (*notes, *said), replaced)


def _totals(rule: TableRule, change: Change) -> Change:
    def only(values: Mapping[str, object] | None) -> Values | None:
        return None if values is None else {c: v for c, v in values.items() if rule.strategy(c).ledger}

    writes = {c: w for c, w in change.writes.items() if rule.strategy(c).ledger}
    return change._replace(sources={s: only(v) or {} for s, v in change.sources.items()}, before=only(change.before),
                   writes=writes, known={s: only(v) or {} for s, v in change.known.items()})  # fmt: skip


def corrections(
    steps: Iterator[tuple[Key, list[AppliedChange]]], look: Callable[[Sequence[AppliedChange], Row | None], Correction]
) -> Corrections:
    """Return `look`, asked by ascending keys, with what was done to each row."""
    done = Cursor(steps, "what was done to rows, in the log,")

    def at(key: Key, row: Row | None) -> Correction:
        here = done.at(key)
        return look(here[0], row) if here else NO_CORRECTION

    return at
