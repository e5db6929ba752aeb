"""The guard of whoever writes for a merge: it is still in the state that it was, has its accounts, and no switch stops it."""

from __future__ import annotations

from collections.abc import Callable

from account_merge.engine.resources import Guard
from account_merge.errors import NeedsAttention
from account_merge.journal import Journal
from account_merge.journal.fence import Fence
from account_merge.model import Merge


def still(
    journal: Journal,
    merge: Merge,
    ends: str,
    permit: Callable[[Merge], None] = lambda found: None,
    stoppable: bool = True,
) -> Guard:
    """Return a guard that refuses to write once the merge has another state, or another undo or redo, than now.

    :param ends: which work then ends, in words.
    :param permit: asked first, with the merge as the journal has it; raises what else forbids to write.
    :param stoppable: a kill switch stops this work.
    """

    def check() -> None:
        found = journal.need(merge.merge_id)
        permit(found)
        if (found.state, found.operation) != (merge.state, merge.operation):
            raise NeedsAttention(
                "NOT_RUNNING", f"merge {merge.merge_id} became {found.state} meanwhile: {ends}", "See its report."
            )
        if not journal.holds_all(merge):
            raise NeedsAttention(
                "LEASE_LOST",
                f"merge {merge.merge_id} does not hold all its accounts",
                "Clear the task `admit` of its run.",
            )

    return Guard(check, Fence.around(merge, stoppable))
