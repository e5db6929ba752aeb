"""Search among failed merges: filters as a person types them, checked before anything is read."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from account_merge.errors import InvalidRequest
from account_merge.states import State

#: Kinds that a search knows: merges by state, and `undeliverable`: failed events that could not be published.
KINDS = (State.REFUSED.value, State.FAILED.value, State.NEEDS_ATTENTION.value, "undeliverable")
#: Merges of one search or replay, at most.
MOST = 1000


@dataclass(frozen=True)
class FailedMergeFilter:
    """Filter for failed merges: those that are named, or all that fit; oldest failure first.

    :param kinds: of `KINDS`; with `undeliverable`, a merge whose failed event could not be published is chosen for
        that event, not for itself.
    :param codes: error codes; none means any.
    :param since: failed at or after this time (UTC), and before `until`.
    :param limit: merges, at most; up to `MOST`.
    """

    merge_ids: tuple[uuid.UUID, ...] = ()
    kinds: tuple[str, ...] = KINDS[:3]
    codes: tuple[str, ...] = ()
    account: str = ""
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 100

    @classmethod
    def of(cls, **given: Any) -> FailedMergeFilter:
        """Return the filter that a person typed: ids and times as text, absent values as None.

        :raises InvalidRequest: a value cannot be read; the message names it.
        """
        kinds = tuple(given.get("kinds") or KINDS[:3])
        limit = int(given.get("limit") or 100)
        if unknown := sorted(set(kinds) - set(KINDS)):
            raise InvalidRequest("BAD_FILTER", f"nothing is {', '.join(unknown)}", f"Choose from {', '.join(KINDS)}.")
        if not 1 <= limit <= MOST:
            raise InvalidRequest("BAD_FILTER", f"limit is {limit}", f"Choose 1 to {MOST}, and repeat the replay.")
        return cls(tuple(map(merge_id_of, given.get("merge_ids") or ())), kinds, tuple(given.get("codes") or ()),
                   given.get("account") or "", _moment(given.get("since")), _moment(given.get("until")), limit)  # fmt: skip


def merge_id_of(text: Any) -> uuid.UUID:
    """Return a merge id as it is typed.

    :raises InvalidRequest: it is not a merge id.
    """
    try:
        return uuid.UUID(str(text))
    except ValueError:
        raise InvalidRequest(
            "BAD_MERGE_ID", f"{str(text)[:60]!r} is not a merge id", "Find it with `failed`."
        ) from None


def _moment(text: Any) -> datetime | None:
    """Return a time as the journal keeps it: UTC without a zone."""
    if text in (None, ""):
        return None
    try:
        found = text if isinstance(text, datetime) else datetime.fromisoformat(str(text))
        return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    except (ValueError, OverflowError):  # in UTC the first and last hours of time lie outside the calendar
        raise InvalidRequest(
            "BAD_FILTER", f"{str(text)[:60]!r} is not a time in UTC", "Write it as 2026-03-01T10:15:00Z."
        ) from None
