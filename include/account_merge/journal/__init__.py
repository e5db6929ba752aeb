"""The journal: our tables in PostgreSQL. Merges, accounts with leases and survivors, the log, the queue, history.

The engine and what stands above it may import this wing. It imports `planning`, `connection` (how Cassandra's cells travel)
and what stands below. Every method may be repeated.
"""

from __future__ import annotations

from account_merge.journal import creating
from account_merge.journal.accounts import Accounts
from account_merge.journal.clock import now
from account_merge.journal.database import Database

__all__ = ["Database", "Journal", "now"]


class Journal(Accounts):
    """Merges, leases and survivors, and the making of the tables."""

    def create(self) -> None:
        """Make the database and its tables where they do not exist, and bring old tables up to this program."""
        creating.create(self)

    def check_version(self) -> None:
        """Whether the tables are those of this program.

        :raises NeedsAttention: they are older or newer.
        """
        creating.check_version(self)
