"""Admission's question: where do these accounts live, and may they be merged? The answer holds while they are locked."""

from __future__ import annotations

from dataclasses import dataclass

from account_merge.errors import InvalidRequest, busy
from account_merge.journal import Journal
from account_merge.journal.accounts import Blocked
from account_merge.journal.identity import ERASED
from account_merge.model import Merge


@dataclass(frozen=True)
class LeaseResult:
    """The result: the surviving account, or the account that another merge holds."""

    survivor: str
    blocked: Blocked | None = None


def check_survivors(journal: Journal, merge: Merge) -> str:
    """Where the target's history lives now.

    :raises InvalidRequest: the merge would go in a circle, or a source already lives in another account.
    """
    target, known = merge.request.target, (merge.request.target, *merge.request.sources)
    first = journal.all_merged_by(known)
    survivor = journal.survivor(target, known, first)
    if survivor.startswith(ERASED):
        raise _erased(merge, f"target account {target}")
    for source in merge.request.sources:
        if source == survivor:
            raise InvalidRequest(
                "INTO_ITSELF",
                f"merge {merge.merge_id}: target account {target} was itself merged into source account {source}",
                "Nothing needs to be done when they are one person; else undo the merge that joined them first.",
            )
        lives_in = journal.survivor(source, (*known, survivor), first)
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
    """Take the lease of every account of the merge, or none, by one transaction. May be repeated.

    :raises InvalidRequest: see `check_survivors`; no lease is kept.
    """
    survivor = ""

    def roles() -> dict[str, str]:
        nonlocal survivor
        survivor = check_survivors(journal, merge)
        return {**dict.fromkeys(merge.request.sources, "source"), survivor: "target"}

    with journal.transaction():
        if journal.lock(merge.merge_id).state != merge.state:
            raise busy(merge.merge_id)
        try:
            blocked = journal.take(merge, roles)
        except InvalidRequest:
            # Two reads may have seen two moments, and a refusal is for good: it is asked again where none can differ.
            journal.keep(lambda: _ways(journal, merge))
            blocked = journal.take(merge, roles)
        return LeaseResult(survivor, blocked)


def _ways(journal: Journal, merge: Merge) -> set[str]:
    """Return every account that says where the merge's accounts live: nobody merges or undoes while these are locked."""
    known = (merge.request.target, *merge.request.sources)
    return {account for one in known for account in journal.way(one, known)}
