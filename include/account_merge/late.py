"""What the platform wrote over our totals after they were verified: mended when more of the same source is merged.

An update that the platform had begun before we wrote may end after our verification, and a redelivered event, a repair or
a settle is what looks at the row again. Counters only rise: a total below what we put there has lost our share.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from account_merge.cursor import Cursor
from account_merge.model import Change, Key, Row, Values
from account_merge.planner import Mend, Mends
from account_merge.rewind import Given, Step, replay
from account_merge.rules import TableRule
from account_merge.settings import Settings
from account_merge.verify import unseen


def late(
    rule: TableRule, steps: Sequence[Step], row: Row | None, settings: Settings
) -> tuple[frozenset[str], tuple[str, ...]]:
    """`verify.unseen` for the last write of each total, looked at any time later."""
    blind: set[str] = set()
    notes: list[str] = []
    seen: set[str] = set()
    for step in reversed(steps):
        columns = {c for c in step.change.writes if rule.strategy(c).ledger} - seen
        columns |= {c for c in step.change.before or () if rule.strategy(c).ledger and step.change.delete} - seen
        seen |= columns
        if columns and row is not None:
            one = replace(step.change, writes={c: w for c, w in step.change.writes.items() if c in columns})
            until = step.sent + settings.platform_write_window_seconds + settings.clock_margin_seconds
            more, said = unseen(rule, one, row, step.sent, settings, until)
            blind |= more & columns
            notes += said
    return frozenset(blind), tuple(notes)


def mend(
    rule: TableRule,
    steps: Sequence[Step],
    row: Row | None,
    account: str,
    standing: Callable[[uuid.UUID], bool],
    settings: Settings,
) -> Mend:
    """What of the shares that standing merges put into a row is gone from it; nothing in the usual case.

    :param steps: all that was ever done to the row, in order; at least one.
    """
    first: Given = {}
    most: Given = {}
    for step in steps:
        for source, totals in step.change.given.items() if step.merge and standing(step.merge) else ():
            for column, (before, after) in totals.items():
                first.setdefault(source, {}).setdefault(column, before)
                most.setdefault(source, {})[column] = max(after, most.get(source, {}).get(column, 0))
    if row is None:  # removed by the platform: that stands, and what was handed on stays so
        return Mend()
    blind, notes = late(rule, steps, row, settings)
    short = [replace(step, change=_totals(rule, step.change)) for step in steps]
    lean, now = replace(rule, derive=()), {c: v for c, v in row.values.items() if rule.strategy(c).ledger}
    done = replay(lean, short, now, account, standing, first, {}, blind)
    given = {
        source: less
        for source, totals in most.items()
        if (less := {c: n for c, m in totals.items() if (n := done.handed.get(source, {}).get(c, m)) < m})
    }
    values = {c: v for c, v in (done.row or {}).items() if c in done.lost and v != now.get(c)}
    return Mend(values, given, done.lost, notes)


def _totals(rule: TableRule, change: Change) -> Change:
    def only(values: Mapping[str, object] | None) -> Values | None:
        return None if values is None else {c: v for c, v in values.items() if rule.strategy(c).ledger}

    writes = {c: w for c, w in change.writes.items() if rule.strategy(c).ledger}
    return replace(change, sources={s: only(v) or {} for s, v in change.sources.items()}, before=only(change.before),
                   writes=writes, known={s: only(v) or {} for s, v in change.known.items()})  # fmt: skip


def mending(steps: Iterator[tuple[Key, list[Step]]], look: Callable[[Sequence[Step], Row | None], Mend]) -> Mends:
    """Mends for one sweep with ascending keys."""
    done = Cursor(steps, "what was done to rows, in the log,")

    def at(key: Key, row: Row | None) -> Mend:
        here = done.at(key)
        return look(here[0], row) if here else Mend()

    return at
