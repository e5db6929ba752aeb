"""The table at the end of a torture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from local.stack import ALL
from tests.torture.checker import Checker
from tests.torture.faults import KINDS, Faults
from tests.torture.keeper import Keeper
from tests.torture.operator import Operator
from tests.torture.traffic import Traffic


def table(
    faults: Faults, keeper: Keeper, traffic: Traffic, operator: Operator, checker: Checker, times: tuple[float, float]
) -> Iterator[str]:
    """Lines: faults by process, events and rows by kind, merges by origin and state, what the operator had to do."""
    own = ("started again", "died by itself", "hung")
    yield ""
    yield f"{'process':15s}{'killed':>8s}{'stopped':>9s}{'restarted':>11s} | started again, died by itself, hung"
    for name in ("task", *ALL):
        killed, stopped, restarted = (faults.counts[name, kind] for kind in KINDS)
        kept = ", ".join(str(keeper.counts[name, what]) for what in own) if name != "task" else "(restarted = cleared)"
        yield f"{name:15s}{killed:8d}{stopped:9d}{restarted:11d} | {kept}"
    yield ""
    yield f"messages and requests: {_words(traffic.sent)}"
    yield f"learners' writes meanwhile: {_words(traffic.written)}"
    for origin in sorted({merge.request.origin for merge in checker.merges}):
        states = Counter(merge.state for merge in checker.merges if merge.request.origin == origin)
        yield f"merges by {origin}: {_words(states)}"
    yield f"by the operator: {_words(operator.acts) or 'nothing'}"
    yield f"totals that the platform rewrote during a merge, one of both readings: {checker.open_totals}"
    yield f"{times[0]:.0f} s until the last fault, {times[1]:.0f} s until everything was done and compared"
    yield ""


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
