"""Derivations about rows of which one stands: an active membership, and the columns that go with it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from account_merge.model import Values
from account_merge.rules.derivations import Derivation, Side
from account_merge.rules.evidence import Evidence
from account_merge.rules.strategies import Strategy


def _standing(sides: Sequence[Side], merged: Values, lead: str) -> list[Side]:
    """Return the rows that show the merged `lead`: the target's first, then by account."""
    stand = [side for side in sides if side.values and side.values.get(lead) == merged.get(lead)]
    return sorted(stand, key=lambda side: (not side.target, side.account))


def of_standing(lead: str, columns: tuple[str, ...], latest: str) -> Derivation:
    """Take `columns` together from one row whose `lead` stands; from several, the one with the greatest `latest`."""

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        stand = _standing(sides, merged, lead)
        if not stand:
            return {}
        row = max(stand, key=lambda s: (True, s.values[latest]) if s.values.get(latest) is not None else (False,))
        return {column: row.values.get(column) for column in columns}

    return Derivation(columns, f"comes with the {lead} that stands", apply)


def best_of_standing(lead: str, column: str, strategy: Strategy) -> Derivation:
    """Combine `column` from the rows whose `lead` stands; the others give nothing."""

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        held = [s.values[column] for s in _standing(sides, merged, lead) if s.values.get(column) is not None]
        return {column: reduce(strategy.merge, held)} if held else {}

    return Derivation((column,), f"{strategy.why}, of the rows whose {lead} stands", apply)


def only_where(column: str, name: str, words: str) -> Derivation:
    """Add to the set `column` each element that the lookup `name` shows for an account; remove none.

    An element is a scope by itself: the target's `kept` ones stay as they are, and what another source brings comes from
    that source only. Where the lookup shows nothing, the union stands.
    """

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        shown = evidence.of(name).shown
        if not shown:
            return {}
        own = next((side.values.get(column) or set() for side in sides if side.target), set())
        kept = {values[0] for values in evidence.kept}
        other = {account: {values[0] for values in places} for account, places in evidence.from_other_source.items()}
        gained = set().union(*(set(held) - other.get(account, set()) for account, held in shown.items()))
        return {column: set(own) | (gained - kept)}

    return Derivation((column,), words, apply)
