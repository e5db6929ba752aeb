"""The ends of a merge's logs: what is known of them without reading a payload, and several appended by one statement."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ARRAY, Executable, Row, bindparam, column, exists, func, select, true

from account_merge.journal.database import Database
from account_merge.journal.fence import Fence, conditions
from account_merge.journal.log import Draft, Log
from account_merge.journal.schema import insert_once, log, merges
from account_merge.states import EntryKind

_FEW = 32  # entries that are read at once, of which few hold rows: an end and what closes it hold none
#: Columns of an end that are the same for all logs of a statement.
_SAME = ("merge_id", "kind", "counts")
#: Columns of an end that differ from log to log.
_EACH = ("name", "seq", "last_key", "base", "writer", "payload", "salt", "sealed", "digest", "note", "created_at")


LogRow = Row[Any]  # an entry of a log as the journal has it


@dataclass(frozen=True)
class LogEnd:
    """The last entry of a log, without what it holds."""

    seq: int
    kind: EntryKind
    digest: bytes


Ends = Mapping[str, LogEnd]  # name -> end of each log of a merge that is not empty


class Endings:
    """The ends of logs of one merge that are owed: a merge in one process appends them together.

    A log whose end is not there yet is one whose worker stopped before it: whoever works on it goes on.
    """

    def __init__(self, journal: Database) -> None:
        self._journal = journal
        self._owed: list[tuple[Log, dict[str, Any]]] = []

    def owe(self, log: Log, draft: Draft) -> None:
        """Have a log's end appended with the others; its time is the end of the table's work, now."""
        log.count(draft)
        self._owed.append((log, log.row_of(draft)))

    @property
    def owed(self) -> set[str]:
        """The names of the logs whose end is owed."""
        return {log.table for log, _ in self._owed}

    def append(self, fence: Fence | None) -> dict[str, LogEnd]:
        """Append all that is owed by one statement; return log name -> end, of those that are there now.

        One is missing where another writer was first; all are when the fence does not hold. All are of one kind.

        :raises TransientError: the outcome is unknown; `ends` tells it.
        """
        owed, self._owed = self._owed, []
        if not owed:
            return {}
        rows = [row for _, row in owed]
        given = {f"new_{name}": value for name, value in rows[0].items() if name not in _EACH}
        given |= {f"new_{name}": [row[name] for row in rows] for name in _EACH}
        statement = _ending(fence is not None, bool(fence and fence.stoppable))
        there = {row.name for row in self._journal.rows(statement, given | (fence.values() if fence else {}))}
        return {row["name"]: LogEnd(row["seq"], row["kind"], row["digest"]) for row in rows if row["name"] in there}


def close_all(journal: Database, logs: Sequence[Log]) -> None:
    """Nobody appends to these logs of one merge any more: as `Log.close`, for all of them together."""
    waiting = {one.table: one for one in logs}
    while waiting:
        found = {row.name: row for row in journal.rows(_LAST, {"merge": logs[0].merge_id})}
        closing = Endings(journal)
        for name, one in waiting.items():
            last = found.get(name)
            if last is None:
                closing.owe(one, Draft(0, EntryKind.CLOSED))
            elif last.kind != EntryKind.CLOSED:
                one.reached(last.seq, last.digest)
                key = None if last.last_key is None else one.codec.unkey(last.last_key)
                closing.owe(one, Draft(last.seq + 1, EntryKind.CLOSED, key, last.base))
        left = closing.owed - closing.append(None).keys()
        waiting = {name: waiting[name] for name in left}


@lru_cache(maxsize=3)
def _ending(fenced: bool, stoppable: bool) -> Executable:
    """Return the statement that appends several ends, each where it is the next entry of its log."""
    new = {c.name: bindparam(f"new_{c.name}", type_=c.type) for c in log.c if c.name in _SAME}
    each = func.unnest(*(bindparam(f"new_{name}", type_=ARRAY(log.c[name].type)) for name in _EACH))
    one = each.table_valued(*(column(name, log.c[name].type) for name in _EACH), name="one").render_derived()
    mine = log.c.merge_id == new["merge_id"], log.c.name == one.c.name
    next_ = select(func.coalesce(func.max(log.c.seq) + 1, 0)).where(*mine).scalar_subquery()
    closed = exists().where(*mine, log.c.seq == one.c.seq - 1, log.c.kind == EntryKind.CLOSED)
    rows = select(*new.values(), *(one.c[name] for name in _EACH)).where(next_ == one.c.seq, ~closed)
    if fenced:
        rows = rows.select_from(one.join(merges, true())).where(*conditions(stoppable))
        rows = rows.with_for_update(read=True, of=merges)
    return insert_once(log).from_select([*new, *_EACH], rows).returning(log.c.name)


def newest_at(journal: Database, merge_id: uuid.UUID, names: Iterable[str]) -> datetime | None:
    """When the newest entry of these logs of a merge was appended; None when all are empty. Reads no payload."""
    mine = log.c.merge_id == merge_id, log.c.name.in_(list(names))
    found: datetime | None = journal.value(select(func.max(log.c.created_at)).where(*mine))
    return found


#: The last entry of each log of a merge that is not empty, without what it holds.
_LAST = (
    select(log.c.name, log.c.seq, log.c.kind, log.c.last_key, log.c.base, log.c.digest)
    .distinct(log.c.name)
    .where(log.c.merge_id == bindparam("merge", type_=log.c.merge_id.type))
    .order_by(log.c.name, log.c.seq.desc())
)


def ends(journal: Database, merge_id: uuid.UUID) -> dict[str, LogEnd]:
    """Log name -> end, of each log of a merge that is not empty; one statement that reads no payload."""
    return {
        row.name: LogEnd(row.seq, EntryKind(row.kind), row.digest) for row in journal.rows(_LAST, {"merge": merge_id})
    }


def closed_rows(journal: Database, merge_id: uuid.UUID, found: Mapping[str, LogEnd]) -> dict[str, list[LogRow]]:
    """Log name -> all its entries, of the closed logs of a merge, by one statement; none of them where they have many.

    :param found: the ends of the merge's logs.
    """
    names = [name for name, end in found.items() if end.kind == EntryKind.CLOSED]
    if not 0 < sum(found[name].seq + 1 for name in names) <= _FEW:
        return {}
    mine = log.c.merge_id == merge_id, log.c.name.in_(names)
    rows: dict[str, list[LogRow]] = {name: [] for name in names}
    for row in journal.rows(select(log).where(*mine).order_by(log.c.name, log.c.seq)):
        rows[row.name].append(row)
    return rows


def digests(found: Mapping[str, LogEnd], names: Iterable[str]) -> dict[str, bytes]:
    """Log name -> digest of its last entry, of these logs: what a merge's row remembers when the merge is closed."""
    return {name: found[name].digest for name in names if name in found}


def spans(journal: Database, merge_id: uuid.UUID) -> dict[str, tuple[datetime, datetime]]:
    """Log name -> when its first and last entry were appended. Reads no payload.

    The entry that closes a log is written by an undo or when a merge is given up, maybe weeks later: it does not count.
    """
    times = func.min(log.c.created_at).label("first"), func.max(log.c.created_at).label("last")
    mine = log.c.merge_id == merge_id, log.c.kind != EntryKind.CLOSED
    found = journal.rows(select(log.c.name, *times).where(*mine).group_by(log.c.name))
    return {row.name: (row.first, row.last) for row in found}
