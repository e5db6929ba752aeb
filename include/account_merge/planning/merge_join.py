"""Merge-join of sorted row streams into a stream of changes. Pure: names no table, knows no server, keeps no stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from account_merge.choices import COMBINE, SOURCE, TARGET
from account_merge.model import Change, HandedOn, Key, Row, Values, Write
from account_merge.planning.combining import Facts, Given, merge_values
from account_merge.planning.joining import announced, by_key
from account_merge.planning.lifetimes import lasting
from account_merge.planning.news import Earlier
from account_merge.planning.seeding import Seeding
from account_merge.planning.write_times import above, impossible
from account_merge.rules import TableRule
from account_merge.rules.comparing import ATOMS
from account_merge.rules.evidence import NO_EVIDENCE, Evidence
from account_merge.rules.remarks import doubts
from account_merge.values import all_sound, faults, sound, usable_row

UNREADABLE_KEY = "its key cannot be read: the row stays where it is"
MOVES_WHOLE = "only the source has this row: it moves whole"

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


NO_CORRECTION = Correction()
Corrections = Callable[[Key, Row | None], Correction]


def no_evidence(key: Key) -> Evidence:
    """Return nothing, for rules that look at no other table."""
    return NO_EVIDENCE


def nobody(key: Key) -> frozenset[str]:
    """Return no source, for rules that look at no other table."""
    return frozenset()


@dataclass(frozen=True)
class Shown:
    """Other tables' rows as a merge sees them; asked in key order.

    :param at: the evidence for the row with a key.
    :param beside: the sources that count for the row with a key also where they have none: their rows of the tables
        looked at belong to it. Such a source stands in the change with an empty row.
    :param expect: told each key some rows before it is asked for, so that what is read for it is there by then.
    """

    at: EvidenceFor = no_evidence
    beside: Callable[[Key], frozenset[str]] = nobody
    expect: Callable[[Key], object] = nobody


NOTHING_SHOWN = Shown()


def written_part(old: Any, new: Any) -> Any:
    """Return the part to put to get from the old value to the new: only the differing elements of a map or set."""
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
    choice, before = facts.choice, target.values if target else None
    if not sound(key):
        return Change(key, dict(sources), before, {}, 0, {}, {}, (UNREADABLE_KEY,), choice=TARGET)
    counts = {**(before or {}), **facts.instead} if facts.instead else before
    merged, handed = merge_values(rule, sources, counts, target_account, facts)
    known = {} if choice == SOURCE else {a: image for a, image in facts.earlier.known.items() if a in sources}
    led = rule.led({*(before or {}), *merged})
    writes = _writes(target, merged, led, base, choice)
    alone = before is None and not known and choice != SOURCE
    why = {c: MOVES_WHOLE if alone and _brought(sources, c, merged) else _reason(rule, c, led, choice) for c in writes}
    # A row that was brought before and is gone was removed at the target: it is not created again.
    create = base if target is None and choice != TARGET and (writes or not (rule.needs_values or known)) else 0
    if target is None and known and not create:
        why[""] = "removed at the target after it had been merged: it stays so"
    change = Change(
        key,
        dict(sources),
        before,
        writes,
        create,
        why,
        handed,
        (*facts.notes, *_remarks(rule, sources, before, merged, writes)),
        choice=choice,
        known=known,
        seeded={account: totals for account, totals in facts.earlier.seeded.items() if account in sources},
    )
    return above(change, target, base)


def _writes(
    target: Row | None, merged: Values, led: Mapping[str, str], base: int, choice: str
) -> dict[str, Write]:  # fmt: skip
    """Return column -> the write that brings the target's row to the merged values."""
    before = target.values if target else {}
    writes = {}
    for column, value in merged.items():
        old = before.get(column)
        if value == old or (old is None and not value and value in (set(), {}, [])):  # an empty collection is a null
            continue
        if type(value) in ATOMS:
            writes[column] = Write(value, base)
            continue
        gone = _dropped(old, value) if choice == SOURCE else frozenset()
        whole = target is not None and column in target.frozen
        writes[column] = Write(value if whole else written_part(old, value), base, gone)
    for column, old in before.items():
        if column not in merged and column in led:
            writes[column] = Write(None, base, _dropped(old, None) if choice == SOURCE else frozenset())
    return writes


def _brought(sources: Mapping[str, Values], column: str, merged: Values) -> bool:
    """Whether a source's row has what the merged row has in a column."""
    return merged.get(column) in [values.get(column) for values in sources.values()]


def _reason(rule: TableRule, column: str, led: Mapping[str, str], choice: str) -> str:
    """Return why a column is written, in words for the report."""
    return "chosen: the source's row stands" if choice == SOURCE else led.get(column, rule.strategy(column).why)


