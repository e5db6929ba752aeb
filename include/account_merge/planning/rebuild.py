"""One row rebuilt: what it would be if only the effective merges had touched it. Pure.

The logs tell all that we ever wrote to the row, in order. The platform's writes show as the difference between the row
that a step of ours left and the row that the next step found. A rebuild therefore follows two rows through the steps:

* the *real* row, as the logs show it;
* the *rebuilt* row, which begins as the real row did before any merge.

At each step an effective merge brings its sources' rows to the rebuilt row; the steps of other merges and of undos bring
nothing. Between two steps the platform's writes are carried over from the real row to the rebuilt one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from account_merge.choices import COMBINE, SOURCE, TARGET
from account_merge.model import Change, Values
from account_merge.planning.combining import Facts, folding, merge_values, put_derived
from account_merge.planning.news import Earlier
from account_merge.rules import TableRule
from account_merge.rules.derivations import Side
from account_merge.rules.evidence import NO_EVIDENCE, Evidence

#: source account -> column -> highest absolute value of a total handed on
Given = dict[str, dict[str, int]]
#: What rows of other tables show one of the merges; None: what they show of the account itself, whichever merges count.
EvidenceOf = Callable[[uuid.UUID | None], Evidence]


@dataclass(frozen=True)
class AppliedChange:
    """One step: a change of ours that was logged.

    :param merge: the merge that brought its sources' rows; None for an undo, which brings nothing.
    :param fold: what the platform had written was folded in; the merge brings its rows once more.
    :param sent: seconds since the epoch; nobody can have seen its writes before.
    :param of: the merge whose log it is in: an undo's step belongs to the merge that it undid.
    """

    merge: uuid.UUID | None
    change: Change
    fold: bool = False
    sent: float = 0.0
    of: uuid.UUID | None = None


def without_evidence(merge: uuid.UUID | None) -> Evidence:
    """Return nothing, for rules that look at no other table."""
    return NO_EVIDENCE


@dataclass(frozen=True)
class Effective:
    """What counts when a row is rebuilt.

    :param counts: whether a merge is effective in the end.
    :param given: what each source account handed on in effective merges into other accounts.
    :param evidence: what rows of other tables show.
    :param unseen: columns of the row as it is that the platform wrote without having seen the last step.
    :param since: number of a step. When the platform wrote a number behind that step and it is right for what there is,
        it is derived again. -1: a number that the row had before all steps is derived again as well.
    """

    counts: Callable[[uuid.UUID], bool]
    given: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    evidence: EvidenceOf = without_evidence
    unseen: frozenset[str] = frozenset()
    since: int = 0


@dataclass(frozen=True)
class Rebuilt:
    """A row as the effective merges and the platform leave it.

    :param row: None when there is no row then.
    :param handed: source account -> column -> what of it is in the row, as its highest value.
    :param lost: totals of the real row that the platform last wrote without having seen what we put there.
    """

    row: Values | None
    handed: Given
    lost: frozenset[str]


def rebuild(
    rule: TableRule, steps: Sequence[AppliedChange], now: Values | None, account: str, effective: Effective
) -> Rebuilt:
    """Return the row when only the effective merges count.

    Without the only merge it is exactly the row before that merge, when nobody wrote in between. A total that went on
    loses exactly what the merge added. Of collections each element is looked at by itself. Later writes of the platform
    stay.

    :param steps: all that was done to the row, in order; at least one.
    :param now: the row as it is, None when it is gone.
    """
    going = _Rebuilding(rule, account, effective, steps[0].change.before)
    by_platform = set(going.rebuilt or ()) if effective.since < 0 else set[str]()
    for number, step in enumerate(steps):
        if number:
            by_platform |= going.differing(step.change.before) if number > effective.since else set()
            going.carry(step.change.before, step.change.unseen)
        going.apply(step)
    lost = going.carry(now, effective.unseen)
    # The platform may have written before steps that follow the merge: its number went on from what these left.
    row = _rederived(rule, account, going.rebuilt, now, by_platform, effective.evidence)
    return Rebuilt(row, going.handed, lost)


@dataclass(frozen=True)
class LastTotal:
    """The last write of a total.

    :param rebuilt: what the column of the rebuilt row was before it.
    :param real: what the column of the real row was before it.
    :param put: what it put there.
    :param handed: source account -> what it had handed on before, where the step brought its rows.
    :param whatever: the value was put whatever stood there: a write that had not seen it goes on from what it brought.
    """

    rebuilt: Any
    real: Any
    put: Any
    handed: Mapping[str, int]
    whatever: bool = False

    def lost(self, found: Any) -> bool:
        """Return whether a total is below what was put there: totals only rise, so a write that had not seen it replaced it."""
        return found is not None and (self.real or 0) < (self.put or 0) and found < self.put


class _Rebuilding:
    """The two rows between two steps, and what the rebuilt one holds.

    :param before: the row before all steps.
    """

    def __init__(self, rule: TableRule, account: str, effective: Effective, before: Values | None) -> None:
        self._rule, self._account, self._effective = rule, account, effective
        self.rebuilt, self._real = before, before
        self.handed: Given = {source: dict(totals) for source, totals in effective.given.items()}
        self._lasts: dict[str, LastTotal] = {}

    def differing(self, found: Values | None) -> set[str]:
        """Return the columns that the platform wrote since our last step; none where the row is gone."""
        if found is None:
            return set()
        return {column for column, value in found.items() if value != (self._real or {}).get(column)}

    def carry(self, found: Values | None, unseen: frozenset[str]) -> frozenset[str]:
        """Carry over what the platform wrote since our last step; return the totals that it wrote without having seen them.

        :param found: the real row as the next step, or the undo at hand, found it.
        :param unseen: columns that are known to be written without having seen our last step.
        """
        lost = unseen | {column for column, last in self._lasts.items() if last.lost((found or {}).get(column))}
        carried = self._carried(found, lost)
        self.rebuilt = _rederived(
            self._rule, self._account, carried, found, self.differing(found), self._effective.evidence
        )
        for column in lost & self._lasts.keys():  # what was put there is gone: its sources have not handed it on
            for source, before in self._lasts[column].handed.items():
                self.handed[source][column] = before
        return lost & self._lasts.keys()

    def apply(self, step: AppliedChange) -> None:
        """Do a step of ours to both rows."""
        change, before = step.change, self.rebuilt
        brings = change.choice != TARGET and bool(change.sources)
        new: Given = {}
        if step.merge is not None and self._effective.counts(step.merge) and brings:
            new = self._bring(step, step.merge)
        elif step.merge is not None:
            self._keep_seeded(change)
        self._real = change.after
        self._lasts |= _last_totals(self._rule, change, before, new)

    def _carried(self, found: Values | None, lost: frozenset[str]) -> Values | None:
        """Return the rebuilt row with what the platform changed in the real one."""
        if found == self._real:
            return self.rebuilt
        if found is None:
            return None
        result: Values = {}
        for column in sorted({*(self.rebuilt or {}), *(self._real or {}), *found}):
            rebuilt, real = (self.rebuilt or {}).get(column), (self._real or {}).get(column)
            last = self._lasts.get(column) if column in lost else None
            if last is not None:  # the platform went on from what stood there before our write
                rebuilt, real = rebuilt if last.whatever else last.rebuilt, last.real
            value = self._rule.strategy(column).revert(rebuilt, real, found.get(column))
            if value is not None:
                result[column] = value
        if not result and self.rebuilt is None:
            return None
        return _led(self._rule, result, self.rebuilt or {}, found)

    def _bring(self, step: AppliedChange, merge: uuid.UUID) -> Given:
        """Let a merge bring its sources' rows; return what each source had handed on before."""
        change, sources = step.change, step.change.sources
        given = {source: self.handed.get(source, {}) for source in sources}
        earlier = Earlier.of(self._rule, change)
        rule, choice = (folding(self._rule, change.choice), COMBINE) if step.fold else (self._rule, change.choice)
        facts = Facts(given, self._effective.evidence(merge), earlier, choice)
        brought, handing = merge_values(rule, sources, self.rebuilt, self._account, facts)
        # A row that the platform removed stays removed.
        needs_more = self._rule.needs_values or bool(earlier.known)
        self.rebuilt = None if self.rebuilt is None and not any(brought.values()) and needs_more else brought
        for source, totals in handing.items():
            after = {column: after for column, (_, after) in totals.items()}
            self.handed[source] = {**self.handed.get(source, {}), **after}
        if change.choice == SOURCE:
            return {}
        return {source: {c: before for c, (before, _) in totals.items()} for source, totals in handing.items()}

    def _keep_seeded(self, change: Change) -> None:
        """Count what the retired job had moved as handed on, whatever became of our merge."""
        for source in change.seeded:
            for column, (before, _) in change.given.get(source, {}).items():
                mine = self.handed.setdefault(source, {})
                mine[column] = max(before, mine.get(column, 0))


