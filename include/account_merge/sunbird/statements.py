"""A change as CQL: absolute values, each at its own timestamp and for as long as it lives. Pure: prepares and sends nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from account_merge.model import Change, Write
from account_merge.sunbird.schema import Column, TableSchema
from account_merge.values import Unreadable

Assignment = tuple[str, tuple[Any, ...]]


class Statement(NamedTuple):
    """One statement with its values.

    :param idempotent: it may be sent twice; a list that is written twice at one timestamp is there twice.
    """

    cql: str
    values: tuple[Any, ...]
    idempotent: bool = True


class _Together:
    """What goes into one statement, since it is written at one time and lives equally long.

    :ivar kinds: kinds of the columns.
    """

    __slots__ = ("kinds", "sets", "values")

    def __init__(self) -> None:
        self.sets: list[str] = []
        self.values: list[Any] = []
        self.kinds: set[str] = set()

    def add(self, cql: str, values: tuple[Any, ...], kind: str) -> None:
        self.sets.append(cql)
        self.values += values
        self.kinds.add(kind)


def statements(schema: TableSchema, account: str, change: Change, now: float, attempt: int = 0) -> Iterator[Statement]:
    """Yield a statement for each timestamp and end of a change; a list takes its timestamp + `attempt`.

    :param now: seconds since the epoch, from which a cell that expires counts.
    """
    place, named = schema.bind(account, change.key), schema.named
    keys = tuple(place[c] for c in named.order)
    together: defaultdict[tuple[int, int], _Together] = defaultdict(_Together)
    for name in sorted(change.writes):
        column, write = schema.columns[name], change.writes[name]
        if column.kind == "scalar" and not write.expires:  # nearly all are
            together[write.timestamp, 0].add(column.put, (write.value,), "scalar")
            continue
        for timestamp, seconds, (cql, values) in _assignments(column, write, now, attempt):
            together[timestamp, seconds].add(cql, values, column.kind)
    if change.create_at:
        # A row without a value still exists: only INSERT leaves the marker that says so. What is put as a whole at the same
        # time goes with it; INSERT would replace a collection.
        with_it = together.get((change.create_at, 0))
        if with_it is None or with_it.kinds != {"scalar"}:
            with_it = _Together()
        else:
            del together[change.create_at, 0]
        yield Statement(named.insert(tuple(with_it.sets)), (*keys, *with_it.values, change.create_at))
    if change.delete_at:
        cql = f"DELETE FROM {schema.full_name} USING TIMESTAMP ? WHERE {named.where}"
        yield Statement(cql, (change.delete_at, *keys))
    for timestamp, seconds in sorted(together):
        found = together[timestamp, seconds]
        cql = named.update(tuple(found.sets), bool(seconds))
        ends = (seconds,) if seconds else ()
        yield Statement(cql, (timestamp, *ends, *found.values, *keys), "list" not in found.kinds)


def _assignments(column: Column, write: Write, now: float, attempt: int) -> Iterator[tuple[int, int, Assignment]]:
    """Yield (timestamp, TTL in seconds or 0, assignment). A bound null is a tombstone: here it deletes the cell."""
    if column.kind not in ("map", "set") or (write.value is None and not write.remove):
        seconds = int(write.expires - now) if write.expires else 0
        gone = bool(write.expires) and seconds < 1
        timestamp = write.timestamp + (attempt if column.kind == "list" else 0)
        yield timestamp, 0 if gone else seconds, (column.put, (None if gone else write.value,))
        return
    quoted = f'"{column.actual}"'
    put: Mapping[Any, Any] = write.value if column.kind == "map" else dict.fromkeys(write.value or ())
    times = {element: write.later.get(element, write.timestamp) for element in (*write.remove, *(put or {}))}
    for timestamp in sorted(set(times.values())):
        here = {e: (put or {}).get(e) for e, t in times.items() if t == timestamp}
        for assignment in _elements(column.kind, quoted, here, write.remove):
            yield timestamp, 0, assignment


def _elements(kind: str, quoted: str, here: Mapping[Any, Any], remove: frozenset[Any]) -> Iterator[Assignment]:
    """Yield assignments that add and remove elements: replacing a map or set would leave a range tombstone behind.

    Cassandra refuses a collection with a text that is not UTF-8: such an element gets an assignment of its own.
    """
    odd = {e for e, v in here.items() if kind == "map" and (isinstance(e, Unreadable) or isinstance(v, Unreadable))}
    if gone := {e for e in here if e in remove} - odd:
        yield f"{quoted} = {quoted} - ?", (gone,)
    if put := {e: v for e, v in here.items() if e not in remove and e not in odd}:
        yield f"{quoted} = {quoted} + ?", (put if kind == "map" else set(put),)
    for element in sorted(odd, key=str):
        yield f"{quoted}[?] = ?", (element, None if element in remove else here[element])
