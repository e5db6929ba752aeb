"""Merges that a second person approves: proposed with a stored plan, then requested, rejected or expired.

A proposed merge holds no account and nothing starts it. Approved, it does exactly what was planned, or says what changed.
"""

from __future__ import annotations

import os
import uuid
from typing import Any, TypedDict

from account_merge.errors import InvalidRequest, busy
from account_merge.journal import Journal
from account_merge.jsonable import jsonable
from account_merge.lifecycle.admission import previewed
from account_merge.lifecycle.answers import as_note
from account_merge.lifecycle.approved_plan import ApprovedPlan, plan_name
from account_merge.lifecycle.failures import error_columns
from account_merge.model import Merge, MergeRequest
from account_merge.settings import Settings
from account_merge.states import State

#: Rows that `changes` names.
NAMED = 20


class ProposalAnswer(TypedDict):
    """Answer of a step of a proposal: ids and counts, never a learner's values.

    :param proceed: the merge is up for approval.
    """

    merge_id: str
    state: str
    note: str
    plan: str
    tables: dict[str, dict[str, int]]
    proceed: bool


class ChangedRow(TypedDict):
    """A row that the merge would treat otherwise than was proposed."""

    table: str
    what: str
    account: str
    key: dict[str, Any]


class PlanChanges(TypedDict):
    """Differences from the proposal: numbers by table, and the first rows by their keys."""

    merge_id: str
    tables: dict[str, dict[str, int]]
    rows: list[ChangedRow]