def _last_totals(rule: TableRule, change: Change, rebuilt: Values | None, new: Given) -> dict[str, LastTotal]:
    """Return the totals that a change put, or deleted with the row.

    :param rebuilt: the rebuilt row before the change.
    :param new: source account -> column -> what it had handed on before the change.
    """
    before, after = change.before or {}, change.after or {}
    columns = {*before, *after} if change.delete_at else change.writes
    return {
        c: LastTotal(
            (rebuilt or {}).get(c),
            before.get(c),
            after.get(c),
            {source: totals[c] for source, totals in new.items() if c in totals},
            change.choice == SOURCE,
        )
        for c in columns
        if rule.strategy(c).ledger
    }


def _led(rule: TableRule, result: Values, rebuilt: Values, found: Values) -> Values:
    """Return the row with the columns that come together from one row: where the rebuilt row leads, they are its own."""
    ours, theirs = Side("", rebuilt), Side("", found, target=True)
    for derivation in rule.derive:
        leader = derivation.leader
        if leader is None or leader([theirs, ours]) is not ours:
            continue
        if leader([Side("", result, target=True), ours]) is not ours:
            put_derived(result, derivation.apply([theirs, ours], result, NO_EVIDENCE), {*result, *rebuilt})
    return result


def _rederived(
    rule: TableRule, account: str, row: Values | None, now: Values | None, written: set[str], evidence: EvidenceOf
) -> Values | None:
    """Return the row with numbers derived again that the platform had right for what it saw.

    :param now: the real row.
    :param written: the columns that the platform wrote; only these are derived.
    """
    if row is None or now is None or not written:
        return row
    found, shown = Values(), evidence(None)
    for derivation in rule.derive:
        if derivation.rederive is not None:
            found |= derivation.rederive(Side(account, now, target=True), {**row, **found}, shown)
    return row | {c: v for c, v in found.items() if c in row and c in written and v is not None}


def rederived(rule: TableRule, account: str, now: Values | None, shown: Evidence) -> Values | None:
    """Return a row that no merge touched, with the numbers that follow from rows which an undo or redo changes.

    A number that is right stays right. A number that follows from the row's own columns stays as the platform has it.

    :param shown: what other tables' rows show.
    """
    own = Side(account, now or {}, target=True)
    follows = tuple(d for d in rule.derive if d.rederive and not d.rederive(own, now or {}, NO_EVIDENCE))
    return _rederived(replace(rule, derive=follows), account, now, now, set(now or ()), lambda merge: shown)
