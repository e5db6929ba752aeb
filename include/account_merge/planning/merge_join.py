"""Merge-join of sorted row streams into a stream of changes. Pure: names no table, knows no server, keeps no stream."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from account_merge.choices import COMBINE, SOURCE, TARGET
from account_merge.cursor import ascending, rising
from account_merge.model import Change, HandedOn, Key, Row, Values, Write
from account_merge.planning.combining import Facts, Given, merge_values
from account_merge.planning.lifetimes import lasting
from account_merge.planning.news import Earlier
from account_merge.planning.seeding import Seeding
from account_merge.planning.write_times import above, impossible
from account_merge.rules import TableRule
from account_merge.rules.derivations import Evidence
from account_merge.rules.remarks import doubts
from account_merge.values import faults, sound, usable_row

UNREADABLE_KEY = "its key cannot be read: the row stays where it is"

EvidenceFor = Callable[[Key], Evidence]


@dataclass(frozen=True)
class Correction:
    """How a row's totals count where our share of them is gone.

    :param values: columns of the target that count otherwise than they show.
    :param given: source account -> column -> what it has handed on, where that is less than the ledger says.
    :param unseen: columns that the platform wrote without having seen what we put there.
    :param notes: readings that stay open; each names both.
    :param overwritten: other columns in which what was put is lost: the sources' values count as not yet brought.
    """

    values: Values = field(default_factory=dict)
    given: Given = field(default_factory=dict)
    unseen: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    overwritten: frozenset[str] = frozenset()


Corrections = Callable[[Key, Row | None], Correction]


def nothing(account: str, key: Key) -> Mapping[str, int]:
    """For sources that no expired log knows."""
    return {}


def no_evidence(key: Key) -> Evidence:
    """For rules that look at no other table."""
    return {}


def nobody(key: Key) -> frozenset[str]:
    """For rules that look at no other table: no source counts that has no row."""
    return frozenset()


@dataclass(frozen=True)
class Shown:
    """What a merge sees of other tables' rows; asked in key order.

    :param at: the evidence for the row with a key.
    :param beside: the sources that count for the row with a key also where they have none: their rows of the tables
        looked at belong to it. Such a source stands in the change with an empty row.
    """

    at: EvidenceFor = no_evidence
    beside: Callable[[Key], frozenset[str]] = nobody


NOTHING_SHOWN = Shown()


def written_part(old: Any, new: Any) -> Any:
    """Return what must be put to get from the old value to the new: of a map or set only the elements that differ."""
    if isinstance(new, Mapping):
        return {k: v for k, v in new.items() if (old or {}).get(k) != v}
    if isinstance(new, set | frozenset):
        return set(new) - set(old or ())
    return new


def _dropped(old: Any, new: Any) -> frozenset[Any]:
    """Return the keys or elements of a map or set that are not in the new one."""
    several = isinstance(old, Mapping | set | frozenset)
    return frozenset({*old} - {*(new or ())}) if several else frozenset()


def plan_row(
    rule: TableRule,
    key: Key,
    sources: Mapping[str, Values],
    target: Row | None,
    target_account: str,
    base: int,
    facts: Facts,
) -> Change:
    """Return the change of one row. A cell whose write time is at or above `base` gets its write time + 1, so that it wins."""
    earlier, choice, instead = facts.earlier, facts.choice, facts.instead
    before = target.values if target else None
    if not sound(key):
        return Change(key, dict(sources), before, {}, 0, {}, {}, (UNREADABLE_KEY,), choice=TARGET)
    counts = {**(before or {}), **instead} if instead else before
    merged, handed = merge_values(rule, sources, counts, target_account, facts)
    again = {} if choice == SOURCE else {a: image for a, image in earlier.known.items() if a in sources}
    writes, why = {}, {}
    led: dict[str, str] = {}
    for derivation in rule.derivations({*(before or {}), *merged}):
        for column in derivation.columns:
            words = derivation.why if column in rule.columns else f"no rule knows this column: it {derivation.why}"
            led[column] = f"{led[column]}; {words}" if column in led else words
    emptied = dict.fromkeys(column for column in before or {} if column in led and column not in merged)
    for column, value in {**merged, **emptied}.items():
        old = (before or {}).get(column)
        if value == old or (old is None and value in (set(), {}, [])):  # an empty collection is a null
            continue
        gone = _dropped(old, value) if choice == SOURCE else frozenset()
        whole = target is not None and column in target.frozen
        writes[column] = Write(value if whole else written_part(old, value), base, gone)
        why[column] = (
            "chosen: the source's row stands"
            if choice == SOURCE
            else "only the source has this row: it moves whole"
            if before is None and not again and any(values.get(column) == value for values in sources.values())
            else led.get(column, rule.strategy(column).why)
        )
    remarks = [
        words for r in rule.remarks if r.column in writes and before is not None for words in r.apply(merged[r.column])
    ]
    rows = [(f"source account {account}", values) for account, values in sources.items()]
    for whose, values in (*rows, ("the target", before or {})):
        remarks += [f"{part} of {whose}: {reason}; it is left as it is" for part, reason in faults(values)]
        remarks += doubts(rule.strategy, whose, usable_row(values))
    # One that was brought before and is gone was removed.
    create = base if target is None and choice != TARGET and (writes or not (rule.needs_values or again)) else 0
    if target is None and again and not create:
        why[""] = "removed at the target after it had been merged: it stays so"
    seeded = {account: totals for account, totals in earlier.seeded.items() if account in sources}
    change = Change(
        key, dict(sources), before, writes, create, why, handed, (*facts.notes, *remarks), choice=choice, known=again,
        seeded=seeded,
    )  # fmt: skip
    return above(change, target, base)


def _nothing_stays(key: Key) -> bool:
    return False


def _nothing_to_correct(key: Key, held: Row | None) -> Correction:
    return Correction()


def _combine(key: Key) -> str:
    return COMBINE


@dataclass(frozen=True)
class TableFacts:
    """What is known of a table's rows beside the rows themselves; each function is asked in key order.

    :param given: (key, source account, what its row has handed on) of earlier merges, sorted by key.
    :param shown: what rows of other tables show.
    :param skip: keys whose rows stay as the target has them.
    :param corrections: how a row's totals count that the platform wrote over.
    :param handed_on: what of `given` is not in that stream: (source account, key) -> column -> highest value.
    :param seeding: the retired job has merged these accounts before.
    :param choose: whose row stands.
    """

    given: Iterable[tuple[Key, str, HandedOn]] = ()
    shown: Shown = NOTHING_SHOWN
    skip: Callable[[Key], bool] = _nothing_stays
    corrections: Corrections = _nothing_to_correct
    handed_on: Callable[[str, Key], Mapping[str, int]] = nothing
    seeding: Seeding | None = None
    choose: Callable[[Key], str] = _combine


def plan(
    rule: TableRule,
    target_account: str,
    sources: Mapping[str, Iterable[Row]],
    target: Iterable[Row],
    facts: TableFacts,
) -> Iterator[tuple[Change, int]]:
    """One change for each key that a source has, or counts for, in key order, with the base clock that its reads allow (µs).

    All streams must be sorted by key, which is checked; memory is one row a stream.
    """
    shown, seeding = facts.shown, facts.seeding
    streams = [_tagged(rule, rows, 0, account) for account, rows in sorted(sources.items())]
    streams.append(_tagged(rule, target, 1, target_account))
    totals = ascending(facts.given, f"totals of {rule.table} in the log")
    streams.append((key, 2, account, values) for key, account, values in totals)
    merged = heapq.merge(*streams, key=lambda item: item[0])
    for key, group in groupby(merged, key=lambda item: item[0]):
        mine, held, ledger, known = _gathered(group)
        if not (mine or held) or facts.skip(key):
            continue
        beside = shown.beside(key) - mine.keys()
        if not mine and not beside:
            continue
        for account in mine:
            _raise(ledger.setdefault(account, {}), facts.handed_on(account, key))
        base = min(row.base for row in (*mine.values(), *([held] if held else [])))
        values = {account: row.values for account, row in mine.items()} | {account: Values() for account in beside}
        correction = facts.corrections(key, held)
        handed = {account: {**ledger.get(account, {}), **correction.given.get(account, {})} for account in mine}
        notes = (
            *correction.notes,
            *(seeding.notes(rule, mine, held, handed) if seeding else ()),
            *(note for account, row in mine.items() for note in impossible(f"source account {account}", row, base)),
            *(impossible("the target", held, base) if held else ()),
        )
        known = {a: {c: v for c, v in image.items() if c not in correction.overwritten} for a, image in known.items()}
        earlier = Earlier(known, seeding.seeded, seeding.stays(rule, held)) if seeding else Earlier(known)
        known_of = Facts(handed, shown.at(key), earlier, facts.choose(key), notes, correction.values)
        change = plan_row(rule, key, values, held, target_account, base, known_of)
        # A source that has not changed since gives no cell of the target another end either.
        fresh = {account: row for account, row in mine.items() if known.get(account) != row.values}
        yield lasting(replace(change, unseen=correction.unseen), fresh, held, base), base


def _gathered(
    group: Iterable[Any],
) -> tuple[dict[str, Row], Row | None, dict[str, dict[str, int]], dict[str, Values]]:
    """Of one key: each source's row, the target's, the highest that each source has handed on, and its last image."""
    mine: dict[str, Row] = {}
    held: Row | None = None
    ledger: dict[str, dict[str, int]] = {}
    known: dict[str, HandedOn] = {}
    for _, kind, account, payload in group:
        if kind == 0:
            mine[account] = payload
        elif kind == 1:
            held = payload
        else:
            _raise(ledger.setdefault(account, {}), payload.given)
            if payload.image is not None and (account not in known or payload.at >= known[account].at):
                known[account] = payload
    return mine, held, ledger, {account: found.image for account, found in known.items() if found.image}


def _raise(known: dict[str, int], to: Mapping[str, int]) -> None:
    for column, value in to.items():
        known[column] = max(value, known.get(column, value))


def _tagged(rule: TableRule, rows: Iterable[Row], kind: int, account: str) -> Iterator[tuple[Key, int, str, Any]]:
    for row in rising(rows, f"rows of {rule.table}"):
        yield row.key, kind, account, row
