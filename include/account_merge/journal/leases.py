"""Admission: resolves survivors under leases, all or none, so that two merges never touch one account at once."""

from __future__ import annotations

from dataclasses import dataclass

from account_merge.errors import InvalidRequest, TransientError
from account_merge.journal import Journal
from account_merge.journal.cas import ERASED
from account_merge.model import Merge


@dataclass(frozen=True)
class LeaseResult:
    """The result: the surviving account, or the account that another merge holds."""

    survivor: str
    blocked_account: str | None = None
    blocked_by: Merge | None = None


def check_survivors(journal: Journal, merge: Merge) -> str:
    """Where the target's history lives now.

    :raises InvalidRequest: the merge would go in a circle, or a source already lives in another account.
    """
    target, known = merge.request.target, (merge.request.target, *merge.request.sources)
    survivor = journal.survivor(target, known)
    if survivor.startswith(ERASED):
        raise _erased(merge, f"target account {target}")
    for source in merge.request.sources:
        if source == survivor:
            raise InvalidRequest(
                "INTO_ITSELF",
                f"merge {merge.merge_id}: target account {target} was itself merged into source account {source}",
                "Nothing needs to be done when they are one person; else undo the merge that joined them first.",
            )
        lives_in = journal.survivor(source, (*known, survivor))
        if lives_in.startswith(ERASED):
            raise _erased(merge, f"source account {source}")
        if lives_in not in (source, survivor):
            raise InvalidRequest(
                "ALREADY_MERGED",
                f"merge {merge.merge_id}: source account {source} was already merged into account {lives_in}",
                f"Undo that merge first, or merge {lives_in} instead.",
            )
    return survivor


def _erased(merge: Merge, whose: str) -> InvalidRequest:
    return InvalidRequest(
        "ERASED",
        f"merge {merge.merge_id}: {whose} was merged into an account whose id was erased from the journal",
        "Ask for a merge into the account where the history lives; when the person is gone there is nothing to do.",
    )


def acquire_all(journal: Journal, merge: Merge) -> LeaseResult:
    """Take the lease of every account of the merge, or none. May be repeated.

    :raises InvalidRequest: see `check_survivors`; no lease is kept.
    """
    for _ in range(10):
        survivor = check_survivors(journal, merge)
        roles = {**{s: "source" for s in merge.request.sources}, survivor: "target"}
        taken: list[str] = []
        for account in sorted(roles):
            holder = journal.acquire(account, merge.merge_id, roles[account])
            if holder is not None:
                for holds_all in taken:
                    journal.release(holds_all, merge.merge_id)
                return LeaseResult(survivor, account, holder)
            taken.append(account)
        try:
            if check_survivors(journal, merge) == survivor:
                return LeaseResult(survivor)
        except InvalidRequest:
            for holds_all in taken:
                journal.release(holds_all, merge.merge_id)
            raise
        for holds_all in taken:
            journal.release(holds_all, merge.merge_id)
    raise TransientError(
        "SURVIVOR_MOVES",
        f"merge {merge.merge_id}: the survivor of account {merge.request.target} changed ten times while it was admitted",
        "Nothing was written; the task is tried again.",
    )


def holds_all(journal: Journal, merge: Merge) -> bool:
    """Whether every account's lease names this merge (SERIAL)."""
    rows = [journal.account(account) for account in merge.accounts]
    return all(row is not None and row.held_by == merge.merge_id for row in rows)
