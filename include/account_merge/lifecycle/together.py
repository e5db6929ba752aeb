"""An operation whose tables one process does one after another: what is asked once, and what is written together."""

from __future__ import annotations

from dataclasses import dataclass

from account_merge.engine.known import Known
from account_merge.journal.fence import Fence
from account_merge.journal.log_ends import Endings, Ends


@dataclass(frozen=True)
class Together:
    """What the tables of one merge, or of its undo or redo, share in one process.

    :param known: what it has read. What came since is not known, and need not be: each append is refused when the merge is
        not as it was.
    :param endings: the ends of the tables' logs.
    """

    known: Known
    endings: Endings

    def ended(self, fence: Fence | None) -> Ends | None:
        """Append the ends; return log name -> end of all logs, or None when one of them could not be appended."""
        owed = self.endings.owed
        there = self.endings.append(fence)
        return {**self.known.ends, **there} if owed == there.keys() else None
