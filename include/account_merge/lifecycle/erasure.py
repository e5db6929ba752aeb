"""Legal erasure: the journal forgets one person, at once and for good. The record of the act stays.

Keyed hashes replace the account ids, so that a repeated event still counts nothing twice. The facts that later merges need
stay, as they do after redaction. An erasure touches none of the learners' own tables.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from account_merge.errors import InvalidRequest, busy
from account_merge.journal import Journal
from account_merge.journal.acts import Acts
from account_merge.journal.identity import ERASED
from account_merge.journal.outbox import Outbox
from account_merge.journal.redaction import rename
from account_merge.journal.scans import STRANDED, ScanProgress
from account_merge.lifecycle.account_logs import account_logs
from account_merge.lifecycle.answers import Act, acts, as_note
from account_merge.lifecycle.retention import Retention
from account_merge.model import Merge
from account_merge.states import CLOSED, State

#: A merge in one of these states joins no accounts: its accounts may be those of two persons.
APART = frozenset({State.UNDONE, State.REFUSED, State.REJECTED, State.EXPIRED})


@dataclass
class Person:
    """Accounts of one person, which merges joined, and every merge that names one of them.

    :param merges: in the order in which they were found, from the account that was asked for outwards.
    """

    accounts: dict[str, None] = field(default_factory=dict)
    merges: dict[uuid.UUID, Merge] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The accounts whose own names are known."""
        return [account for account in self.accounts if not account.startswith(ERASED)]

    @property
    def left(self) -> list[Merge]:
        """The merges that are not erased yet, the farthest first: the rest stays connected whenever this stops."""
        return [merge for merge in reversed(self.merges.values()) if merge.state != State.ERASED]


class ErasureAnswer(TypedDict):
    """Answer of an erasure, done or only looked at: the ids of the merges, and the number of accounts.

    :param account_ids: only of one that is looked at.
    """

    dry_run: bool
    merges: list[str]
    accounts: int
    account_ids: NotRequired[list[str]]


