"""When the values of a change are written: just above what stands there, each cell and element for itself. Pure.

A write time ahead of the clock binds its own cell or element only: any other cell that took it over would hide what the learner
does next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from account_merge.model import Change, Row, Write

LAST = 2**63 - 1  # µs; the last time that a cell can have: no write wins against it
_EARLIEST = int(datetime(2005, 1, 1, tzinfo=UTC).timestamp() * 1e6)  # before Cassandra was written there is no time
_SLACK = 5_000_000  # µs that a write may be above a reading's base: CLOCK_MARGIN, the skew that is let pass, and a bit
_YEARS = 366 * 86_400 * 1_000_000  # µs ahead of the clock that no clock is
_NAMED = 3  # elements of one column that are named
_SHOWN = 60  # characters of an element's name

Floor = Mapping[str, Write]


def above(change: Change, row: Row | None, base: int, floor: Floor | None = None) -> Change:
    """Return the change with each timestamp above what stands there, and a note for each that is ahead of the clock.

    :param row: the target's row as it was read.
    :param base: µs; what the change's writes have so far.
    :param floor: column -> the least timestamps that its writes may have: those of earlier writes of ours.
    """
    if floor is None and not change.delete_at and not change.notes and _all_above(change, row, base):
        return change
    notes: list[str] = []
    writes = {}
    for column, write in change.writes.items():
        least = floor.get(column) if floor else None
        seen = _seen(column, write, row)
        if seen is None:
            at = row.written.get(column, 0) if row else 0
            timestamp = max(write.timestamp, least.timestamp if least else 0, at + 1)
            writes[column] = write if timestamp == write.timestamp else write._replace(timestamp=timestamp)
            if at > base:
                notes += _ahead(column, at, base)
            continue
        timestamp = max(write.timestamp, least.timestamp if least else 0, _replaced(seen, row) + 1)
        raised = write._replace(timestamp=timestamp)
        later = {e: t for e, t in {**(least.later if least else {}), **raised.later}.items() if t > raised.timestamp}
        for element in _touched(raised):
            if (at := seen.get(element, 0)) >= max(raised.timestamp, later.get(element, 0)):
                later[element] = at + 1
        writes[column] = raised._replace(later={e: t for e, t in later.items() if e in _touched(raised)})
        said = [
            note
            for element in _touched(raised)
            if (at := seen.get(element, 0)) > base
            for note in _ahead(f"{column}[{_named(element)}]", at, base)
        ]
        notes += said[:_NAMED]
        notes += [f"{column}: {len(said) - _NAMED} more elements like that"] if len(said) > _NAMED else []
    if change.delete_at:
        writes |= _one_by_one(change.delete_at, row or Row(change.key, {}), floor or {})
    stands = len(writes) == len(change.writes) and all(writes[c] is write for c, write in change.writes.items())
    if stands and not notes and not change.notes:
        return change
    return change._replace(writes=writes, notes=tuple(dict.fromkeys((*change.notes, *notes))))


def _all_above(change: Change, row: Row | None, base: int) -> bool:
    """Whether all writes are above all that stands there, which is not ahead of the clock: so it is as a rule."""
    newest = max(row.written.values(), default=0) if row else 0
    return newest <= base and all(w.timestamp > newest and not w.later for w in change.writes.values())


def _named(element: Any) -> str:
    """Return an element as a note names it. Python shows no whole number of more than 4,300 digits, which a varint may have."""
    try:
        return repr(element)[:_SHOWN]
    except ValueError:
        return "one too long to show"


def _touched(write: Write) -> set[Any]:
    return {*write.remove, *(write.value or ())}


def _seen(column: str, write: Write, row: Row | None) -> Mapping[Any, int] | None:
    """Return element -> its write time; None for a column that is written as a whole. The column's where no element tells its own."""
    several = bool(write.remove) or isinstance(write.value, dict | set | frozenset)
    if not several or (row and column in row.frozen):
        return None
    if row is None:
        return {}
    held = row.values.get(column) or ()
    return row.elements.get(column) or dict.fromkeys(held, row.written.get(column, 0))


def _replaced(seen: Mapping[Any, int], row: Row | None) -> int:
    """Return when a map or set may have been put as a whole, which deletes all that it held before at that time less one.

    The time of an element that is ahead of the clock is its own only: others would be hidden until then.
    """
    return max((at for at in seen.values() if row and at <= row.read), default=0)


def _one_by_one(delete: int, row: Row, floor: Floor) -> Iterator[tuple[str, Write]]:
    """Yield what a deletion of the row does not reach, deleted each for itself: a deletion ahead would hide what comes next."""
    for column in sorted({*row.written, *floor}):
        at = max(row.written.get(column, 0) + 1, floor[column].timestamp if column in floor else 0)
        times = dict(floor[column].later) if column in floor else {}
        if times or (isinstance(row.values.get(column), Mapping | set | frozenset) and column not in row.frozen):
            seen = row.elements.get(column) or dict.fromkeys(row.values.get(column) or (), at - 1)
            for element, known in seen.items():
                times[element] = max(known + 1, times.get(element, 0))
            if later := {e: t for e, t in times.items() if t > delete}:
                yield column, Write(None, delete, frozenset(later), later)
        elif at > delete:
            yield column, Write(None, at)


def ahead(at: int, base: int) -> bool:
    """Whether a time is ahead of the clock that `base` (µs) was read from."""
    return at > base + _SLACK


def _ahead(name: str, at: int, base: int) -> Iterator[str]:
    if at >= LAST:
        yield f"{name}: no write can win against its write time, the last that there is"
    elif base and ahead(at, base):
        hours = (at - base) / 3.6e9
        yield (
            f"{name}: it was written {hours:,.1f} hours ahead of the clock; the new value is put just above that, and "
            "hides what is written there until then"
        )


def stuck(change: Change) -> list[str]:
    """Return the columns that a change cannot be written to: no time is above those that stand there."""
    times = [(c, max(w.timestamp, *w.later.values()) if w.later else w.timestamp) for c, w in change.writes.items()]
    return sorted([column for column, at in times if at > LAST])


def impossible(whose: str, row: Row, base: int) -> tuple[str, ...]:
    """Return a note when cells of a row were written at times that cannot be: by a client that counts otherwise, or a wrong clock."""
    if base < _EARLIEST:
        return ()  # no clock was read
    times = row.written.values()
    if times and (min(times) < _EARLIEST or max(times) > base + _YEARS):
        odd = sorted([c for c, at in row.written.items() if at < _EARLIEST or at > base + _YEARS])
        return (f"{whose}: write times that cannot be (before 2005, or years ahead): {', '.join(odd)}",)
    return ()
