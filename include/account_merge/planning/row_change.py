"""The change that brings a row from what it is to what it should be. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from account_merge.model import Change, Key, Values, Write


def change_to(
    key: Key,
    now: Values | None,
    to: Values | None,
    at: Callable[[str], int],
    also: Mapping[str, frozenset[Any]],
    why: str,
) -> Change:
    """Return the change that brings a row from `now` to `to`.

    :param at: column -> timestamp (µs) of its write; of "" that of the row itself.
    :param also: columns that are put even if they are right, with the elements that we ever put there: a write of ours
        that is still under way must lose.
    """
    if to is None:
        return Change(key, {}, now, {}, 0, {"": why}, {}, delete_at=at(""))
    row = now or {}
    writes = {}
    for column in sorted({*row, *to, *also}):
        had, value = row.get(column), to.get(column)
        if had != value or column in also:
            writes[column] = _write(had, value, at(column), also.get(column, frozenset()))
    return Change(key, {}, now, writes, 0 if now is not None else at(""), dict.fromkeys(writes, why), {})


def _write(had: Any, value: Any, timestamp: int, put: frozenset[Any]) -> Write:
    """Return a whole value, or of a map or set all its elements and the removal of those that go."""
    if isinstance(value if value is not None else had, Mapping | set | frozenset) or put:
        return Write(value, timestamp, frozenset({*(had or ()), *put} - {*(value or ())}))
    return Write(value, timestamp)
