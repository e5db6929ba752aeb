"""Turns on what all tests of a run share: many at once, or one alone."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, name: str, alone: bool) -> Iterator[None]:
    """Wait until this test may use the thing, together with others or alone.

    Who waits to be alone stops the door: those who come later wait behind, so that nobody waits for ever.
    """
    with (folder / f"{name}.door").open("w") as door, (folder / f"{name}.room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