def _remarks(
    rule: TableRule,
    sources: Mapping[str, Values],
    before: Values | None,
    merged: Values,
    writes: Mapping[str, Write],
) -> Iterator[str]:
    """Yield what a person should know of the merged row, and what of the rows cannot be used."""
    for remark in rule.remarks:
        if remark.column in writes and before is not None:
            yield from remark.apply(merged[remark.column])
    for account, values in sources.items():
        yield from _odd(rule, f"source account {account}", values)
    if before:
        yield from _odd(rule, "the target", before)


def _odd(rule: TableRule, whose: str, values: Values) -> Iterator[str]:
    """Yield what of a row cannot be used, and what of it is no time that can be."""
    if not all_sound(values):
        yield from (f"{part} of {whose}: {reason}; it is left as it is" for part, reason in faults(values))
        values = usable_row(values)
    yield from doubts(rule.timed, whose, values)


def _nothing_stays(key: Key) -> bool:
    return False


def _nothing_to_correct(key: Key, held: Row | None) -> Correction:
    return NO_CORRECTION


def _nothing_handed_on(key: Key) -> Mapping[str, HandedOn]:
    return {}


def _combine(key: Key) -> str:
    return COMBINE


def _unmarked(base: int, turn: int) -> int:
    return base


@dataclass(frozen=True)
class TableFacts:
    """The things known of a table's rows beside the rows themselves; each function is asked in key order.

    :param handed_on: source account -> what its row has handed on in earlier merges.
    :param shown: what rows of other tables show.
    :param skip: keys whose rows stay as the target has them.
    :param corrections: how a row's totals count that the platform wrote over.
    :param seeding: the retired job has merged these accounts before.
    :param choose: whose row stands.
    :param marked: base clock (µs), 0 or 1 in turn from row to row -> a time for its writes, at most a second below.
    """

    handed_on: Callable[[Key], Mapping[str, HandedOn]] = _nothing_handed_on
    shown: Shown = NOTHING_SHOWN
    skip: Callable[[Key], bool] = _nothing_stays
    corrections: Corrections = _nothing_to_correct
    seeding: Seeding | None = None
    choose: Callable[[Key], str] = _combine
    marked: Callable[[int, int], int] = _unmarked


class _Joined(NamedTuple):
    """The rows of one key.

    :param mine: source account -> its row.
    :param held: the target's row.
    :param beside: sources that count without a row.
    :param base: the time of what is written (µs).
    """

    key: Key
    mine: Mapping[str, Row]
    held: Row | None
    beside: frozenset[str]
    base: int


def plan(
    rule: TableRule,
    target_account: str,
    sources: Mapping[str, Iterable[Row]],
    target: Iterable[Row],
    facts: TableFacts,
) -> Iterator[tuple[Change, int]]:
    """Yield a change for each key that a source has, or counts for, in key order, with the time of its writes (µs).

    All streams must be sorted by key, which is checked; memory is a few rows a stream.
    """
    turn = 0
    joined = by_key(f"rows of {rule.table}", sources, target)
    for key, mine, held in joined if facts.shown.expect is nobody else announced(joined, facts.shown.expect):
        if facts.skip(key):
            continue
        beside = facts.shown.beside(key) - mine.keys()
        if mine or beside:
            read = min([row.base for row in (mine.values() if held is None else (*mine.values(), held))])
            base = facts.marked(read, turn)
            change = _planned(rule, target_account, _Joined(key, mine, held, beside, base), facts)
            turn ^= bool(change.writes or change.create_at)
            yield change, base


def _planned(rule: TableRule, target_account: str, joined: _Joined, facts: TableFacts) -> Change:
    """Return one key's change."""
    key, mine, held, base = joined.key, joined.mine, joined.held, joined.base
    seeding, beside = facts.seeding, joined.beside
    values = {account: row.values for account, row in mine.items()}
    values |= {account: Values() for account in beside}
    ledger, correction = facts.handed_on(key), facts.corrections(key, held)
    handed = {
        account: {**(ledger[account].given if account in ledger else {}), **correction.given.get(account, {})}
        for account in mine
    }
    notes = (
        *correction.notes,
        *(seeding.notes(rule, mine, held, handed) if seeding else ()),
        *[note for account, row in mine.items() for note in impossible(f"source account {account}", row, base)],
        *(impossible("the target", held, base) if held else ()),
    )
    images = {account: one.image for account, one in ledger.items() if one.image}
    known = {a: {c: v for c, v in image.items() if c not in correction.overwritten} for a, image in images.items()}
    earlier = Earlier(known, seeding.seeded, seeding.stays(rule, held)) if seeding else Earlier(known)
    row_facts = Facts(handed, facts.shown.at(key), earlier, facts.choose(key), notes, correction.values)
    change = plan_row(rule, key, values, held, target_account, base, row_facts)
    if correction.unseen:
        change = change._replace(unseen=correction.unseen)
    # A source that has not changed since gives no cell of the target another end either.
    fresh = {account: row for account, row in mine.items() if known.get(account) != row.values}
    return lasting(change, fresh, held, base)
