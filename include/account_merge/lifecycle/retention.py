"""Retention: a merge that is closed for longer than that is redacted. Its images go; the facts that later merges need stay.

State, dates, counts and account ids stay, and under hashed keys the totals that each source row handed on, so that repeats
count nothing twice. From the first step on an undo or redo of the merge is refused: nothing brings its rows back.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from account_merge.engine.lookup_logs import turned_by
from account_merge.engine.resources import Resources
from account_merge.errors import busy
from account_merge.journal import now
from account_merge.journal.encoding import Codec, peek
from account_merge.journal.outbox import Outbox
from account_merge.journal.queue import Queue
from account_merge.journal.redaction import Record, before_hash, brought_hash, digest, given_hash, redact
from account_merge.journal.scans import Note
from account_merge.lifecycle.account_logs import AccountLog, account_logs
from account_merge.lifecycle.approved_plan import ApprovedPlan
from account_merge.lifecycle.deactivation import ACCOUNT
from account_merge.model import Merge
from account_merge.rules import RULES, TableRule
from account_merge.states import CLOSED, State

_PAGE = 100  # merges read at once


class Retention:
    """Redacts merges, log by log. Any process may repeat any step at any time."""

    def __init__(self, resources: Resources, plans: ApprovedPlan) -> None:
        self._journal, self._tables = resources.journal, resources.tables
        self._plans, self._days = plans, resources.settings.retention_days
        self._queue, self._outbox = (
            Queue(self._journal),
            Outbox(self._journal),
        )  # a failed event that is owed needs the raw one
        self._reached = Note(self._journal, "expiry")

    def run(self, limit: int = 1000, seconds: float = 240.0, dry_run: bool = False) -> dict[str, int]:
        """Redact the merges that are due, as far as limit and time allow; the rest stays due.

        :returns: counts: expired, and left alone because a younger merge's undo needs it (`needed`) or an open merge
            has one of its accounts (`held`).
        """
        counts, ends = {"expired": 0, "needed": 0, "held": 0}, time.monotonic() + seconds
        seen: set[object] = set()
        for merge in self._due() if self._days is not None else ():
            if time.monotonic() > ends or counts["expired"] >= limit:
                break
            if merge.merge_id in seen:
                continue
            ready = self._ready(merge)
            seen |= {merge.merge_id, *(one.merge_id for one in ready)}
            counts["needed"] += merge.merge_id not in {one.merge_id for one in ready}
            for one in ready:
                if any(self._journal.holder(account) for account in one.accounts if account):
                    counts["held"] += 1
                    break  # later merges wait for it
                if not dry_run:
                    self.expire(one)
                counts["expired"] += 1
        return counts

    def _due(self) -> Iterator[Merge]:
        """Yield the merges past the retention, oldest first, from where the last run stopped, once around."""
        until = now() - timedelta(days=self._days or 0)
        begun = place = _place(self._reached.get())
        around = place is None
        while True:
            page = self._queue.with_images(until, place, _PAGE)
            for merge in page:
                if around and begun is not None and (merge.closed_at, merge.merge_id) > begun:
                    return
                if self._may(merge):
                    yield merge
                place = merge.closed_at or until, merge.merge_id
                self._reached.put({"closed_at": place[0].isoformat(), "merge_id": str(place[1])})
            if len(page) < _PAGE:
                self._reached.put({})
                if around:
                    return
                around, place = True, None

    def _past(self, since: datetime) -> bool:
        return self._days is not None and now() - since > timedelta(days=self._days)

    def _may(self, merge: Merge) -> bool:
        """Whether the merge itself is due; a redacted one is."""
        if merge.expiry:
            return True
        closed = merge.state in CLOSED and not self._outbox.owes(merge)
        return closed and merge.ended_at is not None and self._past(merge.ended_at)

    def _ready(self, merge: Merge) -> list[Merge]:
        """Return the merges that may be redacted with this one, in order: none that an undo of a later merge replays.

        An undo reads all that the target received before. So only the oldest whole merges of a target are redacted.
        """
        names = self._journal.received(merge.target) if merge.rules_hash else ()
        order = [name.rpartition("/")[2] for name in names]
        if str(merge.merge_id) not in order:  # it was never admitted: no undo needs it
            return [merge]
        found = {str(m.merge_id): m for m in self._journal.needed(dict.fromkeys(order))}
        due = {name for name, m in found.items() if self._may(m)}
        while True:
            first = next((i for i, name in enumerate(order) if name not in due), len(order))
            late = {name for name in order[first:] if name in due}
            if not late:
                break
            due -= late
        return [found[name] for name in dict.fromkeys(order) if name in due and found[name].expiry != "done"]

    # --- one merge ------------------------------------------------------------------------------------------------
    def expire(self, merge: Merge) -> None:
        """Redact the images and free texts of one closed merge.

        :raises TransientError: another process changes the merge just now.
        """
        if merge.expiry == "done":
            return
        if merge.expiry is None:
            self._change(merge, expiry="begun")
            merge = self._journal.need(merge.merge_id)
        self._plans.forget(merge)
        digests = {name: value for name, value in merge.digests.items() if not name.startswith("kept/")}
        for log, keep in self._logs(merge):
            redact(self._journal, merge.merge_id, log, keep)
            if proof := digest(self._journal, merge.merge_id, log):
                digests[f"kept/{log}"] = proof
        texts = dict.fromkeys(("raw", "note", "reason", "error", "remedy", "plan"))
        event = "none" if merge.failed_event == "undeliverable" else merge.failed_event  # it could not be sent any more
        with self._journal.transaction():
            self._journal.forget_words(merge.merge_id)
            self._change(merge, **texts, digests=digests, failed_event=event, expiry="done", images_gone=now())

    def _change(self, merge: Merge, **columns: object) -> None:
        if not self._journal.change(merge, **columns):
            found = self._journal.need(merge.merge_id)
            if (found.state, found.expiry) != (merge.state, columns["expiry"]):
                raise busy(merge.merge_id)

    def _logs(self, merge: Merge) -> Iterator[tuple[str, Callable[[bytes], Iterable[Record]]]]:
        """Yield (name, what to keep of a change) of every log of the merge, also where the cluster lost the table since."""
        own: dict[str, Callable[[bytes], Iterable[Record]]] = {"skip": nothing}
        own |= {rule.table: self._keep(merge, rule) for rule in RULES}
        own |= {log.name: self._keep_before(log) for log in account_logs(merge)}
        # An undone merge counts no more, and will not stand again; but see `journal.ledger.Ledger`.
        if merge.effective_state == State.UNDONE:
            counts = {rule.table for rule in RULES} if merge.request.seeded else frozenset[str]()
            own = {name: self._keep_given(name, before=True) if name in counts else nothing for name in own}
        # Undo and redo hand nothing on; and a rule that has gone since left its log's name in the merge's row.
        others = [f"{operation}/{name}" for operation in self._journal.operations(merge) for name in own]
        yield from (dict.fromkeys([*others, *(n for n in merge.digests if n[:5] != "kept/")], nothing) | own).items()

    def _keep(self, merge: Merge, rule: TableRule) -> Callable[[bytes], Iterable[Record]]:
        schema, target = self._tables.of(rule), merge.target
        codec = Codec(schema) if schema else None
        lookups = [k for r in RULES if not r.holds_scopes for k in r.lookups if k.table == rule.table and k.where]

        given = self._keep_given(rule.table)

        def keep(data: bytes) -> Iterator[Record]:
            yield from given(data)
            if codec is None or not lookups:
                return
            change = codec.unchange(data)
            for look in lookups:
                for scope, (named, matches) in turned_by(change, look, rule):
                    if matches and look.where is not None:
                        yield brought_hash(self._journal, rule.table, look.where, target, scope, named), {}

        return keep

    def _keep_given(self, table: str, before: bool = False) -> Callable[[bytes], Iterable[Record]]:
        def keep(data: bytes) -> Iterator[Record]:
            key, given, _ = peek(data, before)
            for account, totals in given.items():
                if totals:
                    yield given_hash(self._journal, table, account, key), totals

        return keep

    def _keep_before(self, log: AccountLog) -> Callable[[bytes], Iterable[Record]]:
        def keep(data: bytes) -> Iterator[Record]:
            key, _, before = peek(data)
            shown = {column: before.get(column, b"") for column in log.rule.deactivated}  # no byte at all: it was null
            yield before_hash(self._journal, log.rule.table, log.account, key), shown

        return nothing if log.rule is ACCOUNT else keep


def nothing(data: bytes) -> Iterable[Record]:
    """Keep nothing of a change: its merge counts no more, or it brought nothing."""
    return ()


def _place(note: Mapping[str, str]) -> tuple[datetime, uuid.UUID] | None:
    """Return the place behind which the search goes on; None: at the beginning."""
    return (datetime.fromisoformat(note["closed_at"]), uuid.UUID(note["merge_id"])) if note else None
