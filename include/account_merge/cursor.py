"""A sorted stream that is read along with ascending keys."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from account_merge.errors import NeedsAttention
from account_merge.model import Row

T = TypeVar("T")


def ascending(stream: Iterable[T], of: str) -> Iterator[T]:
    """Hand a stream of (key, ...) through as long as its keys do not fall; a key may come several times.

    :param of: the items of the stream, for the error.
    :raises NeedsAttention: a key falls: a join of sorted streams would pair wrong rows.
    """
    return _checked(stream, of, lambda item: item[0], operator.lt)  # type: ignore[index]


def rising(rows: Iterable[Row], of: str) -> Iterator[Row]:
    """Hand rows through as long as their keys rise.

    :param of: the rows, in words for the error.
    :raises NeedsAttention: a key does not rise: a join of sorted streams would pair wrong rows.
    """
    return _checked(rows, of, lambda row: row.key, operator.le)


def _checked(stream: Iterable[T], of: str, key: Callable[[T], Any], wrong: Callable[[Any, Any], bool]) -> Iterator[T]:
    before: Any = None
    for item in stream:
        here = key(item)
        if before is not None and wrong(here, before):
            raise NeedsAttention(
                "OUT_OF_ORDER",
                f"{of} do not come in the order of their keys: no more of them is merged",
                "Report it with the table's DDL and the server's version; abandoning the merge frees its accounts.",
            )
        before = here
        yield item


class Cursor(Generic[T]):
    """A reader of a sorted stream that holds one item at a time.

    :param stream: (key, value), sorted by key; a key may come several times.
    :param of: the items of the stream, for the error of one that is not sorted.
    """

    def __init__(self, stream: Iterable[tuple[Any, T]], of: str) -> None:
        self._stream = ascending(stream, of)
        self._next = next(self._stream, None)
        self._at: Any = None

    def passed(self, key: Any) -> bool:
        """Whether a key was passed over, or asked for, already."""
        return self._at is not None and bool(key <= self._at)

    def at(self, key: Any) -> list[T]:
        """Return the values of exactly this key, in order; items before it are passed over for good."""
        self._at = key
        while self._next is not None and self._next[0] < key:
            self._next = next(self._stream, None)
        found = []
        while self._next is not None and self._next[0] == key:
            found.append(self._next[1])
            self._next = next(self._stream, None)
        return found


class Ahead(Generic[T]):
    """An iterator whose next item can be made ready before it is asked for.

    An error in making it is raised where it is made.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._ready: list[T] = []

    def look(self) -> None:
        """Make the next item ready, if there is one and none is ready."""
        if not self._ready:
            self._ready += islice(self._items, 1)

    def __iter__(self) -> Iterator[T]:
        """Return itself."""
        return self

    def __next__(self) -> T:
        """Return the item that is ready, or the next one."""
        return self._ready.pop() if self._ready else next(self._items)
