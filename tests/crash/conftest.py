"""The lanes of this folder's tests, made once; what they tried is told at the end of the run."""

from __future__ import annotations

import pytest

from tests.conftest import told_at_the_end
from tests.crash import matrix


@pytest.fixture(scope="session")
def interrupting(stack, session):
    """Two lanes side by side, and what each kind of work comes to without an interruption."""
    with matrix.lanes(stack, session) as found:
        yield found
    for (work, action, meanwhile), number in sorted(matrix.TRIED.items()):
        shown = "-" if action == "kill" else meanwhile
        told_at_the_end("interruptions", f"{work:8} {action:6} {shown:10} {number:6}")
