"""Which requests read an account's rows of certain keys: a slice of its partition, several partitions, or one by one. Pure.

All of them are valid on Cassandra 3.11, which refuses a list of values of a clustering column beside a collection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from account_merge.sunbird.schema import TableSchema
from account_merge.sunbird.selects import select, whole_row
from account_merge.values import Unreadable

Place = Mapping[str, Any]
PARTITIONS = 10  # that one request names, of each account: measured best for aggregates


@dataclass(frozen=True)
class Request:
    """One reading statement with its values.

    :param most: where it is a slice, how many rows it reads; when there are more, it tells nothing of the keys behind.
    """

    cql: str
    values: tuple[Any, ...]
    most: int = 0


def slice_of(schema: TableSchema, places: Sequence[Place]) -> Request | None:
    """Return the request for the slice of an account's own partition that holds these places; None where there is none.

    :param places: sorted by the clustering columns.
    """
    odd = any(isinstance(place[c], Unreadable) for place in (places[0], places[-1]) for c in schema.clustering)
    if not schema.by_account or schema.order == "mixed" or len(places) < 2 or odd:
        return None
    most = 2 * len(places) + 50
    cql = select(schema, whole_row(schema), schema.partition, between=schema.clustering)
    first, last = (tuple(place[c] for c in schema.clustering) for place in (places[0], places[-1]))
    return Request(f"{cql} LIMIT {most}", (places[0][schema.user.logical], *first, *last), most)


def by_key(schema: TableSchema, places: Sequence[Place]) -> Iterator[Request]:
    """Yield the requests for these places, sorted by the whole key; they may answer with other rows as well."""
    free = [c for c in schema.partition if c != schema.user.logical]
    if schema.user.logical in schema.partition and free and len(schema.clustering) == 1:
        yield from _partitions(schema, places, free[-1])
        return
    order = (*schema.partition, *schema.clustering)
    leading, final = order[:-1], order[-1]
    listed = bool(schema.clustering) and all(c.kind == "scalar" for c in schema.columns.values())
    one = select(schema, whole_row(schema), order)
    several = select(schema, whole_row(schema), leading, (final,))
    for lead, group in groupby(places, key=lambda place: tuple(place[c] for c in leading)):
        last = [place[final] for place in group]
        alone = [value for value in last if not listed or len(last) == 1 or isinstance(value, Unreadable)]
        yield from (Request(one, (*lead, value)) for value in alone)
        if len(alone) < len(last):
            yield Request(several, (*lead, [value for value in last if not isinstance(value, Unreadable)]))


def _partitions(schema: TableSchema, places: Sequence[Place], varies: str) -> Iterator[Request]:
    """Yield requests for whole small partitions, which differ in one column."""
    same = [c for c in schema.partition if c != varies]
    one = select(schema, whole_row(schema), schema.partition)
    several = select(schema, whole_row(schema), same, (varies,))
    partitions = sorted({tuple(place[c] for c in (*same, varies)) for place in places})
    for known, group in groupby(partitions, key=lambda partition: partition[:-1]):
        values = iter([partition[-1] for partition in group])
        while some := list(islice(values, PARTITIONS)):
            alone = [v for v in some if len(some) == 1 or isinstance(v, Unreadable)]
            for value in alone:
                named = {**dict(zip(same, known, strict=True)), varies: value}
                yield Request(one, tuple(named[c] for c in schema.partition))
            if len(alone) < len(some):
                yield Request(several, (*known, [v for v in some if not isinstance(v, Unreadable)]))
