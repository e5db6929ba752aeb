"""Replay: failed merges and refused events are opened again from the journal. Nobody publishes an event a second time.

The next poll starts what a replay opened. A replay says of every other merge why it leaves it alone: one that is
completed, under way or about to start is never replayed twice.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

from account_merge.errors import InvalidRequest, MergeError, NeedsAttention
from account_merge.failed_search import MOST, FailedMergeFilter, merge_id_of
from account_merge.journal import Journal, leases
from account_merge.journal.lists import failed
from account_merge.journal.rows import request_columns
from account_merge.lifecycle.answers import as_note
from account_merge.lifecycle.failures import error_columns, next_failure
from account_merge.lifecycle.requests import check_request, request_of
from account_merge.model import Merge, MergeRequest
from account_merge.rules import rules_hash
from account_merge.settings import Settings
from account_merge.states import OWED, RESUMABLE, Origin, State
from account_merge.sunbird.events import Position, merge_id_for, parse

#: Codes of merges that were replayed; any other code is the reason why one was left alone.
DONE = ("REOPENED", "RESUMED", "CORRECTED", "REARMED")


class ReplayedItem(TypedDict):
    """The result for one merge. It holds ids and key names, never a learner's values.

    :param code: one of `DONE`, or the reason why the merge was left alone.
    """

    merge_id: str
    before: str | None
    after: str | None
    code: str
    note: str


class ReplayAnswer(TypedDict):
    """The results of a replay, with their numbers."""

    dry_run: bool
    replayed: int
    left_alone: int
    items: list[ReplayedItem]


class Replays:
    """Finds failed merges and refused events, and opens them again."""

    def __init__(self, journal: Journal, settings: Settings) -> None:
        self._journal, self._settings = journal, settings

    def find(self, search: FailedMergeFilter) -> list[Merge]:
        """Return the failed merges, refused events and undeliverable failed events that fit, for a person to look at."""
        return find(self._journal, search)

    def replay(
        self,
        search: FailedMergeFilter,
        by: str,
        reason: str = "",
        dry_run: bool = True,
        corrected: Mapping[str, Any] | None = None,
    ) -> ReplayAnswer:
        """Open failed merges and refused events again; say for each what was done, or why it was left alone."""
        return summary(Replay(self._journal, self._settings, by, reason, corrected, dry_run).run(search), dry_run)


def find(journal: Journal, search: FailedMergeFilter) -> list[Merge]:
    """Return the failed merges, refused events and undeliverable failed events that fit, for a person to look at."""

    return failed(journal, search)


class Replay:
    """One replay: who, why, and the bodies that correct refused events.

    :param corrected: merge id of a refused event -> the event as it should have been, as JSON object or its text.
    :param dry_run: say what would be done; nothing is written.
    """

    def __init__(
        self,
        journal: Journal,
        settings: Settings,
        by: str = "",
        reason: str = "",
        corrected: Mapping[str, Any] | None = None,
        dry_run: bool = True,
    ) -> None:
        self._journal, self._settings, self._dry_run = journal, settings, dry_run
        self._by, self._why = by or "somebody", f": {as_note(reason.strip())}" if reason.strip() else ""
        self._corrected = {merge_id_of(key): body for key, body in (corrected or {}).items()}
        self._named = frozenset[uuid.UUID]()

    def run(self, search: FailedMergeFilter) -> list[ReplayedItem]:
        """Replay the merges that are named, or else those that fit."""
        self._named = frozenset(search.merge_ids)
        named = [*search.merge_ids, *self._corrected]
        chosen = dict.fromkeys(named) if named else dict.fromkeys(m.merge_id for m in find(self._journal, search))
        if len(chosen) > MOST:
            raise InvalidRequest("BAD_FILTER", f"{len(chosen)} merges are named", f"Name at most {MOST} at a time.")
        return [self._item(merge_id, "undeliverable" in search.kinds) for merge_id in chosen]

    def _item(self, merge_id: uuid.UUID, events: bool) -> ReplayedItem:
        before = merge = self._journal.get(merge_id)
        try:
            for _ in range(10):
                merge = self._journal.need(merge_id)
                done = self._replay(merge, events)
                if done is not None:
                    code, note, after = done
                    return _answer(merge_id, before.state if before else None, after, code, note)
            raise InvalidRequest("CHANGED_MEANWHILE", f"merge {merge_id} keeps changing", "Replay it again.")
        except (InvalidRequest, NeedsAttention) as error:
            state = merge.state if merge else None
            return _answer(merge_id, before.state if before else None, state, error.code, _words(error))

    def _replay(self, merge: Merge, events: bool) -> tuple[str, str, str] | None:
        """Code, note and state afterwards; None when somebody changed the merge meanwhile."""
        if merge.replayed_as:
            raise InvalidRequest(
                "REPLAYED_BEFORE", f"it was replayed as merge {merge.replayed_as}", "Look at that one."
            )
        if merge.expiry:
            raise InvalidRequest(
                "EXPIRED", "its event has expired", "Merge the accounts by hand where it is still wanted."
            )
        if merge.merge_id in self._corrected:
            return self._correct(merge)
        if events and merge.failed_event == "undeliverable":
            return self._rearm(merge)
        if merge.resume and merge.state in RESUMABLE:
            raise InvalidRequest("RESUMED_BEFORE", "it goes on by itself", "Wait for the next poll that nothing stops.")
        if merge.state not in (State.REFUSED, State.FAILED, State.NEEDS_ATTENTION):
            raise InvalidRequest("NOT_FAILED", f"the merge is {merge.state}: there is nothing to replay")
        if merge.failed_event in OWED:
            raise InvalidRequest("FAILED_EVENT_OWED", "its failed event is not published yet",
                                 "Replay it after the poll's report_failures.")  # fmt: skip
        return self._reopen(merge) if merge.state == State.REFUSED else self._resume(merge)

    def _change(self, merge: Merge, state: State, **columns: Any) -> bool:
        return self._dry_run or self._journal.move(merge, state, **columns)

    def _resume(self, merge: Merge) -> tuple[str, str, str] | None:
        words = f"the next poll starts run {merge.attempt + 1}; it goes on where it stopped"
        columns: dict[str, Any] = {"resume": "wanted", "note": f"replayed by {self._by}{self._why}"}
        if merge.rules_hash not in (None, rules_hash()):
            if merge.merge_id not in self._named:
                raise InvalidRequest(
                    "RULES_CHANGED", "it was begun with other rules",
                    "Replay it by its id: what its log holds stays as planned, what is left is planned by today's rules.",
                )  # fmt: skip
            columns["rules_hash"] = rules_hash()
            words += ", and plans what is left by today's rules"
        if merge.error_code == "JOURNAL_BEHIND":
            if merge.merge_id not in self._named:
                raise InvalidRequest(
                    "JOURNAL_BEHIND", "the journal has forgotten a merge of its accounts",
                    "Replay it by its id: what the sources show counts as moved, and only what is missing moves.",
                )  # fmt: skip
            columns["seeded"] = True
            words += ", and counts what the sources show as moved"
        if not self._change(merge, merge.state, **columns):
            return None
        return "RESUMED", words, merge.state

    def _rearm(self, merge: Merge) -> tuple[str, str, str] | None:
        note = f"failed event armed again by {self._by}{self._why}"
        if not self._change(merge, merge.state, failed_event="due", note=note):
            return None
        return "REARMED", f"the next poll publishes failed event {merge.merge_id}.{merge.failed_number}", merge.state

    def _reopen(self, merge: Merge) -> tuple[str, str, str] | None:
        request = self._request(merge.request)
        for twin in self._journal.find("accounts", request.sources[0]) if request.mid else ():
            if twin.merge_id != merge.merge_id and _same_event(twin, request):
                self._change(merge, merge.state, replayed_as=twin.merge_id, note=f"is also merge {twin.merge_id}")
                words = f"the same event came twice and is merge {twin.merge_id} ({twin.state})"
                raise InvalidRequest("REPLAYED_BEFORE", words, "Look at that one.")
        leases.check_survivors(self._journal, replace(merge, request=request))
        columns: dict[str, Any] = {
            **request_columns(request), **error_columns(None), "note": f"replayed by {self._by}{self._why}",
            **next_failure(merge),
        }  # fmt: skip
        if not self._change(merge, State.REQUESTED, **columns):
            return None
        return "REOPENED", f"the next poll starts run {merge.attempt + 1}", State.REQUESTED

    def _correct(self, merge: Merge) -> tuple[str, str, str] | None:
        if merge.state != State.REFUSED:
            raise InvalidRequest("NOT_REFUSED", f"the merge is {merge.state}: only a refused event can be corrected",
                                 "Leave out its corrected event.")  # fmt: skip
        body = self._corrected[merge.merge_id]
        raw = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
        why = f"corrected event of refused merge {merge.merge_id}, by {self._by}{self._why}"
        asked = MergeRequest((), "", origin=Origin.EVENT, raw=raw, requested_by=self._by, reason=why)
        request = self._request(replace(asked, dated=merge.request.dated))
        place = f"corrected/{merge.merge_id}"
        new = merge_id_for(request.sources, request.target, request.mid, Position(place, 0, 0, 0, raw))
        if new == merge.merge_id:
            raise InvalidRequest("SAME_EVENT", "the corrected event is the same merge", "Replay it as it is.")
        opened = self._journal.get(new) is None if self._dry_run else self._journal.open(new, request, place)
        note = f"corrected by {self._by} as merge {new}{self._why}"
        if not self._change(merge, merge.state, replayed_as=new, note=note):
            return None
        words = f"opened as merge {new}: the next poll starts it" if opened else f"that is merge {new}, open before"
        return "CORRECTED", words, merge.state

    def _request(self, request: MergeRequest) -> MergeRequest:
        """Return the request that the raw event is by the present settings; one without an event stays as it is.

        :raises InvalidRequest: it would be refused again.
        """
        if request.raw is None:
            return check_request(request, self._settings)
        event = parse(request.raw, self._settings)
        if event is None:
            raise InvalidRequest(
                "OTHER_ACTION", "the event asks for another action than a merge", "Correct edata.action."
            )
        found = request_of(event, request.raw, self._settings, stamp_ms=request.dated or 0)
        decided = request if request.sources else found  # when it was opened, maybe by a person
        return replace(
            request, sources=event.sources, target=event.target, mid=event.mid, tenant=event.tenant,
            dated=found.dated, seeded=decided.seeded, doubt=found.doubt,
        )  # fmt: skip


def _same_event(merge: Merge, request: MergeRequest) -> bool:
    known = merge.request
    same = (known.sources, known.target, known.mid) == (request.sources, request.target, request.mid)
    return same and merge.state != State.REFUSED


def _answer(merge_id: uuid.UUID, before: str | None, after: str | None, code: str, note: str) -> ReplayedItem:
    return {"merge_id": str(merge_id), "before": before, "after": after, "code": code, "note": note}


def _words(error: MergeError) -> str:
    return error.message + (f" {error.remedy}" if error.remedy else "")


def summary(items: Sequence[ReplayedItem], dry_run: bool) -> ReplayAnswer:
    """Return the results with their numbers."""
    done = sum(item["code"] in DONE for item in items)
    return {"dry_run": dry_run, "replayed": done, "left_alone": len(items) - done, "items": list(items)}
