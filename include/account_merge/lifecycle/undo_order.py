"""Whether a merge may be undone, redone, abandoned or repaired now, and what comes first if not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from account_merge.engine.history import settles_of, unexpired
from account_merge.engine.known import Known
from account_merge.errors import InvalidRequest
from account_merge.journal import Journal, leases, now
from account_merge.model import Merge
from account_merge.settings import Settings
from account_merge.states import ACTIONS, AT_ONCE, CLOSED, State

REFUSALS = {
    "undo": "CANNOT_UNDO",
    "redo": "CANNOT_REDO",
    "abandon": "CANNOT_ABANDON",
    "repair": "CANNOT_REPAIR",
}


class UndoOrder:
    """The order of undos: a merge is undone before the merges that it built on."""

    def __init__(self, journal: Journal, settings: Settings) -> None:
        self._journal, self._settings = journal, settings

    def check(self, merge: Merge, action: str) -> None:
        """Whether the action makes sense now.

        :raises InvalidRequest: it does not; the remedy names what to do first.
        """
        if action in AT_ONCE:
            begin, remedy = AT_ONCE[action]
            under_way = ""
        else:
            under_way, _, begin = ACTIONS[action]
            remedy = f"That can be done when it is {', '.join(sorted(begin))}."
        if merge.state not in {under_way, *begin}:
            raise InvalidRequest(
                REFUSALS[action], f"merge {merge.merge_id} is {merge.state}: no {action} of it", remedy
            )
        if action in ACTIONS:
            known = Known(self._journal, merge)
            self._check_age(known, merge, action)
            self._check_order(known, merge, action)

    def _check_age(self, known: Known, merge: Merge, action: str) -> None:
        """Refuse a merge that was redacted, or that is closed for longer than the undo window."""
        target, admitted = merge.target, merge.rules_hash is not None
        if merge.expiry or (admitted and merge.merge_id not in {m.merge_id for _, m in unexpired(known, target)}):
            raise InvalidRequest(
                "EXPIRED",
                f"no {action} of merge {merge.merge_id}: its images, or of what came before it, have expired",
                "Nothing brings the rows back by itself any more; counts and totals stay, a repair still moves what is new.",
            )
        window = self._settings.undo_days
        closed = merge.ended_at if merge.state in CLOSED else None
        if window is not None and closed is not None and now() - closed > timedelta(days=window):
            raise InvalidRequest(
                "UNDO_WINDOW_OVER",
                f"no {action} of merge {merge.merge_id}: it is {merge.state} since {closed:%Y-%m-%d}, longer than the "
                f"{window:g} days within which it could be done",
                "If it must be, raise ACCOUNT_MERGE_UNDO_DAYS for this one command: its images are there until they expire.",
            )

    def _check_order(self, known: Known, merge: Merge, action: str) -> None:
        target = merge.target
        onward = self._journal.merged_by(target)
        if onward is not None and onward.merge_id != merge.merge_id:
            raise self._first(merge, action, onward, f"account {target} was itself merged on")
        mine = {settle.merge_id for settle in settles_of(known, merge)} if action == "undo" else set()
        through = {m.merge_id for source in merge.request.sources for m in known.merges_into(source)}
        for later in self._later(known, merge, target):
            if later.merge_id in mine:
                continue
            if set(later.request.sources) & set(merge.request.sources):
                raise self._first(merge, action, later, f"a later merge moved more of the same source to {target}")
            if set(merge.request.sources) & set(self._way(later.request.target)):
                why = f"a later merge into account {later.request.target} came to {target} by way of this one"
                raise self._first(merge, action, later, why)
            for source in later.request.sources:
                if any(i in through and m.effective_state != State.UNDONE for i, m in known.gave((source,)).items()):
                    why = f"a later merge moved what account {source} had not yet handed on by way of this merge"
                    raise self._first(merge, action, later, why)
        if action == "redo":
            self._check_redo(known, merge, target)

    def _check_redo(self, known: Known, merge: Merge, target: str) -> None:
        """Refuse a redo of a merge that was never completed, or that builds on a merge that was undone since."""
        again = "Merge the accounts again: a new merge moves everything."
        if merge.sync_sent is None:
            raise InvalidRequest("CANNOT_REDO", f"merge {merge.merge_id} was undone before it was completed", again)
        if merge.state != State.UNDONE:
            return
        for source in merge.request.sources:
            before = {m.merge_id: m for m in known.merges_into(source)} | known.gave((source,))
            for one in sorted(before.values(), key=lambda m: str(m.created_at)):
                if one.effective_state == State.UNDONE and _undone_since(one, merge):
                    raise InvalidRequest(
                        "CANNOT_REDO",
                        f"merge {merge.merge_id} goes on from what merge {one.merge_id} did with account {source}, and that is "
                        f"{one.state} since",
                        f"Redo merge {one.merge_id} first, or merge the accounts again: a new merge moves what is there now.",
                    )
        lives_in = leases.check_survivors(self._journal, merge)
        if lives_in != target:
            raise InvalidRequest(
                "CANNOT_REDO",
                f"merge {merge.merge_id} went to account {target}; its target lives in {lives_in} now",
                again,
            )

    def _way(self, account: str) -> Iterator[str]:
        """Yield the account, and each that completed merges lead on to."""
        seen = {account}
        yield account
        while (onward := self._journal.merged_by(account)) is not None:
            account = onward.target
            if account in seen:
                return
            seen.add(account)
            yield account

    @staticmethod
    def _first(merge: Merge, action: str, other: Merge, why: str) -> InvalidRequest:
        return InvalidRequest(
            "UNDO_FIRST",
            f"no {action} of merge {merge.merge_id} yet: {why} (merge {other.merge_id})",
            f"Undo merge {other.merge_id} first, then this one.",
        )

    @staticmethod
    def _later(known: Known, merge: Merge, target: str) -> list[Merge]:
        """Return the standing merges into the same target after this one."""
        into = known.merges_into(target)
        ids = [m.merge_id for m in into]
        behind = into[ids.index(merge.merge_id) + 1 :] if merge.merge_id in ids else []
        return [m for m in behind if m.effective_state in (State.COMPLETED, State.ABANDONED)]


def _undone_since(one: Merge, merge: Merge) -> bool:
    """Whether a merge came before another and was undone after it was opened."""
    return bool(
        one.created_at and merge.created_at and one.state_at and one.created_at < merge.created_at < one.state_at
    )


def operation_name(merge: Merge, action: str) -> str:
    """Return the name of the undo or redo that is under way, or of the next one: `undo-1`, say."""
    if merge.operation and merge.state == ACTIONS[action][0]:
        return merge.operation
    return f"{action}-{int((merge.operation or '-0').rsplit('-', 1)[1]) + 1}"
