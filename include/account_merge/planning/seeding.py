"""A merge that the retired job has done before: the readings that its rows leave open, and the decision. Pure.

The retired job added up totals and never deleted a source's row: the target's totals contain the source's. It lost
nearly everything else, which is merged as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from account_merge.model import Row
from account_merge.rules import TableRule

#: How people read that a merge is seeded.
WORDS = "seeded: totals were moved before, by the retired job or by a merge that the journal has forgotten"


@dataclass(frozen=True)
class Seeding:
    """The sources that the retired job had merged into this target.

    :param since: source account -> when that merge was asked for, µs since the epoch; 0 when nobody knows.
    :param counted: those whose rows a merge of ours has looked through since: its log knows what was handed on, and a row
        that it does not know is new.
    """

    since: Mapping[str, int]
    counted: frozenset[str] = frozenset()

    @property
    def seeded(self) -> dict[str, bool]:
        """Source account -> whether a total that no ledger knows counts as handed on."""
        return {account: account not in self.counted for account in self.since}

    def stays(self, rule: TableRule, target: Row | None) -> dict[str, frozenset[str]]:
        """Source account -> switches that keep the target's value: the platform turned them there after that merge."""
        if target is None:
            return {}
        turned = {c: target.written.get(c, 0) for c in target.values if rule.strategy(c).switch}
        return {
            account: frozenset(column for column, written in turned.items() if written > since)
            for account, since in self.since.items()
        }

    def notes(
        self, rule: TableRule, sources: Mapping[str, Row], target: Row | None, given: Mapping[str, Mapping[str, int]]
    ) -> Iterator[str]:
        """Yield both readings of each thing that the data leaves open, for the report."""
        for account, row in ((a, r) for a, r in sources.items() if a in self.since):
            since = self.since[account]
            for column, value in row.values.items():
                held = target.values.get(column) if target else None
                if held is None:
                    continue
                if rule.strategy(column).ledger:
                    beyond = value - given.get(account, {}).get(column, 0)
                    why = _doubt(value, held, row.written.get(column, 0), since)
                    if why and beyond > 0 and account not in self.counted:
                        yield (
                            f"{column}: {why}; read as moved before (nothing added), otherwise up to {beyond} "
                            f"of source account {account} are missing"
                        )
                elif not since and rule.strategy(column).switch and value and not held:
                    yield (
                        f"{column}: it is off at the target and on at source account {account}; with no date of the merge "
                        "read as switched off later (stays off), otherwise it would be on"
                    )


def _doubt(value: int, held: int, written: int, since: int) -> str:
    """Return why a total of a source may not be in the target's; empty when nothing speaks against it."""
    if held < value:
        return f"the target has {held}, less than the source alone"
    return "the source went on after that merge" if since and written > since else ""
