"""A sorted stream that is read along with ascending keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Cursor(Generic[T]):
    """Holds one item of the stream at a time.

    :param stream: (key, value), sorted by key; a key may come several times.
    """

    def __init__(self, stream: Iterable[tuple[Any, T]]) -> None:
        self._stream = iter(stream)
        self._next = next(self._stream, None)

    def at(self, key: Any) -> list[T]:
        """The values of exactly this key, in order; what lies before it is passed over for good."""
        while self._next is not None and self._next[0] < key:
            self._next = next(self._stream, None)
        found = []
        while self._next is not None and self._next[0] == key:
            found.append(self._next[1])
            self._next = next(self._stream, None)
        return found
