"""A merge's row, written and changed by one statement each: a change is conditional on what was read, with its history. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import BindParameter, Column, ColumnElement, Executable, Select, bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.sql.dml import Update

from account_merge.acting import actor
from account_merge.journal.clock import now
from account_merge.journal.schema import accounts, history, insert_once, merge_accounts, merges
from account_merge.model import Merge
from account_merge.states import CLOSED, OWED, State

#: A change is made only where these are still what was read. An undo and a redo lead back to the same state: only their
#: name tells that they happened.
_READ = ("state", "attempt", "failed_event", "failed_number", "expiry", "operation", "plan")
#: Columns that say which accounts a merge names.
_NAMING = ("sources", "target", "survivor")


@lru_cache(maxsize=4)
def opening(columns: tuple[str, ...], number: int) -> Executable:
    """Return the statement that writes so many merges, their accounts and the first row of their history."""
    rows = [{name: _given(f"{name}_{one}", merges.c[name]) for name in columns} for one in range(number)]
    m = merges.c
    told = m.merge_id, m.state, m.sources, m.target, m.error_code, m.error
    opened = insert_once(merges).values(rows if number > 1 else rows[0]).returning(*told).cte("opened")
    every = opened.c.sources + array([opened.c.target])
    named = select(func.unnest(every).label("account_id"), opened.c.merge_id).distinct().subquery()
    accounts_of = insert(merge_accounts).from_select(
        ["account_id", "merge_id"], select(named).where(named.c.account_id != "")
    )
    at, *who = (_given(f"told_{name}", history.c[name]) for name in ("at", "actor", "run_id", "task_id"))
    first = insert(history).from_select(
        ["merge_id", "at", "after", "actor", "run_id", "task_id", "error_code", "error"],
        select(opened.c.merge_id, at, opened.c.state, *who, opened.c.error_code, opened.c.error),
    )
    return first.add_cte(accounts_of.cte("named")).returning(history.c.merge_id)


def with_times(merge: Merge, state: State, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a change with those that follow from its state and its time."""
    moment = now()
    columns = {**columns, "updated_at": moment}
    if state != merge.state:
        columns["state_at"] = moment
        if state != State.COMPLETED:
            columns["settle_at"] = None
    if state in CLOSED - {merge.state, State.ERASED}:
        columns["closed_at"] = moment
        if merge.plan and state != State.REFUSED:  # a refused one may be opened again, with its plan
            columns["plan"] = None
    return columns


def change_of(merge: Merge, state: State, columns: Mapping[str, Any]) -> tuple[Select[Any], dict[str, Any]]:
    """Return the statement that changes the row if it is still as it was read, and its values; it answers with the row afterwards.

    A new state is told in the history, and one that closes the merge frees its accounts.
    """
    tells = state != merge.state
    told = _told(merge, columns) if tells else {}
    statement = _changing(tuple(sorted(columns)), tuple(told), tells and state in CLOSED)
    values = {"changed": merge.merge_id, **{f"read_{name}": getattr(merge, name) for name in _READ}}
    values |= {f"new_{name}": value for name, value in columns.items()}
    return statement, values | {f"told_{name}": value for name, value in told.items()}


@lru_cache(maxsize=128)
def _changing(columns: tuple[str, ...], told: tuple[str, ...], frees: bool) -> Select[Any]:
    """Return the statement for changes of these columns: made once, since making it takes longer than the server needs for it."""
    read = [merges.c[name].is_not_distinct_from(_given(f"read_{name}", merges.c[name])) for name in _READ]
    changed = (
        update(merges)
        .where(merges.c.merge_id == _given("changed", merges.c.merge_id), *read)
        .values({name: _given(f"new_{name}", merges.c[name]) for name in columns})
        .returning(merges)
        .cte("changed")
    )
    statement = select(changed)
    if told:
        values = [_given(f"told_{name}", history.c[name]) for name in told]
        tells = insert(history).from_select(["merge_id", *told], select(changed.c.merge_id, *values))
        statement = statement.add_cte(tells.cte("told"))
    if frees:
        statement = statement.add_cte(freed(select(changed.c.merge_id).scalar_subquery()).cte("freed"))
    return statement


def _given(name: str, column: Column[Any]) -> BindParameter[Any]:
    return bindparam(name, type_=column.type)


def _told(merge: Merge, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the history tells of a change."""
    who = actor()
    run = (columns.get("run_ids") or merge.run_ids or [""])[-1]
    return {
        "at": columns["updated_at"], "before": merge.state, "after": columns["state"], "actor": who.name,
        "run_id": who.run_id or run, "task_id": who.task_id, "note": columns.get("note"),
        "error_code": columns.get("error_code"), "error": columns.get("error"),
    }  # fmt: skip


def freed(holder: ColumnElement[Any]) -> Update:
    """Return the statement that gives back all accounts that a merge holds, locked in the order of their names."""
    held = select(accounts.c.account_id).where(accounts.c.held_by == holder).order_by(accounts.c.account_id)
    names = held.with_for_update().cte("held")
    return update(accounts).where(accounts.c.account_id.in_(select(names.c.account_id))).values(held_by=None, role=None)


def new_names(merge: Merge, columns: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the accounts that a merge names after a change; None where they are those that it named before."""
    read = merge.request.sources, merge.request.target, merge.survivor
    sources, target, survivor = (columns.get(name, known) for name, known in zip(_NAMING, read, strict=True))
    names = frozenset({*sources, target, survivor or ""} - {""})
    return None if names == {*merge.request.sources, merge.request.target, merge.survivor or ""} - {""} else names


def overtakes(merge: Merge, columns: Mapping[str, Any]) -> bool:
    """Whether a change arms the next failed event while the one before is still owed."""
    return columns.get("failed_number", 0) > merge.failed_number and merge.failed_event in OWED