class Erasure:
    """Erases persons. The same call again finishes one that was interrupted."""

    def __init__(self, journal: Journal, retention: Retention) -> None:
        self._journal, self._retention = journal, retention
        self._record, self._outbox = Acts(journal, "erasures"), Outbox(journal)

    def history(self) -> list[Act]:
        """Return every erasure, oldest first: when, who and why, how many merges; `begun` without `erased` was interrupted."""
        return acts(self._record)

    def person(self, account: str) -> Person:
        """Return the accounts that standing merges joined with this one, and all merges that name any of them."""
        found, todo = Person(), [account]
        while todo:
            one = todo.pop(0)
            if one in found.accounts:
                continue
            found.accounts[one] = None
            for merge in self._merges(one):
                known = found.merges.setdefault(merge.merge_id, merge)
                if (
                    known is merge
                    and merge.effective_state not in APART
                    and (merge.rules_hash or merge.state not in CLOSED)
                ):
                    todo += [a for a in (*merge.request.sources, merge.request.target, merge.survivor) if a]
        # A name and its hash are the same account.
        hashes = {self._journal.erased_id(name) for name in found.names}
        found.accounts = {a: None for a in found.accounts if a not in hashes}
        for merge in self._nameless(found.names):
            found.merges.setdefault(merge.merge_id, merge)
        return found

    def _merges(self, account: str) -> Iterator[Merge]:
        """Yield the merges that name the account: by index, and by what its row says that it gave and received."""
        ids = [*self._journal.merges_into(account), *self._journal.gave(account)]
        found = {merge.merge_id: merge for merge in self._journal.of_account(account)}
        found |= {i: self._journal.need(i) for i in ids if i not in found}
        yield from sorted(found.values(), key=lambda m: (str(m.created_at), str(m.merge_id)))

    def _nameless(self, names: Collection[str]) -> Iterator[Merge]:
        """Yield the refused events whose accounts could not be read, but whose text holds one of the names."""
        for merge in self._journal.nameless():
            if any(name in _text(merge.request.raw or b"") for name in names):
                yield merge

    def erase(self, account: str, by: str, reason: str, dry_run: bool = True) -> ErasureAnswer:
        """Erase the person who has this account, or say what would be erased.

        :raises InvalidRequest: the reason is missing, or one of the merges is open: nothing was changed. Or an open one was
            asked for meanwhile: the same call again goes on.
        :raises TransientError: another process works on one of them; the same call again goes on.
        """
        account = account.strip()
        if not account or (not dry_run and not reason.strip()):
            raise InvalidRequest(
                "NO_REASON",
                "an erasure needs an account and a reason",
                "Name both: the record of the act shows why.",
            )
        person = self.person(account)
        for merge in person.left:
            self._check(merge)
        answer: ErasureAnswer = {
            "dry_run": dry_run,
            "merges": [str(m.merge_id) for m in person.left],
            "accounts": len(person.accounts),
        }
        if dry_run:
            return {**answer, "account_ids": list(person.accounts)}
        stranded = ScanProgress(self._journal, STRANDED)
        stranded.rewrite(lambda e: {**e, "found": [f for f in e["found"] if f["account_id"] not in person.accounts]})
        rows = [name for name in person.names if self._journal.known(name)]
        if not person.left and not rows and not self._unfinished(account):
            return answer
        by = "the account's owner" if by in person.accounts else by or "somebody"
        self._write(
            account, "begun", f"{by} erases {len(person.left)} merges of {len(rows)} accounts: {reason.strip()}"
        )
        for merge in reversed(person.left):
            self._retention.expire(merge)
        for name in rows:
            if (holder := self._journal.erase_account(name)) is not None:
                raise self._open(holder)
        for merge in person.left:
            self._erase(self._journal.need(merge.merge_id))
        for merge in (late for name in person.names for late in self.person(name).left):
            self._check(merge)  # it was asked for while this erasure was under way
            raise busy(merge.merge_id)
        self._write(
            account, "erased", f"{by} erased {len(person.left)} merges of {len(rows)} accounts: {reason.strip()}"
        )
        return answer

    def _check(self, merge: Merge) -> None:
        if merge.state not in CLOSED or self._outbox.owes(merge):
            raise self._open(merge)

    @staticmethod
    def _open(merge: Merge) -> InvalidRequest:
        owed = merge.state in CLOSED
        return InvalidRequest(
            "STILL_OPEN",
            f"merge {merge.merge_id} is {merge.state}" + (" and its failed event is not out yet" if owed else ""),
            "Wait for the next poll."
            if owed
            else "Finish it, undo it, abandon it or reject it first; then erase again.",
        )

    def _erase(self, merge: Merge) -> None:
        """Take names and texts out of the row of a redacted merge; its counts, dates and former state stay."""
        if merge.state == State.ERASED:
            return
        hashed, request = self._journal.erased_id, merge.request
        moved: dict[str, str] = {}
        prefixes = ("", *(f"{operation}/" for operation in self._journal.operations(merge)))
        for log in account_logs(merge):
            for prefix in prefixes:
                old, new = prefix + log.name, prefix + log.called_by(hashed(log.account))
                moved |= {old: new, f"kept/{old}": f"kept/{new}"}
                if old != new:
                    rename(self._journal, merge.merge_id, old, new)
        digests = {moved.get(name, name): value for name, value in merge.digests.items()}
        texts = ("reason", "mid", "topic_position", "raw", "waiting_for", "waiting_holder", "error", "remedy", "note",
                 "resume", "settle_at", "approval_run")  # fmt: skip
        names = {*request.sources, request.target, merge.survivor or ""} - {""}
        asked = request.requested_by
        with self._journal.transaction():
            self._journal.forget_words(merge.merge_id, names)
            done = self._journal.move(
                merge, State.ERASED, former=merge.state, digests=digests,
                sources=[hashed(source) for source in request.sources],
                target=hashed(request.target) if request.target else "",
                survivor=hashed(merge.survivor) if merge.survivor else None,
                requested_by=None if asked in names else asked,
                approved_by=None if merge.approved_by in names else merge.approved_by, run_ids=[], **dict.fromkeys(texts),
            )  # fmt: skip
            if not done:
                raise busy(merge.merge_id)

    # --- the record of the act --------------------------------------------------------------------------------------
    def _write(self, account: str, what: str, note: str) -> None:
        self._record.add(what, as_note(note), self._journal.erased_id(account).encode())

    def _unfinished(self, account: str) -> bool:
        """Whether an erasure of this account was begun and not finished."""
        return self._record.newest_about(self._journal.erased_id(account).encode()) == "begun"


def _text(raw: bytes) -> str:
    """Return a raw event with its escapes resolved, as far as it can be read."""
    text = raw.decode(errors="replace")
    try:
        return text + json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
