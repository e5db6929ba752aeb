"""What must hold for an entry to be appended: it is a part of the very statement that appends."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Integer, bindparam, exists, func, or_, select

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

    @property
    def stoppable(self) -> bool:
        """Whether a switch stops the merge."""
        return self.tenant is not None

    @classmethod
    def around(cls, merge: Merge, stoppable: bool) -> Fence:
        """Return the fence of whoever works on a merge as it is now."""
        tenant = merge.request.tenant if stoppable else None
        return cls(merge.merge_id, merge.state, merge.operation, len(merge.accounts), tenant)

    def values(self) -> dict[str, Any]:
        """Return the values of its conditions."""
        return {
            "fence_merge": self.merge_id, "fence_state": self.state, "fence_operation": self.operation,
            "fence_accounts": self.accounts, **({"fence_tenant": self.tenant} if self.stoppable else {}),
        }  # fmt: skip


def conditions(stoppable: bool) -> list[ColumnElement[bool]]:
    """Return the conditions of a fence, on the table merges and others; its values are bound by name.

    :param stoppable: a switch stops the merge.
    """
    merge_id = bindparam("fence_merge", type_=merges.c.merge_id.type)
    operation = bindparam("fence_operation", type_=merges.c.operation.type)
    held = select(func.count()).select_from(accounts).where(accounts.c.held_by == merge_id).scalar_subquery()
    found = [
        merges.c.merge_id == merge_id,
        merges.c.state == bindparam("fence_state", type_=merges.c.state.type),
        merges.c.operation.is_not_distinct_from(operation),
        held >= bindparam("fence_accounts", type_=Integer()),
    ]
    if stoppable:
        its = bindparam("fence_tenant", type_=stops.c.tenant.type)
        found.append(~exists().where(or_(stops.c.tenant == ALL, stops.c.tenant == its)))
    return found
