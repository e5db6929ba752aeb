"""Three-way merge: only the part of a source's row that it had not brought before. Pure.

People and the platform go on deciding at the surviving account: a learner leaves a course, a member is removed, a
certificate is replaced. They may change what an earlier merge brought. A settle, a repair or a repeated merge
therefore brings only what differs between the source's row now and its image in the last entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from account_merge.model import NONE, Change, Values
from account_merge.rules import TableRule
from account_merge.rules.derivations import Side
from account_merge.rules.evidence import NO_EVIDENCE
from account_merge.rules.strategies import revert_list
from account_merge.values import usable_row


class Earlier(NamedTuple):
    """The meaning of earlier merges of the same sources for one row.

    :param known: source account -> the image that the last entry holds of its row.
    :param seeded: source account that the retired job had merged -> whether the totals that its row shows count as
        handed on where no ledger knows them.
    :param stays: source account -> columns in which the target's value stands against it.
    """

    known: Mapping[str, Values] = NONE
    seeded: Mapping[str, bool] = NONE
    stays: Mapping[str, frozenset[str]] = NONE

    def usable(self) -> Earlier:
        """Return the same without the values of the images that no merge can use."""
        return self._replace(known={account: usable_row(image) for account, image in self.known.items()})

    @classmethod
    def of(cls, rule: TableRule, change: Change) -> Earlier:
        """Return the same for a change that is logged, so that a fold and a replay decide as it did."""
        held = change.before or {} if change.seeded else {}
        stays = frozenset(c for c in held if rule.strategy(c).switch and c not in change.writes)
        return cls(change.known, change.seeded, dict.fromkeys(change.seeded, stays) if stays else {})


def newly(rule: TableRule, account: str, target: Values | None, before: Values, now: Values) -> Values:
    """Return the target's values with only what is new.

    A total is taken from `now`: the ledger has counted what is new of it. Only the elements of a map, set or list that
    differ come; the others are as the target shows them, also those that it has lost since.

    :param before: what the merge of the known images would give.
    :param now: what the merge of the present rows gives.
    """
    held = target or {}
    result: Values = {}
    for column in sorted({*held, *before, *now}):
        mine, old, new = held.get(column), before.get(column), now.get(column)
        value = (
            _total(mine, old, new) if rule.strategy(column).ledger else mine if old == new else _changed(mine, old, new)
        )
        if value is not None:
            result[column] = value
    side = Side(account, target or {}, target=True)
    for derivation in rule.derive:
        # A number that counted all elements of `now` counts those of the result.
        counted = derivation.rederive(side, now, NO_EVIDENCE) if derivation.rederive and target is not None else {}
        if derivation.rederive and counted and all(now.get(column) == value for column, value in counted.items()):
            result |= derivation.rederive(side, result, NO_EVIDENCE)
    return result


def stayed(rule: TableRule, target: Values | None, now: Values) -> Values:
    """Return the target's values where no source's row has changed: as they are, but for totals that had lost our share.

    :param now: what the merge of the present rows gives.
    """
    held = target or {}
    totals = {
        column: _total(held.get(column), value, value) for column, value in now.items() if rule.strategy(column).ledger
    }
    return {**held, **{column: value for column, value in totals.items() if value is not None and target is not None}}


def _total(mine: Any, old: Any, new: Any) -> Any:
    """Return a total; one that the target lacks and that nothing is added to goes on to be lacking."""
    return new if new or mine is not None or old != new else None


def _changed(mine: Any, old: Any, new: Any) -> Any:
    if isinstance(new, Mapping):
        return {**(mine or {}), **{key: value for key, value in new.items() if (old or {}).get(key) != value}}
    if isinstance(new, set | frozenset):
        return set(mine or ()) | (set(new) - set(old or ()))
    if isinstance(new, list):
        return revert_list(new, old or [], mine or [])
    return new
