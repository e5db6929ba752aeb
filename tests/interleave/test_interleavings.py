"""Of two operations on accounts that meet, one held at any request while the other runs: the end is that of some order.

`make test` tries a sample of the pairs, of each at some requests, and tells the seed; `make crash` tries every request of
every pair. Each fault that is put into the code has to turn the interleavings red that are named for it.
"""

from __future__ import annotations

import random

import pytest

from tests.conftest import CRASH_SEED, FULL
from tests.interleave.mutations import MUTATIONS
from tests.interleave.operations import OPERATIONS
from tests.interleave.orders import PAIRS

#: So many pairs of each operation, and so many requests of each pair, are tried where not all are.
PAIRS_EACH, REQUESTS_EACH = 2, 2
pytestmark = pytest.mark.timeout(14400 if FULL else 900)


def some(cases, number, of):
    """A few of the cases by the run's seed, or all of them."""
    return cases if FULL else random.Random(f"{CRASH_SEED} {of}").sample(cases, min(number, len(cases)))


@pytest.mark.parametrize("first", OPERATIONS)
def test_an_operation_may_be_held_at_any_request_while_another_runs(first, interleaver):
    pairs = some([pair for pair in PAIRS if pair.first == first], PAIRS_EACH, first)
    orders = interleaver.orders(pairs)
    wrong = [fault for pair in pairs for fault in orders[pair].faults]
    wrong += interleaver.run([held for pair in pairs for held in some(orders[pair].held(pair), REQUESTS_EACH, pair)])
    assert not wrong, f"{len(wrong)} are no order's end\n" + "\n".join(wrong[:5])


def test_what_must_find_a_fault_is_green_without_it(interleaver):
    pairs = sorted({mutation.pair for mutation in MUTATIONS.values()})
    orders = interleaver.orders(pairs)
    held = {one for mutation in MUTATIONS.values() for one in mutation.held(orders[mutation.pair].kinds)}
    assert len(held) >= len(MUTATIONS)
    assert interleaver.run(sorted(held, key=str), again="green") == []


@pytest.mark.parametrize("name", MUTATIONS)
def test_is_found(name, interleaver):
    mutation = MUTATIONS[name]
    held = mutation.held(interleaver.kinds(mutation.pair, name))
    assert held
    found = interleaver.run(held, name)
    assert any(mutation.shows in words for words in found), "\n".join(found) or "nothing that an order does not give"
