"""Faults put into the code under test, each by its name."""

from __future__ import annotations


def apply(name: str) -> None:
    """Puts the named fault in; none for an empty name."""
    if name:
        MUTATIONS[name]()


MUTATIONS = {}
