"""One table of one merge: plan, log, apply, verify, entry by entry. Any crash, repeat or second worker ends the same.

An entry's absolute values are in the log before the first of them is written, so whoever comes next writes the same
values at the same timestamps and goes on after the entry's last key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from account_merge.codec import Codec
from account_merge.derive import Evidence
from account_merge.errors import NeedsAttention
from account_merge.journal import Cas, now
from account_merge.limits import passed
from account_merge.log import LIST_ATTEMPTS, Log, ledger
from account_merge.model import Change, Entry, Key, Merge, Row, Write
from account_merge.planner import plan
from account_merge.rules import TableRule
from account_merge.schema import Tables
from account_merge.settings import Settings
from account_merge.sources import Sources
from account_merge.store import Store
from account_merge.verify import refold

Progress = Callable[[int], None]
_ROUNDS = 8  # re-reads of one entry while the platform keeps writing its rows


class TableMerge:
    """Merges one table.

    :param guard: called before each entry; raises when the merge must not write any more.
    :param earlier: merges that each source account took part in as a source before this one.
    :param kept: places whose rows stay as the target has them (`on_conflict: skip`).
    """

    def __init__(
        self,
        store: Store,
        cas: Cas,
        settings: Settings,
        tables: Tables,
        rule: TableRule,
        merge: Merge,
        earlier: frozenset[Any] = frozenset(),
        guard: Callable[[], None] = lambda: None,
        kept: frozenset[tuple[Any, ...]] = frozenset(),
        progress: Progress | None = None,
    ) -> None:
        schema = tables.of(rule)
        if schema is None:
            raise NeedsAttention(
                "NO_TABLE", f"this cluster has no table for {rule.table}", "Leave it out of the merge's tables."
            )
        self._store, self._cas, self._settings, self._tables = store, cas, settings, tables
        self._rule, self._merge, self._schema = rule, merge, schema
        self._earlier, self._guard, self._kept = earlier, guard, kept
        self._progress = progress or (lambda done: None)
        self._codec = Codec(schema)
        self.target = merge.survivor or merge.request.target
        self.sources = tuple(sorted(merge.request.sources))
        self.found = Sources(store, tables, settings, (*self.sources, self.target))
        self.note = ""
        self.log = Log(cas, merge.merge_id, rule.table, self._codec)

    # --- reading --------------------------------------------------------------------------------------------------
    def _rows(self, account: str) -> Iterator[Row]:
        return self.found.rows(self._rule, account)

    def _evidence(self) -> Callable[[Key], Evidence]:
        """Looks at both accounts' rows of other tables; the answer of the last place is kept."""
        rule = self._rule
        cached: dict[tuple[Any, ...] | None, Evidence] = {}

        def evidence(key: Key) -> Evidence:
            if not rule.looks:
                return {}
            place = None if rule.collects else rule.place(key)
            if place not in cached:
                cached.clear()
                looked = {look.name: self.found.look(look, place) for look in rule.looks}
                cached[place] = {**looked, "kept": {"places": self._kept}}
            return cached[place]

        return evidence

    def _given(self) -> Iterator[tuple[Key, str, dict[str, int]]]:
        logs = [
            Log(self._cas, m, self._rule.table, self._codec) for m in sorted(self._earlier - {self._merge.merge_id})
        ]
        return ledger(logs, frozenset(self.sources))

    def plan(self, after: Key | None = None) -> Iterator[tuple[Change, int]]:
        """The changes of all rows behind `after`, in key order. Writes nothing: this is also the preview."""
        changes = plan(
            self._rule,
            self.target,
            {account: self._rows(account) for account in self.sources},
            self._rows(self.target),
            self._given(),
            self._evidence(),
            self.found.stays(self._rule, self._kept),
        )
        return (item for item in changes if after is None or item[0].key > after)

    def remarks(self, changes: Iterable[Change]) -> str:
        """What of the table is not looked for, and which limits of the platform these changes pass."""
        limits = passed(self._rule, self._schema, self._store, self.target, changes)
        return "; ".join(filter(None, dict.fromkeys((self.found.note(self._rule), *limits))))

    # --- writing --------------------------------------------------------------------------------------------------
    def run(self) -> dict[str, int]:
        """Merges the table, or goes on where an earlier worker stopped; returns counts of rows by what happened.

        `note` says then what of the table was not looked for, and which of the platform's limits are passed.

        :raises TransientError: a server was away; calling again goes on.
        :raises NeedsAttention: a value of the platform keeps winning, or the merge may not write any more.
        """
        last = self.log.last()
        if last is not None and last.kind != "end":
            self._guard()
            last = self._settle(last, again=True)
        while last is None or last.kind != "end":
            last = self._run_from(last)
        counts, self.note = self.log.summary()
        return counts

    def _run_from(self, last: Entry | None) -> Entry:
        """Plans and applies what comes behind `last`; returns early with another worker's entry when it was faster."""
        done = 0
        for group, packed, base in self._groups(self.plan(last.last_key if last else None)):
            self._guard()
            key = group[-1].key
            last, mine = self._append(last, "changes", key, base, group, packed)
            last = self._settle(last, again=not mine)
            if not mine:
                return last
            done += len(group)
            self._progress(done)
        note = self.remarks(change for entry in self.log.entries() for change in entry.changes)
        last, _ = self._append(last, "end", last.last_key if last else None, last.base if last else 0, [], [], note)
        return last if last.kind == "end" else self._settle(last, again=True)

    def _groups(self, changes: Iterable[tuple[Change, int]]) -> Iterator[tuple[list[Change], list[bytes], int]]:
        """Neighbouring changes up to an entry's rows and bytes, encoded, with the lowest clock of their reads."""
        group: list[Change] = []
        packed: list[bytes] = []
        size, base = 0, 0
        for change, clock in changes:
            body = self._codec.change(change)
            if group and (len(group) >= self._settings.entry_rows or size + len(body) > self._settings.entry_bytes):
                yield group, packed, base
                group, packed, size = [], [], 0
            base = min(base, clock) if group else clock
            group.append(change)
            packed.append(body)
            size += len(body)
        if group:
            yield group, packed, base

    def _append(
        self,
        last: Entry | None,
        kind: str,
        key: Key | None,
        base: int,
        changes: list[Change],
        packed: list[bytes],
        note: str = "",
    ) -> tuple[Entry, bool]:
        seq = last.seq + 1 if last else 0
        counts = _counts(kind, changes)
        mine = self.log.append(seq, kind, key, base, packed, counts, note)
        if mine:
            return Entry(seq, kind, key, base, tuple(changes), 0, now()), True
        winner = self.log.last()
        if winner is None:
            raise NeedsAttention(
                "LOG_LOST",
                f"entry {seq} of {self._rule.table}, merge {self._merge.merge_id}, is there and is not",
                "Check Cassandra.",
            )
        return winner, False

    def _settle(self, entry: Entry, again: bool) -> Entry:
        """Writes an entry and re-reads its rows until they hold what the log says; newer writes are folded in.

        :param again: somebody may have written the entry before: lists need a new attempt number, and only those
            that are not right yet are written.
        """
        if entry.kind == "end":
            return entry
        pending, newest = [entry], entry
        for _ in range(_ROUNDS):
            if not pending:
                return newest
            current = pending[-1]
            sent = time.time() if not again else _seconds(current.created_at)
            self._write(current, again)
            folds, base = refold(
                self._store, self._schema, self._rule, self.target, current, sent, self._settings, self._evidence()
            )
            if not folds:
                pending.pop()
                again = True
                continue
            self._guard()
            packed = [self._codec.change(fold) for fold in folds]
            newest, mine = self._append(newest, "fold", newest.last_key, base, folds, packed)
            if newest.kind == "end":
                return newest
            pending.append(newest)
            if mine:
                # The fold's writes stand above this entry's: the entry itself needs no second look.
                pending.remove(current)
            again = not mine
        raise NeedsAttention(
            "KEEPS_CHANGING",
            f"rows of {self._rule.table} in entry {entry.seq} of merge {self._merge.merge_id} do not keep what was written",
            "Look for a writer whose clock is ahead, then clear the task.",
        )

    def _write(self, entry: Entry, again: bool) -> None:
        changes: Iterable[Change] = entry.changes
        attempt = 0
        if again and any(self._schema.columns[c].kind == "list" for ch in entry.changes for c in ch.writes):
            changes, attempt = self._without_right_lists(entry.changes), self.log.next_attempt(entry)
        self._store.write(self._schema, self.target, changes, entry.base, attempt)

    def _without_right_lists(self, changes: Iterable[Change]) -> list[Change]:
        held = self._store.rows_by_key(self._schema, self.target, [c.key for c in changes if c.writes])
        kept = []
        for change in changes:
            row = held.get(change.key)
            right = {
                c
                for c, w in change.writes.items()
                if self._schema.columns[c].kind == "list"
                and row is not None
                and (row.values.get(c) == w.value or row.written.get(c, 0) >= w.timestamp + LIST_ATTEMPTS)
            }
            kept.append(replace(change, writes={c: w for c, w in change.writes.items() if c not in right}))
        return kept


