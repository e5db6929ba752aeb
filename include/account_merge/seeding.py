"""A merge that the retired job has done before: what its rows leave open, and what is decided of them. Pure.

The retired job added up totals and never deleted a source's row: what a source shows is in the target's totals. It lost
nearly everything else, which is merged as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from account_merge.model import Row
from account_merge.rules import TableRule

#: How people read that a merge is seeded.
WORDS = "seeded: totals were already moved by the retired job"


@dataclass(frozen=True)
class Seeding:
    """When the retired job's merge was asked for.

    :param since: µs since the epoch; 0 when nobody knows.
    """

    since: int = 0

    def stays(self, rule: TableRule, target: Row | None) -> frozenset[str]:
        """Columns that keep the target's value: a switch that the platform turned at the target after that merge."""
        if target is None:
            return frozenset()
        return frozenset(
            column for column in target.values
            if rule.strategy(column).switch and target.written.get(column, 0) > self.since
        )  # fmt: skip

    def notes(
        self, rule: TableRule, sources: Mapping[str, Row], target: Row | None, given: Mapping[str, Mapping[str, int]]
    ) -> Iterator[str]:
        """Both readings of what the data leaves open, for the report."""
        for account, row in sources.items():
            for column, value in row.values.items():
                held = target.values.get(column) if target else None
                if held is None:
                    continue
                if rule.strategy(column).ledger:
                    beyond = value - given.get(account, {}).get(column, 0)
                    why = self._doubt(value, held, row.written.get(column, 0))
                    if why and beyond > 0:
                        yield (
                            f"{column}: {why}; read as moved by the retired job (nothing added), otherwise up to {beyond} "
                            f"of source account {account} are missing"
                        )
                elif not self.since and rule.strategy(column).switch and value and not held:
                    yield (
                        f"{column}: it is off at the target and on at source account {account}; with no date of the merge "
                        "read as switched off later (stays off), otherwise it would be on"
                    )

    def _doubt(self, value: int, held: int, written: int) -> str:
        """Why a total of a source may not be in the target's; empty when nothing speaks against it."""
        if held < value:
            return f"the target has {held}, less than the source alone"
        return "the source went on after that merge" if self.since and written > self.since else ""
