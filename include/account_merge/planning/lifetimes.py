"""Cells that expire: a value that is for good at one account is for good after a merge, and an undo restores when a cell ends. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from account_merge.choices import TARGET
from account_merge.model import Change, Row, Values, Write
from account_merge.values import usable

_ROUGH = 2  # s: two readings of one cell's end differ so much
#: A row's values and when they expire.
Side = tuple[Values, Mapping[str, int]]


def end_of(column: str, sides: Iterable[Side]) -> int:
    """Return when a merged cell expires, s since the epoch: 0 (for good) when it does not at one side, else the latest end."""
    ends = [ends.get(column, 0) for values, ends in sides if usable(values.get(column)) is not None]
    return max(ends) if ends and all(ends) else 0


def lasting(change: Change, sources: Mapping[str, Row], target: Row | None, base: int) -> Change:
    """Return the change with the end of each cell that it puts; a cell that ends too early at the target is put again."""
    ends = {account: dict(row.ends) for account, row in sources.items() if row.ends}
    mine = dict(target.ends) if target else {}
    if mine:
        ends[""] = mine
    if not ends or change.choice == TARGET:
        return change._replace(ends=ends) if ends else change
    held = target.values if target else {}
    sides: list[Side] = [(row.values, row.ends) for row in sources.values()]
    both = [*sides, (held, mine)]
    writes, why = dict(change.writes), dict(change.why)
    for column in sorted({*writes, *mine}):
        end = end_of(column, both)
        if column in writes:
            writes[column] = writes[column]._replace(expires=end if writes[column].value is not None else 0)
        elif any(values.get(column) is not None for values, _ in sides) and (not end or end > mine[column] + _ROUGH):
            seen = target.written.get(column, 0) if target else 0
            writes[column] = Write(held[column], max(base, seen + 1), expires=end)
            why[column] = "it expires at the target and stays longer at the source: the later end stands"
    return change._replace(writes=writes, why=why, ends=ends)


def alive(change: Change, now: float) -> dict[str, Row]:
    """Return the sources' rows of a logged change without the cells that have expired since."""
    found = {}
    for account, values in change.sources.items():
        ends = change.ends.get(account, {})
        kept = {c: v for c, v in values.items() if not ends.get(c) or ends[c] > now}
        found[account] = Row(change.key, kept, ends=ends)
    return found


def restored(change: Change, sides: Sequence[Side], left: Values, row: Row | None) -> Change:
    """Return an undo's change with the end of each cell that it puts.

    :param sides: the row before all merges, and the rows that the effective merges brought.
    :param left: the row as our last step left it. The platform wrote the columns that differ now, with the ends that they have.
    """
    mine = dict(row.ends) if row else {}
    if not mine and not any(ends for _, ends in sides):
        return change
    writes = {}
    for column, write in change.writes.items():
        since = row is not None and row.values.get(column) != left.get(column)
        end = mine.get(column, 0) if since else end_of(column, sides)
        writes[column] = write._replace(expires=end if write.value is not None else 0)
    return change._replace(writes=writes, ends={"": mine} if mine else {})
