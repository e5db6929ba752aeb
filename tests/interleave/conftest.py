"""The lanes of this folder's tests, made once; what they tried is told at the end of the run."""

from __future__ import annotations

import pytest

from tests.conftest import told_at_the_end
from tests.interleave import orders


@pytest.fixture(scope="session")
def interleaver(stack, session):
    """The lanes, and the orders of pairs that were played."""
    with orders.interleaver(stack, session) as found:
        yield found
    for (first, second), number in sorted(orders.TRIED.items()):
        told_at_the_end("interleavings", f"{first:8} held, {second:8} runs {number:6}")
