"""Repair: a merge of the same accounts as a completed one, which moves what came since."""

from __future__ import annotations

import uuid
from dataclasses import replace

from account_merge.journal import Journal
from account_merge.lifecycle.answers import UndoAnswer, undo_answer
from account_merge.lifecycle.undo_order import UndoOrder
from account_merge.model import Merge
from account_merge.states import CLOSED, Origin


class Repairing:
    """Opens repairs; a settle is one that the clock opens."""

    def __init__(self, journal: Journal, order: UndoOrder) -> None:
        self._journal, self._order = journal, order

    def repair(self, merge_id: uuid.UUID, by: str, reason: str) -> UndoAnswer:
        """Open a merge of the same accounts that moves what came since; the poll starts it. One at a time.

        :raises InvalidRequest: the merge is not completed.
        """
        with self._journal.transaction():
            # Nobody undoes or erases the merge between the check and the opening.
            merge = self._journal.lock(merge_id)
            self._order.check(merge, "repair")
            return self._opened(merge, by, reason)

    def _opened(self, merge: Merge, by: str, reason: str) -> UndoAnswer:
        """Open the next repair of a merge that is locked; the answer is the one that is under way, if there is one."""
        later = merge.request.choices.later()
        asked = replace(merge.request, requested_by=by, reason=reason, seeded=False, choices=later)
        request = replace(asked, origin=Origin.REPAIR, mid=None, raw=None)
        number, known = 0, merge
        while known.state in CLOSED:
            number += 1
            new = uuid.uuid5(merge.merge_id, f"repair-{number}")
            if (found := self._journal.get(new)) is None:
                mine, found = self._journal.open(new, request, parent=merge.merge_id), self._journal.need(new)
                return undo_answer(found, f"repair {number} of merge {merge.merge_id}", proceed=mine)
            known = found
        return undo_answer(known, f"repair {number} of merge {merge.merge_id} is under way", proceed=False)