class Proposals:
    """Proposes merges and decides about them. Each step may be repeated."""

    def __init__(self, journal: Journal, settings: Settings, plans: ApprovedPlan) -> None:
        self._journal, self._settings, self._plans = journal, settings, plans

    def propose(
        self, request: MergeRequest, merge_id: uuid.UUID, run_id: str = "", renew: bool = False
    ) -> ProposalAnswer:
        """Open a proposed merge and store its plan. A repeat is the same proposal: nothing is written twice.

        The request of a merge that is there stands. A merge whose rows changed is planned anew, and so is one whose plan
        is not whole.

        :param run_id: the run that asks a second person; the newest one counts.
        :param renew: plan anew in any case; what was approved before is not approved any more.
        :raises InvalidRequest: these accounts cannot be merged (a proposal of them is then rejected), or the merge has others.
        """
        merge = self._journal.get(merge_id)
        if merge is None:
            if not request.requested_by.strip():
                raise InvalidRequest("NO_PERSON", "a proposal needs to know who asks", "Log in, or name the person.")
            self._journal.open(
                merge_id, previewed(self._journal, self._settings, request).request, state=State.PROPOSED
            )
            merge = self._journal.need(merge_id)
        known = merge.request
        if {*known.sources} != {*request.sources} or known.target != request.target:
            raise InvalidRequest(
                "OTHER_ACCOUNTS", f"the accounts are not those of merge {merge_id}", "Propose a merge of its own."
            )
        if merge.state == State.PROPOSED and (
            renew or merge.error_code == "PLAN_CHANGED" or self._plans.counts(merge) is None
        ):
            merge = self._plan(merge)
        asked = merge.state != State.PROPOSED or run_id in ("", merge.approval_run)
        if not asked and not self._journal.change(merge, approval_run=run_id):
            raise busy(merge.merge_id)
        return self._answer(
            merge, "" if merge.state == State.PROPOSED else f"the merge is {merge.state}: nothing to propose"
        )

    def _plan(self, merge: Merge) -> Merge:
        try:
            previewed(self._journal, self._settings, merge.request)
        except InvalidRequest as error:
            self._end(merge.merge_id, State.REJECTED, str(error), "")
            raise
        salt = os.urandom(16)
        self._plans.forget(merge)
        fresh = {"plan": salt, "approved_by": None, "note": None, **error_columns(None)}
        if self._journal.change(merge, **fresh):
            merge = self._journal.need(merge.merge_id)
            if merge.plan == salt:
                self._plans.write(merge)
                merge = self._journal.need(merge.merge_id)
        if merge.plan != salt:
            raise busy(merge.merge_id)
        return merge

    def approve(self, merge_id: uuid.UUID, by: str, note: str = "", plan: str = "") -> ProposalAnswer:
        """Let the poll start the merge, if it would still do exactly what was proposed.

        :param plan: which plan was shown to the person; empty: the one that there is.
        :raises InvalidRequest: this person may not, or there is nothing to approve.
        :raises NeedsAttention: rows changed since; it stays proposed.
        """
        for _ in range(10):
            merge = self._journal.need(merge_id)
            if merge.state not in (State.PROPOSED, State.REJECTED, State.EXPIRED) and _same(
                merge.approved_by or "", by
            ):
                return self._answer(merge, f"approved by {by}")
            self._check(merge, plan)
            _second_person(merge, by)
            if self._plans.counts(merge) is None:
                found = self._journal.need(merge_id)
                if (found.state, found.plan) != (merge.state, merge.plan):
                    continue  # decided or proposed anew since it was read: its plan went with that
                raise InvalidRequest("NO_PLAN", f"merge {merge_id} has no whole plan", "Propose it anew.")
            error = self._plans.changed(merge)
            if error is not None:
                if self._journal.change(merge, **error_columns(error)):
                    raise error
                continue
            words = f"approved by {by}" + (f": {note}" if note else "")
            done = {"approved_by": by, "note": as_note(words), **error_columns(None)}
            if self._journal.move(merge, State.REQUESTED, **done):
                return self._answer(self._journal.need(merge_id), "")
        raise busy(merge.merge_id)

    def reject(self, merge_id: uuid.UUID, by: str, reason: str = "", plan: str = "") -> ProposalAnswer:
        """End a proposal. The person who asked may do that as well.

        :raises InvalidRequest: there is nothing to reject.
        """
        words = f"rejected by {by or 'somebody'}" + (f": {reason}" if reason else "")
        return self._end(merge_id, State.REJECTED, words, plan)

    def expire(self, merge_id: uuid.UUID, plan: str = "") -> ProposalAnswer:
        """End a proposal that nobody answered in time. One that was decided or planned anew meanwhile stays as it is."""
        merge = self._journal.need(merge_id)
        if merge.state != State.PROPOSED or (plan and plan != plan_name(merge)):
            return self._answer(merge, "decided or proposed anew meanwhile: this request is over")
        return self._end(merge_id, State.EXPIRED, "nobody approved it in time", plan)

    def _end(self, merge_id: uuid.UUID, state: State, words: str, plan: str) -> ProposalAnswer:
        merge = self._journal.need(merge_id)
        if merge.state != state:
            self._check(merge, plan)
            if not self._journal.move(merge, state, note=as_note(words)):
                raise busy(merge.merge_id)
        self._plans.forget(merge)
        return self._answer(self._journal.need(merge_id), "")

    def changes(self, merge_id: uuid.UUID) -> PlanChanges:
        """Return the differences from the proposal: numbers by table, and the first rows by their keys.

        For people only: keys of learners' rows stay out of logs and XComs. A row that vanished is counted, not named.

        :raises InvalidRequest: the merge is not proposed.
        """
        merge = self._journal.need(merge_id)
        self._check(merge, "")
        tables: dict[str, dict[str, int]] = {}
        rows: list[ChangedRow] = []
        for rule, found in self._plans.differences(merge):
            counts = tables.setdefault(rule.table, {})
            for kind, row in found:
                counts[kind] = counts.get(kind, 0) + 1
                if row is not None and len(rows) < NAMED:
                    key = dict(zip(rule.key, map(jsonable, row[1]), strict=False))
                    rows.append({"table": rule.table, "what": kind, "account": row[0], "key": key})
        return {"merge_id": str(merge_id), "tables": {t: c for t, c in tables.items() if c}, "rows": rows}

    @staticmethod
    def _check(merge: Merge, plan: str) -> None:
        if merge.state != State.PROPOSED:
            raise InvalidRequest(
                "NOT_PROPOSED",
                f"merge {merge.merge_id} is {merge.state}: it is not up for approval",
                "Look at its page; a merge that was not approved is asked for again as a new one.",
            )
        if plan and plan != plan_name(merge):
            raise InvalidRequest(
                "OTHER_PLAN",
                f"merge {merge.merge_id} was proposed anew since: what was looked at is not its plan any more",
                "Answer the newest request.",
            )

    def _answer(self, merge: Merge, note: str) -> ProposalAnswer:
        """Return ids and counts, never a learner's values."""
        counts = self._plans.counts(merge) if merge.state == State.PROPOSED else None
        return {
            "merge_id": str(merge.merge_id), "state": merge.state.value, "note": note or merge.note or "",
            "plan": plan_name(merge), "tables": {table: dict(c) for table, c in (counts or {}).items() if c},
            "proceed": merge.state == State.PROPOSED,
        }  # fmt: skip


def _second_person(merge: Merge, by: str) -> None:
    asked = merge.request.requested_by
    if not by.strip() or not asked.strip():
        raise InvalidRequest(
            "NO_PERSON",
            f"merge {merge.merge_id}: nobody knows who {'approves' if asked.strip() else 'asked for'} it",
            "Log in as a person and answer again." if asked.strip() else "Reject it and ask for it again.",
        )
    if _same(by, asked):
        raise InvalidRequest(
            "SAME_PERSON",
            f"merge {merge.merge_id} was asked for by the person who approves it",
            "Clear the task `approve` and what follows; another person answers.",
        )


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold() != ""
