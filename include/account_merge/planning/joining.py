"""Sorted row streams joined by key: memory is a few rows a stream. Pure: knows no table and no server."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter

from account_merge.cursor import rising
from account_merge.model import Key, Row

_AHEAD = 16  # rows whose evidence is read ahead: so many small reads in flight are best on two cores
_key_of = itemgetter(0)
#: A key, the sources' rows, and the target's row.
Joined = tuple[Key, dict[str, Row], Row | None]


def by_key(of: str, sources: Mapping[str, Iterable[Row]], target: Iterable[Row]) -> Iterator[Joined]:
    """Yield each key that a stream has, in order, with its rows.

    :param of: the rows, in words for the error.
    :param sources: source account -> its rows, sorted by key.
    :raises NeedsAttention: the keys of a stream do not rise.
    """
    streams = [_tagged(of, rows, account) for account, rows in sorted(sources.items())]
    streams.append(_tagged(of, target, None))
    for key, group in groupby(heapq.merge(*streams, key=_key_of), key=_key_of):
        mine, held = {}, None
        for _, account, row in group:
            if account is None:
                held = row
            else:
                mine[account] = row
        yield key, mine, held


def announced(rows: Iterable[Joined], expect: Callable[[Key], object]) -> Iterator[Joined]:
    """Hand rows through; each key is announced while some rows before it wait."""
    waiting = deque[Joined]()
    for one in rows:
        expect(one[0])
        waiting.append(one)
        if len(waiting) > _AHEAD:
            yield waiting.popleft()
    yield from waiting


def _tagged(of: str, rows: Iterable[Row], account: str | None) -> Iterator[tuple[Key, str | None, Row]]:
    for row in rising(rows, of):
        yield row.key, account, row
