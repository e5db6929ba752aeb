"""Stranded accounts: switched off by the platform, with learning rows of their own, and source of no merge.

The search walks the platform's table of accounts along the token ring, gently: one small page at a time, with a pause
between pages. How far it is and what it found stand in the journal, so that it can be stopped at any point and goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from account_merge.errors import InvalidRequest, NeedsAttention
from account_merge.journal import Journal
from account_merge.journal.scans import STRANDED, ScanProgress
from account_merge.rules import RULES
from account_merge.settings import Settings
from account_merge.states import State
from account_merge.sunbird.row_finder import RowFinder
from account_merge.sunbird.schema import Tables
from account_merge.sunbird.store import Store
from account_merge.sunbird.users import FIRST, LAST, User, Users

#: A merge that was refused has moved nothing: its source is still stranded.
_NO_MERGE = frozenset({State.REFUSED, State.REJECTED, State.EXPIRED})


class StrandedAccount(TypedDict):
    """An account that was found, when it was switched off, and the tables that have rows of it."""

    account_id: str
    deactivated_on: str
    tables: list[str]


class SearchNumbers(TypedDict):
    """Progress of the search."""

    scanned: int
    stranded: int
    done: bool
    percent: float


class _Stretch(TypedDict):
    """What an entry of the search keeps: where it is on the token ring, its numbers, and what the stretch found."""

    cursor: int
    scanned: int
    stranded: int
    done: bool
    found: list[StrandedAccount]


Told = Callable[[SearchNumbers], None]


@dataclass(frozen=True)
class Pace:
    """Pace of the search.

    :param page: accounts of one page.
    :param pause: seconds between two pages.
    :param every: pages between two entries in the journal: a search that was killed reads these again.
    :param seconds: time after which it stops; the next call goes on. 0: until the end.
    """

    page: int = 200
    pause: float = 0.1
    every: int = 20
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not (1 <= self.page <= 5000 and 0 <= self.pause <= 60 and self.every >= 1 and self.seconds >= 0):
            raise InvalidRequest(
                "BAD_OPTION", "the pace is out of bounds", "A page has 1 to 5000 accounts, a pause 0 to 60 s."
            )


class Stranded:
    """Searches for stranded accounts."""

    def __init__(self, session: Any, store: Store, journal: Journal, tables: Tables, settings: Settings) -> None:
        self._session, self._store, self._journal, self._tables = session, store, journal, tables
        # No account is worth reading a whole table for.
        self._settings = settings.replace(scan_tables=())
        self._log = ScanProgress(journal, STRANDED)

    def found(self) -> Iterator[StrandedAccount]:
        """Yield what the search has found so far: `{account_id, deactivated_on, tables}`, in the order of the token ring."""
        for entry in self._log.entries():
            yield from entry["found"]

    def run(self, pace: Pace, restart: bool = False, told: Told = lambda state: None) -> SearchNumbers:
        """Go on where the last search stopped; return the numbers, and whether the end is reached.

        :param restart: forget what was found and begin anew.
        :raises InvalidRequest: another process goes on with it.
        :raises TransientError: a server was away; the next call goes on.
        """
        if restart:
            self._log.forget()
        seq, known = self._log.last()
        state = _begun(known)
        ends = time.monotonic() + pace.seconds if pace.seconds else float("inf")
        users = Users(self._session, self._store, self._settings)
        while not state["done"]:
            self._stretch(users, pace, state, ends)
            seq += 1
            if not self._log.append(seq, dict(state)):
                raise InvalidRequest(
                    "SEARCHED_ELSEWHERE", "another process goes on with this search",
                    "Let one of them come to its end; --restart begins anew.",
                )  # fmt: skip
            state["found"] = []
            told(_numbers(state))
            if time.monotonic() > ends:
                break
        return _numbers(state)

    def _stretch(self, users: Users, pace: Pace, state: _Stretch, ends: float) -> None:
        """Move `state` on by some pages."""
        for _ in range(pace.every):
            page = users.page(state["cursor"], pace.page)
            if not page:
                state["done"] = True
                return
            found = [one for user in page if (one := self._stranded(user)) is not None]
            state["found"] += found
            state["scanned"] += len(page)
            state["stranded"] += len(found)
            state["cursor"] = page[-1].token
            if time.monotonic() > ends:
                return
            time.sleep(pace.pause)

    def _stranded(self, user: User) -> StrandedAccount | None:
        if not user.deactivated or self._merged(user.account):
            return None
        tables = self._owns(user.account)
        if not tables:
            return None
        return {"account_id": user.account, "deactivated_on": user.off_since, "tables": tables}

    def _merged(self, account: str) -> bool:
        return any(
            account in merge.request.sources and merge.state not in _NO_MERGE
            for merge in self._journal.find("accounts", account)
        )

    def _owns(self, account: str) -> list[str]:
        """Return the tables that have a row of the account, as far as its partition, an index or its courses lead to them."""
        sources = RowFinder(self._store, self._tables, self._settings, (account,))
        return [rule.table for rule in RULES if self._tables.of(rule) and self._has(sources, rule, account)]

    @staticmethod
    def _has(sources: RowFinder, rule: Any, account: str) -> bool:
        try:
            return next(iter(sources.rows(rule, account)), None) is not None
        except NeedsAttention:  # nothing leads to its rows here
            return False


def _begun(known: Mapping[str, Any]) -> _Stretch:
    """Return the state that goes on behind the last entry of the search; empty: from the beginning."""
    return {
        "cursor": known.get("cursor", FIRST), "scanned": known.get("scanned", 0),
        "stranded": known.get("stranded", 0), "done": known.get("done", False), "found": [],
    }  # fmt: skip


def _numbers(state: _Stretch) -> SearchNumbers:
    through = 1.0 if state["done"] else (state["cursor"] - FIRST) / (LAST - FIRST)
    return {
        "scanned": state["scanned"], "stranded": state["stranded"], "done": state["done"],
        "percent": round(100 * through, 2),
    }  # fmt: skip
