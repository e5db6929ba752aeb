"""Totals that sources' rows have handed on, by the logs of earlier merges and by what is kept of expired logs."""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC

from account_merge.choices import TARGET
from account_merge.cursor import ascending
from account_merge.journal.encoding import Codec
from account_merge.journal.identity import Identity
from account_merge.journal.log import Log
from account_merge.journal.redaction import RedactedFacts
from account_merge.model import Change, HandedOn, Key, Values
from account_merge.planning.handed_on import HandedOnByKey, together
from account_merge.states import EntryKind


@dataclass(frozen=True)
class LedgerMerges:
    """Merges whose logs tell what sources' rows have handed on.

    :param merges: all of them.
    :param images: merges whose rows live in the account at hand: the ledger gives their images as well.
    :param withdrawn: undone merges that had taken over what the retired job had moved: what had counted as handed on
        before them goes on counting, what they themselves handed on does not.
    """

    merges: Collection[uuid.UUID]
    images: Collection[uuid.UUID] = ()
    withdrawn: Collection[uuid.UUID] = ()


class Ledger:
    """Totals that rows of one table of these accounts have handed on, asked in key order.

    :param merges: whose logs are read.
    :param accounts: the source accounts.
    """

    def __init__(
        self, journal: Identity, merges: LedgerMerges, accounts: Collection[str], table: str, codec: Codec
    ) -> None:
        self._merges, self._accounts, self._table, self._codec = merges, frozenset(accounts), table, codec
        self._expired = RedactedFacts(journal)
        logs = [Log(journal, merge, table, codec) for merge in sorted(merges.merges)]
        streams = (ascending(self._told(log), f"totals of {table} in the log") for log in logs)
        sorted_by_key = heapq.merge(*streams, key=lambda item: item[0])
        self._by_key = HandedOnByKey(sorted_by_key, f"totals of {table} in the log")

    def at(self, key: Key) -> dict[str, HandedOn]:
        """Return source account -> what its row with this key has handed on."""
        found = self._by_key.at(key)
        # An expired entry tells no key. The ledger has read it by now, as entries come in the order of their keys.
        for account in sorted(self._accounts) if self._expired else ():
            if given := self._expired.given(self._table, account, self._codec.key(key)):
                found[account] = together(found.get(account, HandedOn({})), HandedOn(given))
        return found

    def _told(self, log: Log) -> Iterator[tuple[Key, str, HandedOn]]:
        """Yield what one log tells: its entries come in key order, and a fold stands behind the entry that it corrects."""
        side, with_image = (0 if log.merge_id in self._merges.withdrawn else 1), log.merge_id in self._merges.images
        run: dict[tuple[Key, str], HandedOn] = {}
        for entry in log.entries():
            if entry.kept is not None:
                self._expired.add(entry.kept)
            if entry.kind == EntryKind.CHANGES:
                yield from _sorted(run)
                run = {}
            at = entry.created_at.replace(tzinfo=UTC).timestamp() if entry.created_at else 0.0
            for change in entry.changes:
                for account in self._accounts & set(change.sources):
                    known = run.get((change.key, account), HandedOn({}))
                    shown = with_image and change.choice != TARGET
                    image = _image(change, account) if shown else known.image
                    run[change.key, account] = HandedOn(_given(change, account, known.given, side), image, at)
        yield from _sorted(run)


def _given(change: Change, account: str, known: Mapping[str, int], side: int) -> dict[str, int]:
    """Return column -> what a source has handed on with this change.

    :param known: what the changes of the same row before it say.
    :param side: 0 for what had counted before the change, 1 for what counts since.
    """
    given = dict(known)
    for column, totals in change.given.get(account, {}).items():
        # A total that a fold was to bring again and did not is not handed on, whatever its entry says.
        least = 0 if column in change.missing else given.get(column, 0)
        given[column] = max(totals[side], least)
    return given


def _image(change: Change, account: str) -> Values | None:
    """Return a source's row as far as it was brought: a merge that was given up had not put the rest."""
    values = {column: value for column, value in change.sources[account].items() if column not in change.missing}
    return None if "" in change.missing and not values else values


def _sorted(run: Mapping[tuple[Key, str], HandedOn]) -> Iterator[tuple[Key, str, HandedOn]]:
    for key, account in sorted(run):
        yield key, account, run[key, account]
