"""Columns that come together from one account's row: the row that gives them, and the columns that follow it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from account_merge.model import Values
from account_merge.rules.comparing import Rank, number, size, weight
from account_merge.rules.derivations import Derivation, Side
from account_merge.rules.evidence import Evidence
from account_merge.rules.moments import believed

#: Rows are compared by it: one column, or the forms of one moment (timestamp, text), of which the best counts.
Lead = str | tuple[str, ...]


@dataclass(frozen=True)
class _Led:
    """Sides compared by several leads in order.

    :param first: the least leads, not the greatest.
    """

    leads: tuple[Lead, ...]
    first: bool

    def ranked(self, sides: Sequence[Side]) -> list[Side]:
        """Return all sides, the one that leads first. Where nothing decides, the target's comes first, then by account."""
        rest = sorted(sides, key=lambda s: (not s.target, s.account))
        ranked: list[Side] = []
        while rest:
            leads = self._best(rest, self.leads)
            ranked.append(leads)
            rest = [side for side in rest if side is not leads]
        return ranked

    def leader(self, sides: Sequence[Side]) -> Side:
        """Return the side that leads."""
        return self.ranked(sides)[0]

    def _shown(self, side: Side, lead: Lead) -> Rank | None:
        """Return what a row shows of a lead: a number, or a moment that can be; None when it shows neither."""
        if isinstance(lead, str) and number(side.values.get(lead)) is not None:
            return size(side.values[lead])
        columns = (lead,) if isinstance(lead, str) else lead
        moments = [moment for c in columns if (moment := believed(side.values.get(c)))]
        return size((min if self.first else max)(moments)) if moments else None

    def _best(self, sides: Sequence[Side], leads: tuple[Lead, ...]) -> Side:
        """Return the side that leads: of those that tie by the next lead, and against those that lack one by what both show."""
        if len(sides) == 1 or not leads:
            return sides[0]
        shown = {id(side): self._shown(side, leads[0]) for side in sides}
        found = [value for value in shown.values() if value is not None]
        if not found:
            return self._best(sides, leads[1:])
        top = min(found) if self.first else max(found)
        leader = self._best([side for side in sides if shown[id(side)] == top], leads[1:])
        without = [side for side in sides if shown[id(side)] is None]
        return self._duel(leader, self._best(without, leads[1:]), leads[1:]) if without else leader

    def _duel(self, one: Side, other: Side, leads: tuple[Lead, ...]) -> Side:
        for lead in leads:
            a, b = self._shown(one, lead), self._shown(other, lead)
            if a is not None and b is not None and a != b:
                return one if (a < b if self.first else a > b) else other
        return one


def follow(
    leads: Lead | tuple[Lead, ...], columns: tuple[str, ...], first: bool = False, apart: bool = False,
    unknown: bool = False,
) -> Derivation:  # fmt: skip
    """Take `columns` together from the row that leads, of the rows that have any; a column that this row lacks stays empty.

    A lead that ties, or that one of two rows does not show, leaves the decision to the next one. NaN and a time that
    cannot be do not lead.

    :param leads: a tuple of leads in their order, or the only one.
    :param first: the least leads, not the greatest.
    :param apart: each column by itself, a gap filled from the next row: for rows that are forms of one and the same thing.
    :param unknown: the columns that no rule knows come from that row too, and a gap of theirs is filled from the next.
    """
    named = (leads,) if isinstance(leads, str) else leads
    order = _Led(named, first)

    def apply(more: tuple[str, ...], sides: Sequence[Side]) -> Values:
        if not any(weight(s.values.get(c)) > 1 for s in sides for c in (*columns, *more)):
            return {}
        ranked = order.ranked(sides)
        giving = [s for s in ranked if any(weight(s.values.get(c)) > 1 for c in columns)]
        together = () if apart or not giving else columns
        found = {c: v if weight(v := giving[0].values.get(c)) > 1 else None for c in together}
        rows = [*giving[:1], *ranked]
        for column in (*columns, *more) if apart else more:
            held = [v for s in rows if weight(v := s.values.get(column)) > 1]
            found |= {column: held[0]} if held else {}
        return found

    def widened(more: tuple[str, ...]) -> Derivation:
        def applied(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
            return apply(more, sides)

        return Derivation((*columns, *more), why, applied, leader=order.leader, widen=widened if unknown else None)

    words = ", then ".join(lead if isinstance(lead, str) else " or ".join(lead) for lead in named)
    why = f"comes with the {'least' if first else 'greatest'} {words}{', a gap from the next row' if apart else ''}"
    return widened(())