class SourceRows(TableMerge):
    """Sets one source account's rows inactive (`source_rows: deactivate`), journaled in a log of their own."""

    def __init__(self, work: TableMerge, account: str) -> None:
        self.__dict__.update(work.__dict__)
        self.target = account
        self.log = Log(self._cas, self._merge.merge_id, f"{self._rule.table}/{account}", self._codec)

    def plan(self, after: Key | None = None) -> Iterator[tuple[Change, int]]:
        """A change for each row that is still active."""
        for row in self._rows(self.target):
            off = {
                c: Write(value, max(row.base, row.written.get(c, 0) + 1))
                for c, value in self._rule.deactivated.items()
                if c in self._schema.columns and row.values.get(c) != value
            }
            if off and (after is None or row.key > after):
                why = dict.fromkeys(off, "the source account's rows are deactivated, as asked")
                yield Change(row.key, {}, row.values, off, False, why, {}), row.base


def _seconds(moment: Any) -> float:
    from datetime import UTC

    return float(moment.replace(tzinfo=UTC).timestamp()) if moment else time.time()


def _counts(kind: str, changes: Iterable[Change]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for change in changes:
        what = "folded" if kind == "fold" else "created" if change.create else "changed" if change.writes else "same"
        counts[what] = counts.get(what, 0) + 1
        if change.notes:
            counts["ambiguous"] = counts.get("ambiguous", 0) + 1
    return counts


__all__ = ["SourceRows", "TableMerge", "Tables"]
