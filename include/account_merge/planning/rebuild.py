"""One row replayed without a merge: what it would be if only the merges that stand had touched it. Pure.

Everything that we ever wrote to the row is known from the logs, in order; what the platform wrote in between shows as
the difference between what we left and what we found. The replay starts at what the row was before any merge, carries
the platform's writes over, and lets only the standing merges bring their sources' rows again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from account_merge.choices import COMBINE, SOURCE, TARGET
from account_merge.model import Change, Key, Values, Write
from account_merge.planning.combining import Facts, folding, merge_values, put_derived
from account_merge.planning.news import Earlier
from account_merge.rules import TableRule
from account_merge.rules.derivations import Side
from account_merge.rules.evidence import NO_EVIDENCE, Evidence

#: source account -> column -> highest absolute value of a total handed on
Given = dict[str, dict[str, int]]
#: What rows of other tables show one of the merges; None: what they show of the account itself, whichever merges stand.
EvidenceOf = Callable[[uuid.UUID | None], Evidence]


@dataclass(frozen=True)
class AppliedChange:
    """One thing that we did to the row.

    :param merge: the merge that brought its sources' rows; None for an undo, which brings nothing.
    :param fold: what the platform had written was folded in; the merge brings its rows once more.
    :param sent: seconds since the epoch; its writes cannot have been seen by anybody before.
    :param of: the merge whose log it is in: an undo's step belongs to the merge that it undid.
    """

    merge: uuid.UUID | None
    change: Change
    fold: bool = False
    sent: float = 0.0
    of: uuid.UUID | None = None


@dataclass(frozen=True)
class LastTotal:
    """The last write of a total: what the column was before it, replayed and real, and what it put.

    :param handed: source account -> what it had handed on before, where the step brought its rows.
    :param whatever: the value was put whatever stood there: what was written without having seen it goes on from it.
    """

    row: Any
    real: Any
    put: Any
    handed: Mapping[str, int]
    whatever: bool = False

    def lost(self, found: Any) -> bool:
        """Return whether a total is below what was put there: totals only rise, so a write that had not seen it replaced it."""
        return found is not None and (self.real or 0) < (self.put or 0) and found < self.put


@dataclass(frozen=True)
class Replayed:
    """A row as the standing merges and the platform leave it.

    :param handed: source account -> column -> what of it is in the row, as its highest value.
    :param lost: totals of the real row that were last written without having seen what we put there.
    """

    row: Values | None
    handed: Given
    lost: frozenset[str]


@dataclass(frozen=True)
class Standing:
    """What counts when a row is replayed.

    :param stands: whether a merge counts in the end.
    :param given: what each source account handed on by standing merges into other accounts.
    :param unseen: columns of the row as it is that were written without having seen the last step.
    :param since: the step from which on the platform's writes show that a number which is right for what there is will be
        right for what there is afterwards; -1 when what the row was before all steps shows it, too.
    """

    stands: Callable[[uuid.UUID], bool]
    given: Mapping[str, Mapping[str, int]]
    evidence: EvidenceOf
    unseen: frozenset[str] = frozenset()
    since: int = 0


def rebuild_without(
    rule: TableRule, steps: Sequence[AppliedChange], now: Values | None, account: str, standing: Standing
) -> Values | None:
    """Return what the row is when only the standing merges count; None when there is no row then.

    `rebuild_without(…)` of the only merge is exactly the row before it, when nobody wrote in between; a total that went on loses
    exactly what was added, of collections each element is looked at alone, and what the platform wrote later stays.

    :param steps: all that was done to the row, in order; at least one.
    :param now: the row as it is, None when it is gone.
    """
    return rebuild(rule, steps, now, account, standing).row


def rebuild(
    rule: TableRule, steps: Sequence[AppliedChange], now: Values | None, account: str, standing: Standing
) -> Replayed:  # fmt: skip
    """Replay a row; the parameters are those of `rebuild_without`."""
    evidence = standing.evidence
    row = left = steps[0].change.before
    handed: Given = {source: dict(totals) for source, totals in standing.given.items()}
    lasts: dict[str, LastTotal] = {}
    written = set(row or ()) if standing.since < 0 else set[str]()

    def go_on(found: Values | None, blind: frozenset[str]) -> frozenset[str]:
        nonlocal row
        lost = blind | _lost(lasts, found)
        carried = _carried(rule, lasts, (row, left), found, lost)
        row = _again(rule, account, carried, found, _differing(left, found), evidence)
        for column in lost & lasts.keys():  # what was put there is gone: its sources have not handed it on
            for source, before in lasts[column].handed.items():
                handed[source][column] = before
        return lost

    for number, step in enumerate(steps):
        if number:
            go_on(step.change.before, step.change.unseen)
            written |= _differing(left, step.change.before) if number > standing.since else set()
        replayed, left, new = row, step.change.after, Given()
        brings = step.change.choice != TARGET and bool(step.change.sources)
        if step.merge is not None and standing.stands(step.merge) and brings:
            known = {s: handed.get(s, {}) for s in step.change.sources}
            by, choice = (folding(rule, step.change.choice), COMBINE) if step.fold else (rule, step.change.choice)
            sources, earlier = step.change.sources, Earlier.of(rule, step.change)
            shown = evidence(step.merge)
            brought, handing = merge_values(by, sources, row, account, Facts(known, shown, earlier, choice))
            # A row that was removed stays so.
            empty = row is None and not any(brought.values()) and (rule.needs_values or bool(earlier.known))
            row = None if empty else brought
            for source, totals in handing.items():
                if step.change.choice != SOURCE:
                    new[source] = {column: before for column, (before, _) in totals.items()}
                handed[source] = {**handed.get(source, {}), **{column: after for column, (_, after) in totals.items()}}
        elif step.merge is not None:  # what the retired job had moved stays handed on, whatever became of our merge
            for source in step.change.seeded:
                for column, (before, _) in step.change.given.get(source, {}).items():
                    mine = handed.setdefault(source, {})
                    mine[column] = max(before, mine.get(column, 0))
        lasts |= _written(rule, step.change, replayed, new)
    lost = go_on(now, standing.unseen)
    # The platform may have written before steps that follow the merge: its number went on from what these left.
    row = _again(rule, account, row, now, written, evidence)
    return Replayed(row, handed, lost & lasts.keys())


Pair = tuple[Values | None, Values | None]


def _written(rule: TableRule, change: Change, replayed: Values | None, new: Given) -> dict[str, LastTotal]:
    """Return the totals that a change put, or deleted with the row."""
    before, after = change.before or {}, change.after or {}
    columns = {*before, *after} if change.delete_at else change.writes
    return {
        c: LastTotal(
            (replayed or {}).get(c),
            before.get(c),
            after.get(c),
            {s: t[c] for s, t in new.items() if c in t},
            change.choice == SOURCE,
        )  # fmt: skip
        for c in columns
        if rule.strategy(c).ledger
    }


def _lost(lasts: Mapping[str, LastTotal], found: Values | None) -> frozenset[str]:
    return frozenset(column for column, last in lasts.items() if last.lost((found or {}).get(column)))


def _carried(
    rule: TableRule, lasts: Mapping[str, LastTotal], later: Pair, to: Values | None, unseen: frozenset[str]
) -> Values | None:
    """Return the replayed row with what the platform changed since our last step.

    :param lasts: the last writes of totals, for what was written without having seen them.
    :param later: (replayed row, real row) after our last step.
    :param to: the real row as it was found next.
    """
    row, left = later
    if to == left:
        return row
    if to is None:
        return None
    result: Values = {}
    for column in sorted({*(row or {}), *(left or {}), *to}):
        replayed, real = (row or {}).get(column), (left or {}).get(column)
        if column in unseen and column in lasts:
            replayed, real = replayed if lasts[column].whatever else lasts[column].row, lasts[column].real
        value = rule.strategy(column).revert(replayed, real, to.get(column))
        if value is not None:
            result[column] = value
    return _led(rule, result, row or {}, to) if result or row is not None else None


def _led(rule: TableRule, result: Values, replayed: Values, found: Values) -> Values:
    """Return the row with what comes together from the row that leads: where that is the replayed one, the platform's gives nothing."""
    ours, theirs = Side("", replayed), Side("", found, target=True)
    for derivation in rule.derive:
        leader = derivation.leader
        if leader is None or leader([theirs, ours]) is not ours:
            continue
        if leader([Side("", result, target=True), ours]) is not ours:
            put_derived(result, derivation.apply([theirs, ours], result, NO_EVIDENCE), {*result, *replayed})
    return result


