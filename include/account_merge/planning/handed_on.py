"""Totals that sources' rows have handed on in earlier merges, by key. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from account_merge.cursor import Cursor
from account_merge.model import HandedOn, Key


class HandedOnByKey:
    """The totals that sources' rows have handed on, asked in key order.

    :param stream: (key, source account, what one merge says of its row), sorted by key.
    :param of: what the stream holds, for the error of one that is not sorted.
    """

    def __init__(self, stream: Iterable[tuple[Key, str, HandedOn]], of: str) -> None:
        self._cursor = Cursor(((key, (account, one)) for key, account, one in stream), of)

    def at(self, key: Key) -> dict[str, HandedOn]:
        """Return source account -> what its row with this key has handed on in all merges together."""
        found: dict[str, HandedOn] = {}
        for account, one in self._cursor.at(key):
            found[account] = together(found.get(account, HandedOn({})), one)
        return found


def together(known: HandedOn, more: HandedOn) -> HandedOn:
    """Return the highest value of each total, and the newest image."""
    newer = more.image is not None and (known.image is None or more.at >= known.at)
    return HandedOn(raised(known.given, more.given), *((more.image, more.at) if newer else (known.image, known.at)))


def raised(known: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Return column -> the higher of two values."""
    return {**known, **{column: max(value, known.get(column, value)) for column, value in more.items()}}
