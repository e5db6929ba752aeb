"""Faults put into the code under test, each by its name, and the interleavings that must find each.

Each takes something out of the one transaction or statement that makes it hold: a check, a condition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from account_merge.journal import changing, leases
from tests.crash.mutations import no_fence, order_checked_before_the_accounts_are_taken
from tests.interleave.orders import Held, Pair


@dataclass(frozen=True)
class Mutation:
    """A fault, and where it must show.

    :param put: puts it in.
    :param shows: what is said of it, so that nothing else than the fault is found.
    :param pair: the pair of operations that must meet.
    :param kind: beginning of the kind of requests that the first one is held at.
    """

    put: Callable[[], None]
    shows: str
    pair: Pair
    kind: str

    def held(self, kinds: tuple[str, ...]) -> list[Held]:
        """The interleavings that must find it."""
        return [Held(self.pair, at, kind) for at, kind in enumerate(kinds, 1) if kind.startswith(self.kind)]


def apply(name: str) -> None:
    """Puts the named fault in; none for an empty name."""
    if name:
        MUTATIONS[name].put()


def survivor_resolved_before_the_accounts_are_locked() -> None:
    acquire = leases.acquire_all
    check = leases.check_survivors

    def acquiring(journal: Any, merge: Any) -> Any:
        found = check(journal, merge)
        leases.check_survivors = lambda *arguments: found
        try:
            return acquire(journal, merge)
        finally:
            leases.check_survivors = check

    leases.acquire_all = acquiring


def changed_whatever_the_state_is_now() -> None:
    changing._READ = ()
    changing._changing.cache_clear()


MUTATIONS = {
    "order_checked_before_the_accounts_are_taken": Mutation(
        order_checked_before_the_accounts_are_taken,
        "counted 2 times",
        Pair("undo", "merge", "onward"),
        "BEGIN",
    ),
    "order_of_a_redo_checked_before_the_accounts_are_taken": Mutation(
        order_checked_before_the_accounts_are_taken,
        "'ac': ['completed'",
        Pair("redo", "merge", "beside"),
        "BEGIN",
    ),
    "survivor_resolved_before_the_accounts_are_locked": Mutation(
        survivor_resolved_before_the_accounts_are_locked,
        "counted 0 times",
        Pair("merge", "merge", "onward"),
        "BEGIN",
    ),
    "changed_whatever_the_state_is_now": Mutation(
        changed_whatever_the_state_is_now,
        "codes",
        Pair("merge", "abandon", "same"),
        "UPDATE merges",
    ),
    "no_fence": Mutation(
        no_fence,
        "an entry was appended while merging was stopped",
        Pair("merge", "pause", "same"),
        "INSERT log",
    ),
}
