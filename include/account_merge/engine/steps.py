"""Steps: the changes that were made to each row, read from the logs in order. An undo replays them, a repair compares."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import groupby

from account_merge.cursor import ascending
from account_merge.engine.history import AccountHistory
from account_merge.errors import TransientError
from account_merge.journal import Journal
from account_merge.journal.encoding import Codec
from account_merge.journal.log import Log
from account_merge.model import Key
from account_merge.planning.rebuild import AppliedChange
from account_merge.states import EntryKind


def steps_of(
    journal: Journal, codec: Codec, past: AccountHistory, empty: Log | None = None
) -> Iterator[tuple[Key, list[AppliedChange]]]:
    """Yield all that was done to each row, in order; rows in key order.

    :param empty: a log that holds nothing yet: it is not asked for.
    """
    none = (empty.merge_id, empty.table) if empty else None
    known = [one for one in past.logs if (one.merge, one.name) != none]
    streams = [
        ascending(
            row_steps(Log(journal, one.merge, one.name, codec, one.rows), one.brings, position),
            f"rows of {one.name} in the log",
        )
        for position, one in enumerate(known)
    ]
    for key, group in groupby(heapq.merge(*streams, key=lambda item: item[:2]), key=lambda item: item[0]):
        yield key, [step for _, _, done in group for step in done]


def row_steps(log: Log, brings: bool, position: int) -> Iterator[tuple[Key, int, list[AppliedChange]]]:
    """Yield (key, position, steps) of each row in a log, in key order: a fold stands behind the entry that it corrects."""
    run: dict[Key, list[AppliedChange]] = {}
    for entry in log.entries():
        if entry.kept is not None:
            raise TransientError(
                "EXPIRED_MEANWHILE", f"the images of merge {log.merge_id} have just expired", "The task is tried again."
            )
        if entry.kind == EntryKind.CHANGES:
            yield from ((key, position, run[key]) for key in sorted(run))
            run = {}
        for change in entry.changes:
            brought = log.merge_id if brings else None
            step = AppliedChange(brought, change, entry.kind == EntryKind.FOLD, entry.seconds, log.merge_id)
            run.setdefault(change.key, []).append(step)
    yield from ((key, position, run[key]) for key in sorted(run))
