"""The statements on accounts that every merge needs, made once: making one takes longer than the server does with it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ARRAY, BindParameter, Text, any_, bindparam, exists, func, literal, select, update

from account_merge.journal.schema import accounts, insert_once, merges, moves

#: The state that counts for where history lives: that of an erased merge is the one that it had.
EFFECTIVE = func.coalesce(merges.c.former, merges.c.state)


def _texts(name: str) -> BindParameter[Any]:
    return bindparam(name, type_=ARRAY(Text))


MERGED_BY = (
    select(moves.c.account_id.label("moved"), merges)
    .join(merges, moves.c.merge_id == merges.c.merge_id)
    .where(moves.c.account_id == any_(_texts("rows")), moves.c.role == "source", EFFECTIVE == "completed")
    .order_by(moves.c.position)
)
MOVES = select(moves).where(moves.c.account_id == any_(_texts("rows"))).order_by(moves.c.position)
LOCKED = (
    select(accounts.c.account_id, accounts.c.held_by)
    .where(accounts.c.account_id == any_(_texts("rows")))
    .order_by(accounts.c.account_id)
    .with_for_update()
)
_asked = (
    func.unnest(_texts("names"), _texts("hashes")).table_valued("account_id", "hash", name="asked").render_derived()
)
#: Rows of accounts that have none, neither by name nor by hash, in their order.
NEW_ACCOUNTS = insert_once(accounts).from_select(
    ["account_id", "wanted"],
    select(_asked.c.account_id, literal(False))
    .where(~exists().where(accounts.c.account_id.in_([_asked.c.account_id, _asked.c.hash])))
    .order_by(_asked.c.account_id),
)
_given = func.unnest(_texts("rows"), _texts("roles"), _texts("operations"))
_joined_rows = _given.table_valued("account_id", "role", "operation", name="joined").render_derived()
_MERGE = bindparam("merge", type_=moves.c.merge_id.type)
#: Put a merge, or one of its undos and redos, behind what each account gave or received.
JOINING = insert_once(moves).from_select(
    ["account_id", "role", "operation", "merge_id"],
    select(_joined_rows.c.account_id, _joined_rows.c.role, _joined_rows.c.operation, _MERGE),
)
#: Have a merge hold accounts that are locked.
HOLDING = (
    update(accounts)
    .where(accounts.c.account_id == any_(_texts("rows")), accounts.c.account_id == _joined_rows.c.account_id)
    .values(held_by=_MERGE, role=_joined_rows.c.role)
)
HOLDING_AND_JOINING = JOINING.add_cte(HOLDING.cte("held"))
