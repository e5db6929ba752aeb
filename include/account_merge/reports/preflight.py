"""Notices about the accounts before a merge: whether they exist, were merged before, or are held by another merge."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from account_merge.journal import Journal
from account_merge.model import Merge
from account_merge.sunbird.users import PlatformDirectory


@dataclass(frozen=True)
class Notice:
    """One known fact about one account.

    :param code: upper-case identifier that programs may compare.
    :param serious: the id is probably wrong: a merge is possible once a person confirmed it.
    :param merge_id: the merge that the notice is about.
    """

    code: str
    account: str
    words: str
    remedy: str = ""
    serious: bool = False
    merge_id: uuid.UUID | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the notice in JSON's types."""
        return asdict(self) | {"merge_id": str(self.merge_id) if self.merge_id else None}


_CHECK_THE_ID = "Check the id. A merge would be remembered: later events for this account then go to the target."


class Preflight:
    """Checks a merge's accounts; writes nothing."""

    def __init__(self, journal: Journal, directory: PlatformDirectory) -> None:
        self._journal, self._directory = journal, directory

    def notices(self, merge: Merge, rows: Mapping[str, int] | None) -> list[Notice]:
        """Return the notices, the serious ones first.

        :param merge: not opened yet; its survivor is known.
        :param rows: source account -> how many rows the rules found; None when they could not be counted.
        """
        found = [*self._unknown(merge, rows), *self._past(merge), *self._held(merge)]
        return sorted(found, key=lambda notice: not notice.serious)

    def _unknown(self, merge: Merge, rows: Mapping[str, int] | None) -> Iterator[Notice]:
        for account in merge.request.sources:
            if rows is not None and not rows.get(account):
                words = f"Source account {account} has no row in any table that is merged."
                yield Notice("NO_ROWS", account, words, _CHECK_THE_ID, serious=True)
        for account in (*merge.request.sources, merge.request.target):
            if self._directory.has(account) is False:
                words = f"The platform has no user {account}."
                yield Notice("NO_USER", account, words, _CHECK_THE_ID, serious=True)

    def _past(self, merge: Merge) -> Iterator[Notice]:
        target = merge.request.target
        away = self._journal.moved_by(target) if merge.survivor not in (None, target) else None
        if away is not None:
            words = f"Target account {target} was itself merged away{_by(away)}: the rows go to {merge.survivor}."
            yield Notice("MERGED_AWAY", target, words, merge_id=away.merge_id)
        for account in merge.request.sources:
            earlier = self._journal.moved_by(account)
            if earlier is None:
                continue
            words = f"Source account {account} was merged into {merge.survivor or target} already{_by(earlier)}"
            if earlier.expiry:
                words += "; the images of that merge have expired: everything is combined anew, no total counts twice."
                yield Notice("COMBINES_ANEW", account, words, merge_id=earlier.merge_id)
            else:
                words += ": this merge moves only what is new since then."
                yield Notice("MERGED_ALREADY", account, words, merge_id=earlier.merge_id)

    def _held(self, merge: Merge) -> Iterator[Notice]:
        for account in merge.accounts:
            holder = self._journal.holder(account)
            if holder is not None:
                words = (
                    f"Account {account} is held by merge {holder.merge_id}, which is {holder.state.replace('_', ' ')}: "
                    "this merge would wait until that one is over."
                )
                remedy = "Let that merge end first: retry it, undo it or abandon it if it has stopped."
                yield Notice("ACCOUNT_HELD", account, words, remedy, merge_id=holder.merge_id)


def _by(merge: Merge) -> str:
    when = f" on {merge.closed_at:%Y-%m-%d %H:%M}" if merge.closed_at else ""
    return f" by merge {merge.merge_id}{when}"
