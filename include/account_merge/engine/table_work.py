"""One table's log: plan, log, apply, verify, entry by entry. Any crash, repeat or second worker ends the same.

An entry's absolute values are in the log before the first of them is written, so the next worker writes the same
values at the same timestamps and goes on after the entry's last key. A subclass says what is planned.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NoReturn

from account_merge.cursor import Ahead
from account_merge.engine.resources import Resources, TableJob
from account_merge.engine.verify import arrived, without_right_lists
from account_merge.errors import NeedsAttention, TransientError
from account_merge.journal import now
from account_merge.journal.encoding import Codec
from account_merge.journal.log import Draft, Log
from account_merge.journal.write_rate import WriteRate
from account_merge.model import Change, Entry, Key, counts_of
from account_merge.planning.write_times import stuck
from account_merge.states import EntryKind
from account_merge.sunbird.few_rows import FewRows
from account_merge.sunbird.store import Work, rest

log = logging.getLogger(__name__)

Planned = tuple[Change, int]
VERIFY_ROUNDS = 8  # re-reads of one entry while the platform keeps writing its rows


class TableWork(ABC):
    """The work that brings one account's rows of one table to what `plan` says.

    :param account: whose rows are written.
    :param log_name: the log that the entries go to.
    """

    def __init__(self, resources: Resources, job: TableJob, account: str, log_name: str) -> None:
        schema = resources.tables.of(job.rule)
        if schema is None:
            raise NeedsAttention(
                "NO_TABLE", f"this cluster has no table for {job.rule.table}", "Leave it out of the merge's tables."
            )
        self._resources, self._settings, self._store = resources, resources.settings, resources.store
        self._journal, self._tables = resources.journal, resources.tables
        self._merge, self._rule, self._guard, self._progress = job.merge, job.rule, job.guard, job.progress
        self._known, self._endings = job.known, job.endings
        self._rate = WriteRate(resources.journal, self._settings.max_rows_per_second)
        self._few = job.known.few if job.known else FewRows()
        self._schema, self._codec = schema, Codec(schema)
        self.account = account
        self.log = Log(resources.journal, job.merge.merge_id, log_name, self._codec)
        self.note = ""

    @abstractmethod
    def plan(self, after: Key | None = None) -> Iterator[Planned]:
        """Return the changes of all rows behind `after`, in key order, with the clock that each allows (µs). Writes nothing."""

    @abstractmethod
    def reread(self, entry: Entry, sent: float) -> tuple[list[Change], int]:
        """Read an entry's rows again; return the changes that fold in later writes, and their base (µs).

        :param sent: seconds since the epoch; nobody can have seen the entry's writes before.
        """

    def table_note(self, changes: Iterable[Change]) -> str:
        """Return sentences about the table as a whole once these changes are done; they are kept with the log's end."""
        return ""

    def run(self) -> dict[str, int]:
        """Do the table, or go on where an earlier worker stopped; return counts of rows by what happened.

        `note` then holds the sentences about the table as a whole.

        :raises TransientError: a server was away; calling again goes on.
        :raises NeedsAttention: a value of the platform keeps winning, or the merge may not write any more.
        """
        last = self.complete_logged()
        while last is None or last.kind != EntryKind.END:
            last = self._run_from(last)
        counts, self.note = self.log.summary()
        return dict(counts)

    def complete_logged(self) -> Entry | None:
        """Write what the log holds, as it was planned, and plan nothing; return the last entry."""
        begun = self._known is None or self.log.table in self._known.ends
        last = self.log.last() if begun else None
        if last is not None and last.kind != EntryKind.END:
            self._guard.check()
            last = self._apply_and_verify(last, again=True)
        return last

    def give_up(self) -> int | None:
        """Close the log as it is, without needing the part that failed; return how many rows are not as the log says.

        The last entry is written once more if that can be done. The changes that are then not there stand in the closing
        entry, so that they count as not handed on. None: the rows cannot be read, so all of them count as handed on.

        :raises TransientError: a server is away: an earlier write may still arrive.
        """
        while True:
            last = self.log.last()
            if last is None or last.kind in (EntryKind.END, EntryKind.CLOSED):
                self.log.close()
                return 0
            left = self._left(last)
            packed = [self._codec.change(change) for change in left or ()]
            counts = counts_of(EntryKind.CLOSED, left or ())
            if self.log.append(Draft(last.seq + 1, EntryKind.CLOSED, last.last_key, last.base, packed, counts)):
                return None if left is None else len(left)

    def _left(self, entry: Entry) -> list[Change] | None:
        """Return the changes of an entry that are not there, as far as they are; None when its rows cannot be read."""
        self._guard.check()
        try:
            self._write(entry, again=True)
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being written, nobody writes it any more
            log.warning("Entry %d of %s: not written: %s", entry.seq, self.log.table, type(error).__name__)
        wrote = [c for c in entry.changes if c.writes or c.create_at or c.delete_at]
        try:
            rows = self._store.rows_by_key(self._schema, self.account, [c.key for c in wrote])
        except NeedsAttention:
            return None
        begun = self._begun(entry)
        sent, settings = entry.seconds, self._settings
        found = (arrived(self._rule, begun(change), rows.get(change.key), sent, settings) for change in wrote)
        return [change for change in found if change.missing]

    def _begun(self, entry: Entry) -> Callable[[Change], Change]:
        """Give a fold's changes the totals that their sources had handed on before the entry that it corrects."""
        first: dict[Key, Change] = {}
        number = entry.seq
        while entry.kind == EntryKind.FOLD and number > 0:
            number -= 1
            (mended,) = islice(self.log.some(number), 1)
            first |= {change.key: change for change in mended.changes}
            if mended.kind == EntryKind.CHANGES:
                break

        def begun(change: Change) -> Change:
            known = first[change.key].given if change.key in first else {}
            return change._replace(given={
                account: {c: (known.get(account, {}).get(c, both)[0], both[1]) for c, both in totals.items()}
                for account, totals in change.given.items()
            })  # fmt: skip

        return begun

    def _run_from(self, last: Entry | None) -> Entry:
        """Plan and apply the rows behind `last`; return early with another worker's entry when it was faster."""
        done = 0
        groups = Ahead(self._groups(self.plan(last.last_key if last else None)))
        for group, packed, base in groups:
            key = group[-1].key
            self._rate.wait(sum(1 for change in group if change.writes or change.create_at or change.delete_at))
            seq = last.seq + 1 if last else 0
            draft = Draft(seq, EntryKind.CHANGES, key, base, packed, counts_of(EntryKind.CHANGES, group))
            last, mine = self._append(draft, group)
            last = self._apply_and_verify(last, again=not mine, meanwhile=groups.look if mine else rest)
            if not mine:
                return last
            done += len(group)
            self._progress(done)
        end = self._end(last)
        if self._endings is not None:
            self._endings.owe(self.log, end)
            return _entry(end)
        return self._apply_and_verify(self._append(end)[0], again=True)

    def _groups(self, changes: Iterable[Planned]) -> Iterator[tuple[list[Change], list[bytes], int]]:
        """Yield neighbouring changes up to an entry's rows and bytes, encoded, with the lowest clock of their reads."""
        group: list[Change] = []
        packed: list[bytes] = []
        size, base, most = 0, 0, self._rate.portion(self._settings.entry_rows)
        for change, clock in changes:
            self._writable(change)
            body = self._codec.change(change)
            if group and (len(group) >= most or size + len(body) > self._settings.entry_bytes):
                yield group, packed, base
                group, packed, size = [], [], 0
            base = min(base, clock) if group else clock
            group.append(change)
            packed.append(body)
            size += len(body)
        if group:
            yield group, packed, base

    def _writable(self, change: Change) -> None:
        """Refuse a change before it is logged that no write can bring about."""
        if columns := stuck(change):
            raise NeedsAttention(
                "NO_WRITE_WINS",
                f"table {self.log.table}, merge {self._merge.merge_id}: {', '.join(columns)} of a row were written at the last "
                "time that there is, and no write can win against that",
                "The preview names the row. Delete the row and put it again at a time of today, then clear the task; or "
                "abandon the merge.",
            )

    def _append(self, draft: Draft, changes: Sequence[Change] = ()) -> tuple[Entry, bool]:
        """Return the entry that was drafted, with these changes, and whether it is ours; another worker's when it was faster.

        :raises MergeError: the merge may not be written any more; nothing was appended.
        """
        if self.log.append(draft, self._guard.fence):
            return _entry(draft, changes), True
        self._guard.check()  # says why the entry may not be there; else another worker was faster
        winner = self.log.last()
        if winner is None:
            raise NeedsAttention(
                "LOG_LOST",
                f"entry {draft.seq} of {self.log.table}, merge {self._merge.merge_id}, is there and is not",
                "Check the journal's database.",
            )
        return winner, False

    def _end(self, last: Entry | None) -> Draft:
        """Return the end behind `last`: it tells what is to be known of the table as a whole."""
        logged = (change for entry in (self.log.entries() if last else ()) for change in entry.changes)
        seq, key, base = (last.seq + 1, last.last_key, last.base) if last else (0, None, 0)
        return Draft(seq, EntryKind.END, key, base, note=self.table_note(logged))

    def _apply_and_verify(self, entry: Entry, again: bool, meanwhile: Work = rest) -> Entry:
        """Write an entry and read its rows again until they hold what the log says; newer writes are folded in.

        :param again: a worker may have written the entry before: lists need a new attempt number, and only those
            that are not right yet are written.
        :param meanwhile: done once, while the servers write.
        """
        pending, newest = [entry], entry
        for turn in range(VERIFY_ROUNDS):
            if newest.kind == EntryKind.CLOSED:
                self._closed()
            if not pending or newest.kind == EntryKind.END:
                return newest
            if turn > 1:
                # A tombstone may carry a later timestamp than our write, and reads do not return a tombstone's time. Wait,
                # so that the last round outranks it.
                time.sleep(
                    (self._settings.clock_margin_seconds + self._settings.max_clock_skew_seconds) / (VERIFY_ROUNDS - 4)
                )
            current = pending[-1]
            sent = current.seconds if again else time.time()
            self._write(current, again, meanwhile)
            meanwhile = rest
            folds, base = self.reread(current, sent)
            if not folds:
                pending.pop()
                again = True
                continue
            for fold in folds:
                self._writable(fold)
            packed = [self._codec.change(fold) for fold in folds]
            counts = counts_of(EntryKind.FOLD, folds)
            draft = Draft(newest.seq + 1, EntryKind.FOLD, newest.last_key, base, packed, counts)
            newest, mine = self._append(draft, folds)
            pending.append(newest)
            if mine:
                # The fold's writes stand above this entry's: the entry itself needs no second look.
                pending.remove(current)
            again = not mine
        raise NeedsAttention(
            "KEEPS_CHANGING",
            f"rows of {self.log.table} in entry {entry.seq} of merge {self._merge.merge_id} do not keep what was written: "
            f"{', '.join(sorted({c for f in newest.changes for c in f.writes})) or 'the rows themselves'}",
            "Look for a writer whose clock is ahead, then clear the task.",
        )

    def _closed(self) -> NoReturn:
        raise NeedsAttention(
            "NOT_RUNNING",
            f"the log of {self.log.table}, merge {self._merge.merge_id}, was closed meanwhile: nothing more is written",
            "See its report.",
        )

    def _write(self, entry: Entry, again: bool, meanwhile: Work = rest) -> None:
        changes: Iterable[Change] = entry.changes
        attempt = 0
        if again and any(self._schema.columns[c].kind == "list" for ch in entry.changes for c in ch.writes):
            changes = without_right_lists(self._store, self._schema, self.account, entry.changes)
            attempt = self.log.next_attempt(entry)
        self._few.forget(self._rule.table)
        self._store.write(self._schema, self.account, changes, attempt, meanwhile)
        self._few.forget(self._rule.table)


def _entry(draft: Draft, changes: Sequence[Change] = ()) -> Entry:
    return Entry(draft.seq, draft.kind, draft.last_key, draft.base, tuple(changes), 0, now())
