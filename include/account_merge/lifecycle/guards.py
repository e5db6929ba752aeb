"""The guard of whoever writes for a merge: asked before each entry whether the merge is still in the state that it was."""

from __future__ import annotations

from collections.abc import Callable

from account_merge.engine.resources import Guard
from account_merge.errors import NeedsAttention
from account_merge.journal import Journal
from account_merge.model import Merge


def still(journal: Journal, merge: Merge, ends: str, permit: Callable[[Merge], None] = lambda found: None) -> Guard:
    """Return a guard that refuses to write once the merge has another state, or another undo or redo, than now (SERIAL).

    :param ends: which work then ends, in words.
    :param permit: asked first, with the merge as the journal has it; raises what else forbids to write.
    """

    def guard() -> None:
        found = journal.need(merge.merge_id)
        permit(found)
        if (found.state, found.operation) != (merge.state, merge.operation):
            raise NeedsAttention(
                "NOT_RUNNING", f"merge {merge.merge_id} became {found.state} meanwhile: {ends}", "See its report."
            )

    return guard
