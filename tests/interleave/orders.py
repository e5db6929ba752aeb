"""Pairs of operations, and whether what came of a pair is what one of its two orders gives.

The orders of a pair are played without an interruption first, on accounts of their own. What comes of the pair with the
first operation held at some request must be the end of one of them, but for what `alike` knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from tests.conftest import FULL
from tests.interleave.alike import alike, half_way
from tests.interleave.ending import unit_faults
from tests.interleave.operations import OPERATIONS
from tests.interleave.scene import empty
from tests.lanes import LANES, Lane, own_lanes

WORKER = Path(__file__).with_name("worker.py")
#: How two operations meet: the accounts of each, the first letter is the source.
MEETINGS = {
    "same": ("ab", "ab"),
    "onward": ("ab", "bc"),
    "before": ("ab", "za"),
    "into": ("ab", "db"),
    "beside": ("ab", "ac"),
}
#: Operations that meet others in one way. The other ways are the same for it: the switch stops merges wherever they meet, and
#: the tasks of a merge that is closed do nothing.
_ONCE = ("pause", "repeat")
#: Operations that change what is at a target; these meet at it as well.
_CHANGES = ("merge", "again", "repair", "settle", "undo", "redo", "abandon", "approve")
#: A source can be merged into one account only: one of two merges of it can be done before.
_BESIDE = ("merge", "redo")
#: Names of the two orders.
HOW = ("in order", "turned")
#: (first, second) -> how many interleavings were tried, whichever way they meet.
TRIED: Counter[tuple[str, str]] = Counter()


@dataclass(frozen=True, order=True)
class Pair:
    """Two operations, and how they meet; the first is the one that is held."""

    first: str
    second: str
    meeting: str

    @property
    def asked(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Both with their accounts."""
        one, other = MEETINGS[self.meeting]
        return (self.first, one), (self.second, other)

    def __str__(self) -> str:
        return f"{self.first} {MEETINGS[self.meeting][0]}, {self.second} {MEETINGS[self.meeting][1]}"


def _meet(first: str, second: str, meeting: str) -> bool:
    if meeting == "same":
        return True
    if {first, second} & set(_ONCE):
        return False
    if meeting == "beside":
        return bool({first, second} & set(_BESIDE))
    return meeting != "into" or {first, second} <= set(_CHANGES)


#: Every pair of operations, in each way in which they meet.
PAIRS = tuple(Pair(*pair) for pair in product(OPERATIONS, OPERATIONS, MEETINGS) if _meet(*pair))


@dataclass(frozen=True)
class Held:
    """An interleaving: the first operation of a pair is held at its request `at`, which is of that kind."""

    pair: Pair
    at: int
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.pair.first} held before request {self.at} ({self.kind}) of {self.pair}"


@dataclass(frozen=True)
class Orders:
    """The ends of a pair's two orders, and the kinds of the first operation's requests."""

    ends: tuple[dict[str, Any], dict[str, Any]]
    kinds: tuple[str, ...]
    faults: tuple[str, ...]

    def held(self, pair: Pair) -> list[Held]:
        """Every interleaving of the pair."""
        return [Held(pair, at, kind) for at, kind in enumerate(self.kinds, 1)]


class Interleaver:
    """The lanes, and the orders that are known."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes
        self._known: dict[Pair, Orders] = {}

    def orders(self, pairs: Sequence[Pair]) -> dict[Pair, Orders]:
        """Both orders of each pair; played when they are asked for first."""
        new = [(pair, turned) for pair in pairs if pair not in self._known for turned in (False, True)]
        asked = [(_label(pair, "turned" if turned else "in order"), *pair.asked, turned) for pair, turned in new]
        played = dict(zip(new, self._work("serial", asked), strict=True))
        for pair in dict.fromkeys(pair for pair, _ in new):
            both = played[pair, False], played[pair, True]
            faults = [
                f"{pair}, {how}: {fault}" for how, one in zip(HOW, both, strict=True) for fault in _always(pair, one)
            ]
            self._known[pair] = Orders((both[0]["end"], both[1]["end"]), tuple(both[0]["kinds"]), tuple(faults))
        return {pair: self._known[pair] for pair in pairs}

    def kinds(self, pair: Pair, mutation: str) -> tuple[str, ...]:
        """The kinds of the first operation's requests under a mutation, which may make others."""
        played = self._work("serial", [(_label(pair, f"count {mutation}"), *pair.asked, False)], mutation)
        return tuple(played[0]["kinds"])

    def run(self, jobs: Sequence[Held], mutation: str = "", again: str = "") -> list[str]:
        """Play the interleavings; return what came of those that ended as no order does.

        :param again: sets the accounts apart from those of another run with the same jobs.
        """
        orders = self.orders(sorted({job.pair for job in jobs}))
        asked = [(_label(job.pair, f"{job.at}{mutation}{again}"), *job.pair.asked, job.at) for job in jobs]
        told = []
        for job, found in zip(jobs, self._work("held", asked, mutation), strict=True):
            TRIED[job.pair.first, job.pair.second] += found["held"] and not mutation  # it may have had fewer requests
            faults = [*_always(job.pair, found), *alike(job.pair, found["end"], orders[job.pair].ends)]
            told += [f"{job}: " + "; ".join(faults)] if faults else []
        print("\n".join(told), flush=True)
        return told

    def _work(self, command: str, jobs: Sequence[Any], mutation: str = "") -> list[dict[str, Any]]:
        shares = [jobs[number :: len(self._lanes)] for number in range(len(self._lanes))]

        def work(lane: Lane, mine: Sequence[Any]) -> list[dict[str, Any]]:
            lane.room_for(len(mine))
            return lane.work(command, mine, mutation) if mine else []

        with ThreadPoolExecutor(len(self._lanes)) as pool:
            found = [iter(share) for share in pool.map(work, self._lanes, shares)]
        return [next(found[number % len(found)]) for number in range(len(jobs))]


def _label(pair: Pair, which: str) -> str:
    """Names the accounts."""
    return f"{pair.first}{pair.second}{pair.meeting}{which}".replace("_", "").replace(" ", "")


def _always(pair: Pair, found: dict[str, Any]) -> list[str]:
    """What must hold in whichever order."""
    redone = "redo" in (pair.first, pair.second)
    return [*found["faults"], *(() if half_way(pair, found["end"]) else unit_faults(found["end"], redone))]


@contextmanager
def interleaver(stack: Any, session: Any) -> Iterator[Interleaver]:
    """One on lanes of its own: on a single one for the sample, beside which another worker of `make test` has a core."""
    given = {"CASSANDRA_REQUEST_TIMEOUT_SECONDS": "60"}
    with own_lanes(stack, session, WORKER, given, empty, LANES if FULL else 1) as lanes:
        yield Interleaver(lanes)
