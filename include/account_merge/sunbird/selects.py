"""The reading statements of a table, and an answer as a row. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from account_merge.model import Row
from account_merge.sunbird.schema import TableSchema
from account_merge.values import PLAIN, key_part, plain


def whole_row(schema: TableSchema) -> list[str]:
    """Return what is selected of a row: key, cells, their write times, and how long they live."""
    columns = [f'"{c.actual}"' for c in (*schema.key.values(), *schema.columns.values())]
    times = [f'{c.write_time}("{c.actual}")' for c in map(schema.column, schema.timed)]
    lives = [f'TTL("{c.actual}")' for c in map(schema.column, schema.mortal)]
    return [*columns, *times, *lives]


def select(
    schema: TableSchema,
    what: Sequence[str],
    known: Sequence[str],
    several: Sequence[str] = (),
    between: Sequence[str] = (),
    grouped: Sequence[str] = (),
    most: int = 0,
) -> str:
    """Return the statement that reads rows whose key columns are `known`; a partition from its least to its greatest key.

    :param several: key columns of which several values are asked for; the rows then come in no order that counts.
    :param between: clustering columns whose values lie between two given places.
    :param grouped: leading clustering columns; of the rows that have the same values in them the first is read.
    :param most: rows, at most; 0: all.
    """
    where = [f'"{schema.column(name).actual}" = ?' for name in known]
    where += [f'"{schema.column(name).actual}" IN ?' for name in several]
    if between:
        names, marks = (
            ", ".join(parts) for parts in ([f'"{schema.column(c).actual}"' for c in between], "?" * len(between))
        )
        where += [f"({names}) >= ({marks})", f"({names}) <= ({marks})"]
    conditions = f" WHERE {' AND '.join(where)}" if where else ""
    if grouped:
        conditions += " GROUP BY " + ", ".join(f'"{schema.column(name).actual}"' for name in grouped)
    if schema.order == "falling" and set(schema.partition) <= set(known) and not several:
        rising = ", ".join(f'"{schema.column(c).actual}" ASC' for c in schema.clustering)
        conditions += f" ORDER BY {rising}"
    conditions += f" LIMIT {most}" if most else ""
    return f"SELECT {', '.join(what)} FROM {schema.full_name}{conditions}"  # noqa: S608 - names as the cluster has them


def row_of(schema: TableSchema, raw: tuple[Any, ...], base: int, margin: float) -> Row:
    """Return a row as it was selected by `whole_row`.

    :param base: µs; the clock that was read before.
    :param margin: s; how far `base` was set back.
    """
    keys, timed, mortal = len(schema.key), schema.timed, schema.mortal
    times_at = keys + len(schema.columns)
    ends_at = times_at + len(timed)
    cells = zip(schema.columns, raw[keys:times_at], strict=True)
    values = {c: v if type(v) in PLAIN else plain(v) for c, v in cells if v is not None}
    written = {c: t for c, t in zip(timed, raw[times_at:ends_at], strict=True) if t is not None}
    elements = {c: _element_times(values.get(c, ()), written[c]) for c in schema.parted if type(written.get(c)) is list}
    for column, times in elements.items():
        written[column] = max(times.values())
    left = raw[ends_at:]
    ends = (
        {c: int(time.time()) + s for c, s in zip(mortal, left, strict=True) if s is not None}
        if left.count(None) < len(mortal)
        else {}
    )
    read = base + int(margin * 1e6)
    return Row(tuple(map(key_part, raw[:keys])), values, written, base, elements, ends, schema.frozen, read)


def _element_times(elements: Iterable[Any], times: Sequence[int]) -> dict[Any, int]:
    """Return element -> its write time; the newest where two elements are equal in Python."""
    held = list(elements)
    return dict(zip(held, times, strict=True)) if len(held) == len(times) else dict.fromkeys(held, max(times))
