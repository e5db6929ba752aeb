"""Hooks put into other people's classes, and taken out again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Puts a value in the place of a class's or module's own: (owner, name, value).
Put = Callable[[Any, str, Any], None]


class Patches:
    """Remembers what it replaces."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Put a value in the place of the owner's."""
        self._before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def take_out(self) -> None:
        """Put everything back, the last first."""
        while self._before:
            setattr(*self._before.pop())
