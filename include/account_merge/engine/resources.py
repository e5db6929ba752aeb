"""The needs of the work on one table: the connections, and which table of which merge it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from account_merge.engine.known import Known
from account_merge.journal import Journal
from account_merge.journal.fence import Fence
from account_merge.journal.log_ends import Endings
from account_merge.model import Merge
from account_merge.rules import TableRule
from account_merge.settings import Settings
from account_merge.sunbird.few_rows import FewRows
from account_merge.sunbird.row_finder import RowFinder
from account_merge.sunbird.schema import Tables
from account_merge.sunbird.store import Store

#: Is told how many rows of a table are done.
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Guard:
    """Whether a merge may still be written.

    :param check: raises when it may not, and says why.
    :param fence: the same as a part of the statement that appends an entry; None where nothing forbids it.
    """

    check: Callable[[], None] = lambda: None
    fence: Fence | None = None


def untold(done: int) -> None:
    """Take the progress of work that nobody follows."""


@dataclass(frozen=True)
class Resources:
    """Open connections, and how this cluster has the tables of the rules.

    :param tables: those that the work is about; the account's own table is not one of the rules'.
    """

    settings: Settings
    store: Store
    tables: Tables
    journal: Journal

    def finder(self, accounts: Sequence[str], few: FewRows | None = None) -> RowFinder:
        """Return a finder of the rows of these accounts. :param few: what was read of them a moment ago."""
        return RowFinder(self.store, self.tables, self.settings, accounts, few)


@dataclass(frozen=True)
class TableJob:
    """One table of one merge, and whether it may still be written.

    :param guard: work that only plans has one that refuses nothing.
    :param known: what the operation that this table is a part of has read of the journal; None reads it anew.
    :param endings: gets the end of each log, for whoever appends them together; None has each appended when it is due.
    """

    merge: Merge
    rule: TableRule
    guard: Guard = Guard()
    progress: Progress = untold
    known: Known | None = None
    endings: Endings | None = None