def _differing(left: Values | None, found: Values | None) -> set[str]:
    """Return the columns that the platform wrote between a step of ours and the next look at the row; none where the row is gone."""
    if found is None:
        return set()
    return {column for column, value in found.items() if value != (left or {}).get(column)}


def _again(
    rule: TableRule, account: str, row: Values | None, now: Values | None, written: set[str], evidence: EvidenceOf
) -> Values | None:
    """Return the row with what follows from other columns derived again, where the platform's own number was right for what it saw.

    :param now: the real row.
    :param written: the columns that the platform wrote; only these are derived.
    """
    if row is None or now is None or not written:
        return row
    found, shown = Values(), evidence(None)
    for derivation in rule.derive:
        if derivation.again is not None:
            found |= derivation.again(Side(account, now, target=True), {**row, **found}, shown)
    return row | {c: v for c, v in found.items() if c in row and c in written and v is not None}


def derived_again(rule: TableRule, account: str, now: Values | None, shown: Evidence) -> Values | None:
    """Return a row that no merge touched, when an undo or redo changes what it follows from: a number that is right stays so.

    :param shown: what other tables' rows show; what follows from the row's own columns stays as the platform has it.
    """
    follows = [
        d for d in rule.derive if d.again and not d.again(Side(account, now or {}, target=True), now or {}, NO_EVIDENCE)
    ]
    return _again(replace(rule, derive=tuple(follows)), account, now, now, set(now or ()), lambda merge: shown)


def change_to(
    key: Key,
    now: Values | None,
    to: Values | None,
    at: Callable[[str], int],
    also: Mapping[str, frozenset[Any]],
    why: str,
) -> Change:
    """Return the change that brings a row from `now` to `to`.

    :param at: column -> timestamp (µs) of its write; of "" that of the row itself.
    :param also: columns that are put even if they are right, with the elements that we ever put there: a write of ours
        that is still under way must lose.
    """
    if to is None:
        return Change(key, {}, now, {}, 0, {"": why}, {}, delete_at=at(""))
    row = now or {}
    writes = {}
    for column in sorted({*row, *to, *also}):
        had, value = row.get(column), to.get(column)
        if had != value or column in also:
            writes[column] = _write(had, value, at(column), also.get(column, frozenset()))
    return Change(key, {}, now, writes, 0 if now is not None else at(""), dict.fromkeys(writes, why), {})


def _write(had: Any, value: Any, timestamp: int, put: frozenset[Any]) -> Write:
    """Return a whole value, or of a map or set all its elements and the removal of those that go."""
    if isinstance(value if value is not None else had, Mapping | set | frozenset) or put:
        return Write(value, timestamp, frozenset({*(had or ()), *put} - {*(value or ())}))
    return Write(value, timestamp)
