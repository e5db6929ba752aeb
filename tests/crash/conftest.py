"""The lanes of this folder's tests, made once; and the count of all interruptions at the end of a run."""

from __future__ import annotations

import os
import random

import pytest

from tests.conftest import FULL
from tests.crash import matrix

#: Chooses the requests that are tried beside one of each kind; told at the end, so that a run can be repeated.
SEED = int(os.environ.get("CRASH_SEED") or random.randrange(1_000_000))


@pytest.fixture(scope="session")
def interrupting(stack, session):
    """Two lanes side by side, and what each kind of work comes to without an interruption."""
    with matrix.lanes(stack, session) as found:
        yield found


def pytest_terminal_summary(terminalreporter):
    if not matrix.TRIED:
        return
    terminalreporter.section("interruptions")
    terminalreporter.line("every request" if FULL else f"one request of each kind and a sample: CRASH_SEED={SEED}")
    terminalreporter.line(f"{'work':8} {'action':6} {'meanwhile':10} {'number':>6}")
    for (work, action, meanwhile), number in sorted(matrix.TRIED.items()):
        shown = "-" if action == "kill" else meanwhile
        terminalreporter.line(f"{work:8} {action:6} {shown:10} {number:6}")
