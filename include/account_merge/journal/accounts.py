"""The table accounts: leases, survivors, and what each account gave and received."""

from __future__ import annotations

import uuid
from typing import Any

from account_merge.errors import NeedsAttention
from account_merge.journal.merges import Merges
from account_merge.model import Merge
from account_merge.states import CLOSED


class Accounts(Merges):
    """Leases and survivors; who holds an account is a question about a merge's state."""

    def account(self, account_id: str) -> Any:
        """The account's row (SERIAL), or None."""
        rows = self.read("SELECT * FROM {ks}.accounts WHERE account_id = ?", [account_id])
        return rows[0] if rows else None

    def holder(self, account_id: str) -> Merge | None:
        """The open merge that holds the account, or None."""
        row = self.account(account_id)
        merge = self.get(row.held_by) if row and row.held_by else None
        return merge if merge and merge.state not in CLOSED else None

    def merged_by(self, account_id: str) -> Merge | None:
        """The completed merge that merged this account away, or None."""
        row = self.account(account_id)
        if row is None:
            return None
        for merge_id, counts in ((row.held_by, row.role == "source"), (row.merged_by, True)):
            merge = self.get(merge_id) if merge_id and counts else None
            if merge and merge.state == "completed":
                return merge
        return None

    def survivor(self, account_id: str) -> str:
        """Where the account's history lives now: follows completed merges to the end of the chain."""
        seen = [account_id]
        while (merge := self.merged_by(seen[-1])) is not None:
            following = merge.survivor or merge.request.target
            if following in seen:
                raise NeedsAttention(
                    "CIRCLE",
                    f"completed merges lead from account {account_id} back to itself (merge {merge.merge_id})",
                    "Undo one of the merges of the circle.",
                )
            seen.append(following)
        return seen[-1]

    def acquire(self, account_id: str, merge_id: uuid.UUID, role: str, moves_rows: bool = True) -> Merge | None:
        """Takes the account's lease; None when it is held by `merge_id` now, else the open merge that holds it.

        :param moves_rows: the merge will move rows, so it joins what the account gave or received.
        """
        moves, this = ("gave", {merge_id}) if role == "source" else ("received", [str(merge_id)])
        this = this if moves_rows else type(this)()
        for _ in range(20):
            row = self.account(account_id)
            if row is None or row.held_by is None:
                if row is None:
                    done = self.write(
                        f"INSERT INTO {{ks}}.accounts (account_id, held_by, role, {moves}) VALUES (?, ?, ?, ?) IF NOT EXISTS",
                        [account_id, merge_id, role, this],
                    )
                else:
                    done = self.write(
                        f"UPDATE {{ks}}.accounts SET held_by = ?, role = ?, {moves} = {moves} + ? WHERE account_id = ? "
                        "IF held_by = NULL",
                        [merge_id, role, this, account_id],
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
            took = bool(holder and holder.state == "completed" and row.role == "source" and holder.merge_id != merge_id)
            if self.write(
                f"UPDATE {{ks}}.accounts SET held_by = ?, role = ?, merged_by = ?, {moves} = {moves} + ? "
                "WHERE account_id = ? IF held_by = ?",
                [merge_id, role, row.held_by if took else row.merged_by, this, account_id, row.held_by],
            ):
                return None
        raise NeedsAttention(
            "LEASE_CONTENDED", f"the lease of account {account_id} keeps changing hands", "Start the merge again later."
        )

    def release(self, account_id: str, merge_id: uuid.UUID) -> None:
        """Gives the lease back, if this merge has it."""
        self.write(
            "UPDATE {ks}.accounts SET held_by = NULL, role = NULL WHERE account_id = ? IF held_by = ?",
            [account_id, merge_id],
        )

    def gave(self, account_id: str) -> frozenset[uuid.UUID]:
        """Every merge that this account was a source of."""
        row = self.account(account_id)
        return frozenset((row.gave or ()) if row else ())

    def received(self, account_id: str) -> tuple[str, ...]:
        """What wrote to this account's rows as a target, in order: merge ids, and undos as `undo-1/<merge id>`."""
        row = self.account(account_id)
        names = (row.received or ()) if row else ()
        return tuple(dict.fromkeys(reversed(names)))[::-1]  # one that was blocked at first counts where it got through

    def merges_into(self, account_id: str) -> tuple[uuid.UUID, ...]:
        """Every merge that this account was the target of, in order."""
        return tuple(uuid.UUID(name) for name in self.received(account_id) if "/" not in name)

    def receive(self, account_id: str, merge_id: uuid.UUID, name: str) -> bool:
        """Puts an undo behind all that the account received; False when the account is not held by this merge."""
        if name in self.received(account_id):
            return True
        return self.write(
            "UPDATE {ks}.accounts SET received = received + ? WHERE account_id = ? IF held_by = ?",
            [[name], account_id, merge_id],
        )
