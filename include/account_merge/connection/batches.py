"""Bound statements in batches: what one request may hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from cassandra.query import BatchStatement, BatchType

T = TypeVar("T")
_BATCH, _BATCH_BYTES = 100, 65_536  # statements of a batch, and bytes of their values, at most
_APART, _APART_BYTES = 10, 2_048  # the same of a batch over several partitions
_SEVERAL = object()


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Yield neighbours in groups of at most `size` (itertools has it from Python 3.12 on)."""
    iterator = iter(items)
    while group := tuple(islice(iterator, size)):
        yield group


def portions(sent: Iterable[tuple[Any, Any]]) -> Iterator[list[Any]]:
    """Yield bound statements in portions for one batch each: so many, and so many bytes.

    Of several partitions only a few small ones stand together: Cassandra warns of more than 10 of them, and of 5 KiB.

    :param sent: (partition, statement), sorted by partition.
    """
    portion: list[Any] = []
    size, first = 0, None
    for partition, statement in sent:
        bytes_ = sum(map(len, filter(None, statement.values)))
        most, most_bytes = (_BATCH, _BATCH_BYTES) if partition == first else (_APART, _APART_BYTES)
        if portion and (len(portion) >= most or size + bytes_ > most_bytes):
            yield portion
            portion, size = [], 0
        first = partition if not portion or partition == first else _SEVERAL
        portion.append(statement)
        size += bytes_
    if portion:
        yield portion


def batch(portion: Sequence[Any]) -> Any:
    """Return what sends statements as one request: those of one partition Cassandra applies as one mutation."""
    if len(portion) == 1:
        return portion[0]
    together = BatchStatement(BatchType.UNLOGGED)
    for statement in portion:
        together.add(statement)
    return together
