"""Merges that an administrator asks for by user names: which accounts they are, and whether they may be merged.

The same names in the same order are the same merge, also when its answer was lost, or its sources are deactivated and
their names lead to no account any more. The same request is a new merge only if the first one was undone or given up, or
a name belongs to another account by now.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from account_merge.errors import InvalidRequest
from account_merge.journal import Journal, leases
from account_merge.lifecycle.requests import MAX_SOURCES, check_request
from account_merge.merge_ids import names_id
from account_merge.model import Merge, MergeRequest
from account_merge.settings import Settings
from account_merge.states import Origin, State
from account_merge.sunbird.users import Directory, Person

#: A merge in one of these states does not stand: the same request opens a new one.
_GONE = frozenset({State.UNDONE, State.ABANDONED, State.REJECTED, State.EXPIRED, State.REFUSED})
_MOST = 1000
_LONGEST_NAME = 320


@dataclass(frozen=True)
class AdministratorRequest:
    """Request of an administrator.

    :param acting: the user name of the administrator.
    :param main: the user name whose account survives.
    :param others: the user names whose accounts are merged into it, in this order.
    :param by: the program or person that makes the call for the administrator.
    """

    acting: str
    main: str
    others: tuple[str, ...]
    deactivate: bool = False
    by: str = ""
    reason: str = ""


@dataclass(frozen=True)
class OpenedMerge:
    """The merge, and the accounts behind the names; "" where a name leads to no account any more."""

    merge: Merge
    accounts: dict[str, str]


class AdministratorMerges:
    """Finds or opens the merge; the poll starts it."""

    def __init__(self, journal: Journal, directory: Directory, settings: Settings) -> None:
        self._journal, self._directory, self._settings = journal, directory, settings

    def open(self, wanted: AdministratorRequest) -> OpenedMerge:
        """Return the merge of these names, opened if there is none; may be repeated.

        :raises InvalidRequest: NOT_ADMIN, SOURCE_IS_ADMIN, UNKNOWN_USER, MAIN_INACTIVE, NO_USER_NAME, or a code of
            `check_request` or `leases.check_survivors`. Nothing was written.
        """
        main, others = _plain(wanted.main), tuple(dict.fromkeys(filter(None, map(_plain, wanted.others))))
        acting = self._directory.find(wanted.acting) if _sensible(wanted.acting) else None
        if acting is None or not (acting.active and acting.admin):
            raise InvalidRequest(
                "NOT_ADMIN", "the acting user is not a site administrator", "Name an active site administrator."
            )
        _check(main, others)
        people = {name: self._directory.find(name) if _sensible(name) else None for name in (main, *others)}
        for number in range(_MOST):
            merge_id = names_id(main, others, wanted.deactivate, number)
            merge = self._journal.get(merge_id)
            if merge is None:
                merge = self._open(merge_id, wanted, main, others, people, acting)
            if _same(merge, people[main], [people[name] for name in others]) and _stands(merge):
                return OpenedMerge(merge, _accounts(merge, main, others, people))
        raise InvalidRequest(
            "ASKED_TOO_OFTEN", f"these accounts were merged and undone {_MOST} times", "Merge them by their ids."
        )

    def _open(
        self,
        merge_id: uuid.UUID,
        wanted: AdministratorRequest,
        main: str,
        others: Sequence[str],
        people: dict[str, Person | None],
        acting: Person,
    ) -> Merge:
        target, *sources = (people[name] for name in (main, *others))
        known = [source for source in sources if source is not None]
        if target is None or len(known) != len(sources):
            raise InvalidRequest("UNKNOWN_USER", "a user name leads to no account", "Correct the user name.")
        if any(source.admin for source in known):
            raise InvalidRequest(
                "SOURCE_IS_ADMIN", "one of the other users is a site administrator", "Take the role away first."
            )
        if not target.active:
            raise InvalidRequest("MAIN_INACTIVE", "the main user is deactivated", "Name the account that is in use.")
        request = check_request(
            MergeRequest(
                tuple(source.account for source in known), target.account, on_conflict="skip", origin=Origin.API,
                requested_by=wanted.by, reason=f"{wanted.reason}, asked for by account {acting.account}",
                deactivate_sources=wanted.deactivate,
            ),
            self._settings,
        )  # fmt: skip
        leases.check_survivors(self._journal, Merge.unopened(merge_id, request, State.REQUESTED))
        self._journal.open(merge_id, request)
        return self._journal.need(merge_id)


def _plain(name: str) -> str:
    return name.strip().lower()


def _sensible(name: str) -> bool:
    return 0 < len(name.strip()) <= _LONGEST_NAME


def _check(main: str, others: Sequence[str]) -> None:
    if not main or not others:
        raise InvalidRequest("NO_USER_NAME", "the main or the other user names are missing", "Give both.")
    if main in others:
        raise InvalidRequest("SAME_ACCOUNT", "the main user is one of the others", "Leave it out of the others.")
    if len(others) > MAX_SOURCES:
        raise InvalidRequest(
            "BAD_SOURCES", f"a merge has at most {MAX_SOURCES} other users, not {len(others)}", "Split it into several."
        )


def _same(merge: Merge, main: Person | None, others: Sequence[Person | None]) -> bool:
    """Whether the names lead to the accounts of this merge; a name of a deactivated account leads nowhere, and fits."""
    request = merge.request
    to_sources = all(other.account in request.sources for other in others if other is not None)
    return to_sources and (main is None or main.account == request.target)


def _stands(merge: Merge) -> bool:
    """Whether the merge is done or under way; an erased one counts by the state that it had before."""
    return merge.effective_state not in _GONE


def _accounts(merge: Merge, main: str, others: Sequence[str], people: dict[str, Person | None]) -> dict[str, str]:
    in_order = (
        dict(zip(others, merge.request.sources, strict=True)) if len(others) == len(merge.request.sources) else {}
    )
    found = {main: merge.request.target, **in_order}
    return {name: person.account if person else found.get(name, "") for name, person in people.items()}
