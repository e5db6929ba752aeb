"""Accounts: who holds each, what it gave and received, and where its history lives."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, func, select, update

from account_merge.errors import NeedsAttention
from account_merge.journal import account_statements as statements
from account_merge.journal.identity import ERASED
from account_merge.journal.merges import Merges
from account_merge.journal.rows import merge_of
from account_merge.journal.schema import accounts, merge_accounts, merges, moves
from account_merge.model import Merge
from account_merge.states import State

_NOTHING: Mapping[str, Merge | None] = {}


class Accounts(Merges):
    """Leases and survivors. An account whose id was erased stands under its hash, also when it is asked for by its name."""

    def holder(self, account_id: str) -> Merge | None:
        """Return the open merge that holds the account, or None."""
        names = self.row_names(account_id)
        row = self.row(
            select(merges)
            .join(accounts, accounts.c.held_by == merges.c.merge_id)
            .where(accounts.c.account_id.in_(names))
        )
        return None if row is None else merge_of(row)

    def known(self, account_id: str) -> bool:
        """Whether the account has a row under its own name."""
        return self.row(select(accounts.c.account_id).where(accounts.c.account_id == account_id)) is not None

    def row_names(self, account_id: str) -> list[str]:
        """Return the names that the account's row may have: its own, and the hash that an erasure leaves of it."""
        return list(dict.fromkeys([account_id, self.erased_id(account_id)]))

    # --- survivors --------------------------------------------------------------------------------------------------
    def merged_by(self, account_id: str) -> Merge | None:
        """Return the newest completed merge that merged this account away, or None: whatever else was undone."""
        newest = (
            select(merges)
            .join(moves, moves.c.merge_id == merges.c.merge_id)
            .where(
                moves.c.account_id.in_(self.row_names(account_id)),
                moves.c.role == "source",
                statements.EFFECTIVE == "completed",
            )
            .order_by(moves.c.position.desc())
            .limit(1)
        )
        row = self.row(newest)
        return None if row is None else merge_of(row)

    def moved_by(self, account_id: str) -> Merge | None:
        """Return the completed merge that a person or event asked for and that merged this account away, or None.

        The newest of an account's completed merges may be a repair or settle of it.
        """
        found = self.merged_by(account_id)
        while found is not None and found.parent is not None:
            parent = self.get(found.parent)
            if parent is None or parent.effective_state != State.COMPLETED:
                break
            found = parent
        return found

    def all_merged_by(self, account_ids: Collection[str]) -> dict[str, Merge | None]:
        """Return what `merged_by` answers for each of these accounts, by one statement."""
        rows = {row: name for name in account_ids for row in self.row_names(name)}
        found: dict[str, Merge | None] = dict.fromkeys(account_ids)
        for row in self.rows(statements.MERGED_BY, {"rows": sorted(rows)}):
            found[rows[row.moved]] = merge_of(row)
        return found

    def survivor(
        self, account_id: str, known: Collection[str] = (), first: Mapping[str, Merge | None] = _NOTHING
    ) -> str:
        """Where the account's history lives now: follows completed merges to the end of the chain.

        :param known: accounts by their own names: one that was erased is answered so when it is among them.
        :param first: answers of `merged_by` that were just read.
        """
        return self.way(account_id, known, first)[-1]

    def way(
        self, account_id: str, known: Collection[str] = (), first: Mapping[str, Merge | None] = _NOTHING
    ) -> list[str]:
        """Return the accounts through which completed merges lead from this one, itself first; the rest as for `survivor`."""
        seen = [account_id]
        while (merge := first[seen[-1]] if seen[-1] in first else self.merged_by(seen[-1])) is not None:
            following = merge.target
            if following.startswith(ERASED):
                following = next((name for name in known if self.erased_id(name) == following), following)
            if following in seen:
                raise NeedsAttention(
                    "CIRCLE",
                    f"completed merges lead from account {account_id} back to itself (merge {merge.merge_id})",
                    "Undo one of the merges of the circle.",
                )
            seen.append(following)
        return seen

    # --- leases -----------------------------------------------------------------------------------------------------
    def take(self, merge: Merge, roles: Callable[[], Mapping[str, str]], moves_rows: bool = True) -> Blocked | None:
        """Take the lease of every account of an open merge, or of none; None when all are held by it now.

        Belongs inside a transaction, which keeps the accounts' rows until it ends.

        :param roles: returns account -> `source` or `target`. It is asked again once these accounts cannot change hands any
            more, and decides; what it raises leaves everything as it was.
        :param moves_rows: the merge will move rows, so it joins what each account gave or received.
        """
        wanted, locked = roles(), dict[str, _Locked]()
        while wanted.keys() - locked.keys():
            locked |= self._lock(wanted)
            wanted = roles()
        for name in sorted(wanted):
            holder = locked[name].held_by
            if holder is not None and holder != merge.merge_id:
                return Blocked(locked[name].row, self.need(holder))
        joined = [(locked[name].row, role, "") for name, role in sorted(wanted.items())]
        self.run(statements.HOLDING_AND_JOINING if moves_rows else statements.HOLDING, _joined(joined, merge.merge_id))
        return None

    def keep(self, names: Callable[[], Collection[str]]) -> None:
        """Keep accounts from changing hands until the transaction ends.

        :param names: is asked again until all that it names are kept.
        """
        kept: set[str] = set()
        while new := set(names()) - kept:
            self._lock(new)
            kept |= new

    def _lock(self, names: Iterable[str]) -> dict[str, _Locked]:
        """Lock accounts in the order of their rows' names, so that no two transactions wait for each other."""
        names = sorted(names)
        self.run(statements.NEW_ACCOUNTS, {"names": names, "hashes": [self.erased_id(name) for name in names]})
        rows = sorted({row for name in names for row in self.row_names(name)})
        found = {row.account_id: row.held_by for row in self.rows(statements.LOCKED, {"rows": rows})}
        ours = {name: next(row for row in reversed(self.row_names(name)) if row in found) for name in names}
        return {name: _Locked(row, found[row]) for name, row in ours.items()}

    def holds_all(self, merge: Merge) -> bool:
        """Whether a merge holds all its accounts."""
        held = select(func.count()).select_from(accounts).where(accounts.c.held_by == merge.merge_id)
        return bool(self.value(held) >= len(merge.accounts))

    def give_back(self, merge: Merge) -> None:
        """Give back the accounts of a merge that was never admitted, as if it had not taken them."""
        with self.transaction():
            self.run(delete(moves).where(moves.c.merge_id == merge.merge_id))
            self.free(merge.merge_id)

    # --- what accounts gave and received ----------------------------------------------------------------------------
    def join(self, merge_id: uuid.UUID, holder: uuid.UUID, account_id: str, role: str, operation: str = "") -> bool:
        """Put a merge, or an undo or redo, behind all that an account gave or received; False when `holder` does not hold it."""
        with self.transaction():
            locked = self._lock([account_id])[account_id]
            if locked.held_by != holder:
                return False
            self.run(statements.JOINING, _joined([(locked.row, role, operation)], merge_id))
            return True

    def gave(self, account_id: str) -> frozenset[uuid.UUID]:
        """Every merge that this account was a source of."""
        return frozenset(row.merge_id for row in self._moves(account_id, "source"))

    def received(self, account_id: str) -> tuple[str, ...]:
        """Return what wrote to this account's rows as a target, in order: merge ids, and undos as `undo-1/<merge id>`."""
        return tuple(map(_name, self._moves(account_id, "target")))

    def moves_of(self, account_ids: Collection[str]) -> dict[str, Moves]:
        """Return what each of these accounts gave and received, by one statement."""
        rows = {row: name for name in account_ids for row in self.row_names(name)}
        found: dict[str, Moves] = {name: Moves([], []) for name in account_ids}
        for row in self.rows(statements.MOVES, {"rows": sorted(rows)}):
            one = found[rows[row.account_id]]
            if row.role == "source":
                one.gave.append(row.merge_id)
            else:
                one.received.append(_name(row))
        return found

    def _moves(self, account_id: str, role: str) -> list[Row[Any]]:
        return self.rows(
            select(moves.c.merge_id, moves.c.operation)
            .where(moves.c.account_id.in_(self.row_names(account_id)), moves.c.role == role)
            .order_by(moves.c.position)
        )

    def merges_into(self, account_id: str) -> tuple[uuid.UUID, ...]:
        """Every merge that this account was the target of, in order."""
        return merges_among(self.received(account_id))

    def operations(self, merge: Merge) -> list[str]:
        """Return the undos and redos of a merge, `undo-1` say, oldest first."""
        mine = moves.c.merge_id == merge.merge_id, moves.c.operation != ""
        return [row.operation for row in self.rows(select(moves.c.operation).where(*mine).order_by(moves.c.position))]

    def of_account(self, account_id: str, limit: int = 2000) -> list[Merge]:
        """Return the merges that name the account, also by the hash that an erasure left of it, oldest first."""
        named = select(merge_accounts.c.merge_id).where(merge_accounts.c.account_id.in_(self.row_names(account_id)))
        return self.search([merges.c.merge_id.in_(named)], limit)

    # --- erasure ----------------------------------------------------------------------------------------------------
    def erase_account(self, account_id: str) -> Merge | None:
        """Put the account's row under its hash; return the open merge that holds it, and change nothing then."""
        name = self.erased_id(account_id)
        with self.transaction():
            mine = accounts.c.account_id == account_id
            row = self.row(select(accounts.c.held_by).where(mine).with_for_update())
            if row is None or account_id == name:
                return None
            if row.held_by is not None:
                return self.need(row.held_by)
            if self.known(name):  # a merge was asked for anew while an erasure was under way
                self.run(update(moves).where(moves.c.account_id == account_id).values(account_id=name))
                self.run(delete(accounts).where(mine))
            else:
                self.run(update(accounts).where(mine).values(account_id=name))
        return None


@dataclass(frozen=True)
class Blocked:
    """An account that another open merge holds, by the name of its row: an erased one's is its hash."""

    account: str
    by: Merge


@dataclass(frozen=True)
class Moves:
    """What an account gave as a source, merge ids, and received as a target (see `received`); both in order."""

    gave: list[uuid.UUID]
    received: list[str]


@dataclass(frozen=True)
class _Locked:
    """An account's row: its name in the table, and the merge that holds it."""

    row: str
    held_by: uuid.UUID | None


def _name(row: Row[Any]) -> str:
    return f"{row.operation}/{row.merge_id}" if row.operation else str(row.merge_id)


def _joined(joined: Sequence[tuple[str, str, str]], merge_id: uuid.UUID) -> dict[str, Any]:
    """Return the values that `statements.JOINING` and `statements.HOLDING` need; (row, role, operation)."""
    rows, roles, operations = zip(*joined, strict=True)
    return {"rows": list(rows), "roles": list(roles), "operations": list(operations), "merge": merge_id}


def merges_among(received: Iterable[str]) -> tuple[uuid.UUID, ...]:
    """Return the merges among what an account received, in order; the other names are undos and redos."""
    return tuple(uuid.UUID(name) for name in received if "/" not in name)
