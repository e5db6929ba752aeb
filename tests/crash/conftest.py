"""The lanes of this folder's tests, made once; and the count of all interruptions at the end of a run."""

from __future__ import annotations

import os

import pytest

from tests.crash import matrix

#: `make crash`: every request of every kind of work, not one of each kind.
EVERY = os.environ.get("CRASH") == "all"


@pytest.fixture(scope="session")
def interrupting(stack, session):
    """Two lanes side by side, and what each kind of work comes to without an interruption."""
    with matrix.lanes(stack, session) as found:
        yield found


def pytest_terminal_summary(terminalreporter):
    if not matrix.TRIED:
        return
    terminalreporter.section("interruptions")
    terminalreporter.line(f"{'work':8} {'action':6} {'meanwhile':10} {'number':>6}")
    for (work, action, meanwhile), number in sorted(matrix.TRIED.items()):
        shown = "-" if action == "kill" else meanwhile
        terminalreporter.line(f"{work:8} {action:6} {shown:10} {number:6}")
