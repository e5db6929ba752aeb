"""What must hold for an entry to be appended: it is a part of the very statement that appends."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, func, select

from account_merge.journal.schema import accounts, merges, stops
from account_merge.model import Merge
from account_merge.states import State

#: Stands for all tenants, and for merges without one.
ALL = ""


@dataclass(frozen=True)
class Fence:
    """The merge is in this state, in this undo or redo, holds its accounts, and no switch stops it.

    :param accounts: how many accounts it holds.
    :param tenant: whose switch stops it; None where no switch does.
    """

    merge_id: uuid.UUID
    state: State
    operation: str | None
    accounts: int
    tenant: str | None

    @classmethod
    def around(cls, merge: Merge, stoppable: bool) -> Fence:
        """Return the fence of whoever works on a merge as it is now."""
        tenant = merge.request.tenant if stoppable else None
        return cls(merge.merge_id, merge.state, merge.operation, len(merge.accounts), tenant)

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions, on the table merges and others."""
        held = select(func.count()).select_from(accounts).where(accounts.c.held_by == self.merge_id).scalar_subquery()
        found = [
            merges.c.merge_id == self.merge_id, merges.c.state == self.state,
            merges.c.operation.is_not_distinct_from(self.operation), held >= self.accounts,
        ]  # fmt: skip
        if self.tenant is not None:
            found.append(~exists().where(stops.c.tenant.in_(sorted({ALL, self.tenant}))))
        return found
