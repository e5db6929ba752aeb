"""What one operation knows of the journal: each merge, account and log's end is asked for once, however often it is needed.

What the accounts gave and received cannot change while they are held, and a log's end is only where the work begins: an
append is conditional on it. So an object of this lives as long as one operation that holds its accounts, and no longer.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable
from functools import cache, cached_property

from account_merge.journal import Journal
from account_merge.journal.accounts import Moves, merges_among
from account_merge.journal.log_ends import LogEnd, LogRow, closed_rows, ends
from account_merge.model import Merge
from account_merge.states import State
from account_merge.sunbird.few_rows import FewRows


class Known:
    """Merges and accounts as one operation finds them.

    :param merge: the merge that it is about; its accounts are asked for together.
    :param few: what the operation has read of their rows.
    :param begun: the merge may have logs.
    """

    def __init__(self, journal: Journal, merge: Merge, few: FewRows | None = None, begun: bool = True) -> None:
        self._journal, self.about, self._begun = journal, merge, begun
        self._merges: dict[uuid.UUID, Merge | None] = {merge.merge_id: merge} if merge.state == State.RUNNING else {}
        self._moves: dict[str, Moves] = {}
        self.few = few or FewRows()
        self.survivor: Callable[[str], str] = cache(journal.survivor)

    @cached_property
    def ends(self) -> dict[str, LogEnd]:
        """Name -> end of each log of the merge that is not empty."""
        return ends(self._journal, self.about.merge_id) if self._begun else {}

    @cached_property
    def closed(self) -> dict[str, list[LogRow]]:
        """Name -> all entries of each log of the merge that is closed, where they are few."""
        return closed_rows(self._journal, self.about.merge_id, self.ends)

    def need(self, merge_id: uuid.UUID) -> Merge:
        """Return a merge that must exist."""
        return self._all([merge_id]).get(merge_id) or self._journal.need(merge_id)

    def _all(self, merge_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Merge]:
        """Return those of these merges that there are."""
        if new := [one for one in merge_ids if one not in self._merges]:
            self._merges |= dict.fromkeys(new) | self._journal.get_all(new)
        return {one: merge for one in merge_ids if (merge := self._merges[one]) is not None}

    def _of(self, accounts: Collection[str]) -> list[Moves]:
        """Return what these accounts gave and received."""
        if new := set(accounts) - self._moves.keys():
            self._moves |= self._journal.moves_of(new | ({*self.about.accounts} - self._moves.keys()))
        return [self._moves[account] for account in accounts]

    def received(self, account: str) -> tuple[str, ...]:
        """Return what wrote to an account's rows as a target, in order."""
        return tuple(self._of([account])[0].received)

    def gave(self, sources: Iterable[str]) -> dict[uuid.UUID, Merge]:
        """Return every merge that one of these accounts was a source of."""
        return self._all({merge for moves in self._of(tuple(sources)) for merge in moves.gave})

    def merges_into(self, account: str) -> list[Merge]:
        """Return every merge that this account was the target of, in order."""
        return list(self._all(merges_among(self.received(account))).values())

    def effective(self, account: str) -> frozenset[uuid.UUID]:
        """Return the merges into an account that were not undone."""
        return frozenset(m.merge_id for m in self.merges_into(account) if m.effective_state != State.UNDONE)
