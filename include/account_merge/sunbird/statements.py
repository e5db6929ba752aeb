"""A change as CQL: absolute values, each at its own timestamp and for as long as it lives. Pure: prepares and sends nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from account_merge.model import Change, Write
from account_merge.sunbird.schema import Column, TableSchema
from account_merge.values import Unreadable

Assignment = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Statement:
    """One statement with its values.

    :param idempotent: it may be sent twice; a list that is written twice at one timestamp is there twice.
    """

    cql: str
    values: tuple[Any, ...]
    idempotent: bool = True


def statements(schema: TableSchema, account: str, change: Change, now: float, attempt: int = 0) -> Iterator[Statement]:
    """Yield a statement for each timestamp and end of a change; a list takes its timestamp + `attempt`.

    :param now: seconds since the epoch, from which a cell that expires counts.
    """
    place, named = schema.bind(account, change.key), schema.named
    keys = tuple(place[c] for c in named.order)
    together: dict[tuple[int, int], list[tuple[Assignment, str]]] = {}
    for name in sorted(change.writes):
        column = schema.columns[name]
        for timestamp, seconds, assignment in _assignments(column, change.writes[name], now, attempt):
            together.setdefault((timestamp, seconds), []).append((assignment, column.kind))
    if change.create_at:
        # A row without a value still exists: only INSERT leaves the marker that says so. What is put as a whole at the same
        # time goes with it; INSERT would replace a collection.
        with_it = together.get((change.create_at, 0), [])
        if any(kind != "scalar" for _, kind in with_it):
            with_it = []
        elif with_it:
            del together[change.create_at, 0]
        cql = named.insert([cql.removesuffix(" = ?") for (cql, _), _ in with_it])
        yield Statement(cql, (*keys, *(value for (_, values), _ in with_it for value in values), change.create_at))
    if change.delete_at:
        cql = f"DELETE FROM {schema.full_name} USING TIMESTAMP ? WHERE {named.where}"
        yield Statement(cql, (change.delete_at, *keys))
    for (timestamp, seconds), found in sorted(together.items()):
        sets = ", ".join(cql for (cql, _), _ in found)
        ends = (" AND TTL ?", (seconds,)) if seconds else ("", ())
        cql = f"UPDATE {schema.full_name} USING TIMESTAMP ?{ends[0]} SET {sets} WHERE {named.where}"
        values = tuple(value for (_, values), _ in found for value in values)
        yield Statement(cql, (timestamp, *ends[1], *values, *keys), all(kind != "list" for _, kind in found))


def _assignments(column: Column, write: Write, now: float, attempt: int) -> Iterator[tuple[int, int, Assignment]]:
    """Yield (timestamp, TTL in seconds or 0, assignment). A bound null is a tombstone: here it deletes the cell."""
    quoted = f'"{column.actual}"'
    if column.kind not in ("map", "set") or (write.value is None and not write.remove):
        seconds = int(write.expires - now) if write.expires else 0
        gone = bool(write.expires) and seconds < 1
        timestamp = write.timestamp + (attempt if column.kind == "list" else 0)
        yield timestamp, 0 if gone else seconds, (f"{quoted} = ?", (None if gone else write.value,))
        return
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
