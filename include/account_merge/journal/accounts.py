"""The table accounts: leases, survivors, and what each account gave and received."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from typing import Any

from account_merge.errors import NeedsAttention
from account_merge.journal.cas import ERASED
from account_merge.journal.merges import Merges
from account_merge.model import Merge
from account_merge.states import CLOSED, State


class Accounts(Merges):
    """Leases and survivors; who holds an account is a question about a merge's state."""

    def account(self, account_id: str) -> Any:
        """Return the account's row (SERIAL), of an erased account the one under its hash; None when there is neither.

        Writes go to the row that is there: its `account_id`.
        """
        cql = "SELECT * FROM {ks}.accounts WHERE account_id = ?"
        rows = self.read(cql, [account_id])
        if not rows and not account_id.startswith(ERASED):
            rows = self.read(cql, [self.erased_id(account_id)])
        return rows[0] if rows else None

    def plain(self, account_id: str) -> bool:
        """Whether the account has a row under its own name (SERIAL)."""
        return bool(self.read("SELECT account_id FROM {ks}.accounts WHERE account_id = ?", [account_id]))

    def holder(self, account_id: str) -> Merge | None:
        """Return the open merge that holds the account, or None."""
        row = self.account(account_id)
        merge = self.get(row.held_by) if row and row.held_by else None
        return merge if merge and merge.state not in CLOSED else None

    def merged_by(self, account_id: str) -> Merge | None:
        """Return the completed merge that merged this account away, or None."""
        row = self.account(account_id)
        if row is None:
            return None
        for merge_id, counts in ((row.held_by, row.role == "source"), (row.merged_by, True)):
            merge = self.get(merge_id) if merge_id and counts else None
            if merge and merge.effective_state == State.COMPLETED:
                return merge
        return None

    def moved_by(self, account_id: str) -> Merge | None:
        """Return the completed merge that a person or event asked for and that merged this account away, or None.

        A repair or settle of it takes the account's lease over, so `merged_by` names the last of these.
        """
        found = self.merged_by(account_id)
        while found is not None and found.parent is not None:
            parent = self.get(found.parent)
            if parent is None or parent.effective_state != State.COMPLETED:
                break
            found = parent
        return found

    def survivor(self, account_id: str, known: Collection[str] = ()) -> str:
        """Where the account's history lives now: follows completed merges to the end of the chain.

        :param known: accounts by their own names: one that was erased is answered so when it is among them.
        """
        seen = [account_id]
        while (merge := self.merged_by(seen[-1])) is not None:
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
        return seen[-1]

    def acquire(self, account_id: str, merge_id: uuid.UUID, role: str, moves_rows: bool = True) -> Merge | None:
        """Take the account's lease; None when it is held by `merge_id` now, else the open merge that holds it.

        :param moves_rows: the merge will move rows, so it joins what the account gave or received.
        """
        moves, this = ("gave", {merge_id}) if role == "source" else ("received", [str(merge_id)])
        this = this if moves_rows else type(this)()
        for _ in range(20):
            row = self.account(account_id)
            if row is None or row.held_by is None:
                if row is None:
                    done = self.write_if(
                        f"INSERT INTO {{ks}}.accounts (account_id, held_by, role, {moves}) VALUES (?, ?, ?, ?) IF NOT EXISTS",
                        [account_id, merge_id, role, this],
                    )
                else:
                    done = self.write_if(
                        f"UPDATE {{ks}}.accounts SET held_by = ?, role = ?, {moves} = {moves} + ? WHERE account_id = ? "
                        "IF held_by = NULL AND gave = ? AND received = ?",  # a row that was erased meanwhile has neither
                        [merge_id, role, this, row.account_id, row.gave, row.received],
                    )
                if done:
                    return None
                continue
            if row.held_by == merge_id and row.role == role:
                return None
            holder = self.get(row.held_by)
            if holder and holder.merge_id != merge_id and holder.state not in CLOSED:
                return holder
            # A completed merge that took this account away must stay known when its lease is taken over.
            took = bool(
                holder
                and holder.effective_state == State.COMPLETED
                and row.role == "source"
                and holder.merge_id != merge_id
            )
            if self.write_if(
                f"UPDATE {{ks}}.accounts SET held_by = ?, role = ?, merged_by = ?, {moves} = {moves} + ? "
                "WHERE account_id = ? IF held_by = ?",
                [merge_id, role, row.held_by if took else row.merged_by, this, row.account_id, row.held_by],
            ):
                return None
        raise NeedsAttention(
            "LEASE_CONTENDED", f"the lease of account {account_id} keeps changing hands", "Start the merge again later."
        )

    def release(self, account_id: str, merge_id: uuid.UUID) -> None:
        """Give the lease back, if this merge has it."""
        row = self.account(account_id)
        if row is not None:
            self.write_if(
                "UPDATE {ks}.accounts SET held_by = NULL, role = NULL WHERE account_id = ? IF held_by = ?",
                [row.account_id, merge_id],
            )

    def gave(self, account_id: str) -> frozenset[uuid.UUID]:
        """Every merge that this account was a source of."""
        row = self.account(account_id)
        return frozenset((row.gave or ()) if row else ())

    def received(self, account_id: str) -> tuple[str, ...]:
        """Return what wrote to this account's rows as a target, in order: merge ids, and undos as `undo-1/<merge id>`."""
        row = self.account(account_id)
        names = (row.received or ()) if row else ()
        return tuple(dict.fromkeys(reversed(names)))[::-1]  # one that was blocked at first counts where it got through

    def merges_into(self, account_id: str) -> tuple[uuid.UUID, ...]:
        """Every merge that this account was the target of, in order."""
        return merges_among(self.received(account_id))

    def operations(self, merge: Merge) -> list[str]:
        """Return the undos and redos of a merge, `undo-1` say, oldest first."""
        target = merge.target
        names = [name.rpartition("/") for name in (self.received(target) if target else ())]
        return [operation for operation, _, text in names if operation and text == str(merge.merge_id)]

    def receive(self, account_id: str, merge_id: uuid.UUID, name: str) -> bool:
        """Put an undo behind all that the account received; False when the account is not held by this merge."""
        if name in self.received(account_id):
            return True
        row = self.account(account_id)
        return row is not None and self.write_if(
            "UPDATE {ks}.accounts SET received = received + ? WHERE account_id = ? IF held_by = ?",
            [[name], row.account_id, merge_id],
        )

    def give(self, account_id: str, holder: uuid.UUID, merge_id: uuid.UUID) -> bool:
        """Add a merge to those that the account was a source of; False when `holder` does not hold the account."""
        row = self.account(account_id)
        if row is None or merge_id in (row.gave or ()):
            return row is not None
        return self.write_if(
            "UPDATE {ks}.accounts SET gave = gave + ? WHERE account_id = ? IF held_by = ?",
            [{merge_id}, row.account_id, holder],
        )

    def of_account(self, account_id: str) -> list[Merge]:
        """Every merge that names the account, also by the hash that an erasure left of it."""
        found = self.find("accounts", account_id)
        return found if account_id.startswith(ERASED) else self.find("accounts", self.erased_id(account_id)) + found

    def erase_account(self, account_id: str) -> Merge | None:
        """Move the account's row under its hash; answers the open merge that holds it, and has moved nothing then.

        The row under the hash is there before the other goes; while both are there, the other counts. A lease of its own
        keeps everybody else's writes off: each of them names the holder that it read. May be repeated at any point.
        """
        marker, name, cql = uuid.uuid4(), self.erased_id(account_id), "SELECT * FROM {ks}.accounts WHERE account_id = ?"
        for _ in range(20):
            if account_id == name or not self.read(cql, [account_id]):
                return None
            if (holder := self.acquire(account_id, marker, "erased", moves_rows=False)) is not None:
                return holder
            rows = self.read(cql, [account_id])
            if not rows or rows[0].held_by != marker:
                continue
            row, copies = rows[0], self.read(cql, [name])
            values = [row.merged_by, row.gave, row.received]
            if not copies:
                copied = self.write_if(
                    "INSERT INTO {ks}.accounts (account_id, merged_by, gave, received) VALUES (?, ?, ?, ?) IF NOT EXISTS",
                    [name, *values],
                )
            else:  # what an erasure left that did not end
                copied = self.write_if(
                    "UPDATE {ks}.accounts SET held_by = NULL, merged_by = ?, gave = ?, received = ? WHERE account_id = ? "
                    "IF held_by = ? AND gave = ? AND received = ?",
                    [*values, name, copies[0].held_by, copies[0].gave, copies[0].received],
                )
            if copied and self.write_if(
                "DELETE FROM {ks}.accounts WHERE account_id = ? IF held_by = ?", [account_id, marker]
            ):
                return None
        raise NeedsAttention(
            "LEASE_CONTENDED", f"the lease of account {account_id} keeps changing hands", "Start the merge again later."
        )


def merges_among(received: Iterable[str]) -> tuple[uuid.UUID, ...]:
    """Return the merges among what an account received, in order; the other names are undos and redos."""
    return tuple(uuid.UUID(name) for name in received if "/" not in name)
