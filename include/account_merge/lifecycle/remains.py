"""Remains: the shares of a merge that stay in rows where its undo (or redo) was given up. They become a merge of their own.

The merge itself counts as undone. Its shares that could not be taken back are still in the rows, so they must go on
counting as handed on. The remains are abandoned and write nothing; their log names these rows with the sources' shares.
An undo of the remains takes them back once the cause is gone.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from account_merge.cursor import Cursor
from account_merge.engine.history import AccountHistory
from account_merge.engine.resources import Resources, TableJob
from account_merge.engine.steps import row_steps, steps_of
from account_merge.engine.table_work import Planned, TableWork
from account_merge.engine.verify import arrived
from account_merge.errors import NeedsAttention, TransientError
from account_merge.journal import Journal
from account_merge.journal.log import Log
from account_merge.model import Change, Entry, Key, Merge, Values
from account_merge.planning.rebuild import AppliedChange
from account_merge.states import EntryKind, Origin, State


def open_remains(journal: Journal, merge: Merge) -> Merge:
    """Open the remains of a merge that holds its accounts; they are closed from the beginning. May be repeated."""
    target = merge.target
    new = uuid.uuid5(merge.merge_id, f"{Origin.REMAINS}-{merge.operation}")
    words = f"what stays of merge {merge.merge_id}: its {(merge.operation or '').partition('-')[0]} was given up"
    request = replace(
        merge.request, origin=Origin.REMAINS, mid=None, raw=None, seeded=False, source_rows="keep", deactivate_sources=False,
        reason=words,
    )  # fmt: skip
    journal.open(new, request, state=State.ABANDONED, parent=merge.merge_id)
    found = journal.need(new)
    if found.rules_hash is None:
        journal.change(found, survivor=target, rules_hash=merge.rules_hash, note=words)
    done = [journal.join(new, merge.merge_id, target, "target")]
    done += [journal.join(new, merge.merge_id, source, "source") for source in merge.request.sources]
    if not all(done):
        raise TransientError("BUSY", f"the accounts of merge {merge.merge_id} change hands just now", "Try again.")
    return journal.need(new)


class Remains(TableWork):
    """Names the rows of one table that still hold a merge's shares after its undo. Writes none of them.

    :param job: its merge is the one that the rows are named for.
    :param undone: the log of the undo (or redo) of this table; it is closed.
    """

    def __init__(self, resources: Resources, job: TableJob, undone: Log, past: AccountHistory) -> None:
        super().__init__(resources, job, past.account, job.rule.table)
        self._undone, self._past = undone, past

    def plan(self, after: Key | None = None) -> Iterator[Planned]:
        """Yield a change that writes nothing for each row that still holds a share."""
        own = self._undone.merge_id
        redo = self._undone.table.startswith("redo-")
        taken = ((key, steps[-1].change) for key, _, steps in row_steps(self._undone, False, 0))
        done = Cursor(taken, f"the entries of {self._undone.table}")
        absent = self._absent(Log(self._journal, own, self._rule.table, self._codec))
        base = self._store.safe_timestamp()
        for key, steps in steps_of(self._journal, self._codec, self._past):
            back = next(iter(done.at(key)), None)
            if after is not None and key <= after:
                continue
            change = self._stays(key, steps, absent.get(key, frozenset()), _columns(back, redo, self._schema.columns))
            if change is not None:
                yield change, base

    def _stays(
        self, key: Key, steps: list[AppliedChange], absent: frozenset[str], columns: frozenset[str]
    ) -> Change | None:
        """Return the merge's shares in the row as a change, None when there are none."""
        columns -= absent
        sources: dict[str, Values] = {}
        given: dict[str, dict[str, tuple[int, int]]] = {}
        own = [step for step in steps if step.merge in self._past.of]
        for step in own:
            for account, values in step.change.sources.items():
                sources[account] = {c: v for c, v in values.items() if c in columns}
            for account, totals in step.change.given.items():
                mine = given.setdefault(account, {})
                for column, (before, most) in totals.items():
                    if column in columns:
                        first, known = mine.get(column, (before, most))
                        mine[column] = (first, max(known, most))
        left = steps[-1].change.after
        if left is None or not any(sources.values()):
            return None
        last = own[-1].change
        return Change(
            key, sources, left, {}, 0, {"": "it could not be taken back"}, given, choice=last.choice, known=last.known,
            seeded=last.seeded,
        )  # fmt: skip

    def _absent(self, own: Log) -> Mapping[Key, frozenset[str]]:
        """Return the columns that the merge itself logged and never wrote, because of a crash before its undo began."""
        last = own.last()
        if last is None or last.kind != EntryKind.CLOSED or not last.seq:
            return {}
        (entry,) = islice(own.some(last.seq - 1), 1)
        wrote = [c for c in entry.changes if c.writes or c.create_at]
        try:
            rows = self._store.rows_by_key(self._schema, self.account, [c.key for c in wrote])
        except NeedsAttention:
            return {}
        sent, settings = entry.seconds, self._settings
        looked = (arrived(self._rule, c, rows.get(c.key), sent, settings) for c in wrote)
        return {c.key: c.missing for c in looked if c.missing}

    def reread(self, entry: Entry, sent: float) -> tuple[list[Change], int]:
        """Fold in nothing: nothing is written."""
        return [], 0


def _columns(back: Change | None, redo: bool, known: Iterable[str]) -> frozenset[Any]:
    """Return the columns that hold shares: an undo did not take them back, or a redo brought them again."""
    every = frozenset(known)
    if back is None or "" in back.missing:  # not reached, or the row itself is as it was
        return frozenset() if redo else every
    return every - back.missing if redo else back.missing
