"""Admission: a merge takes all its accounts or none and moves to running, or the answer says why it cannot run now."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from account_merge.engine.idle_tables import IdleTables
from account_merge.engine.merge_tables import MergeTables
from account_merge.errors import InvalidRequest, NeedsAttention, TransientError, busy
from account_merge.journal import Journal, leases
from account_merge.journal.fence import Fence
from account_merge.lifecycle.answers import MergeAnswer, as_note, merge_answer
from account_merge.lifecycle.approved_plan import ApprovedPlan
from account_merge.lifecycle.failures import Failures, error_columns, next_failure
from account_merge.lifecycle.pause_switch import PauseSwitch
from account_merge.lifecycle.requests import check_request
from account_merge.merge_ids import request_id
from account_merge.model import Merge, MergeRequest
from account_merge.rules import rules_hash
from account_merge.settings import Settings
from account_merge.states import CLOSED, State


@dataclass(frozen=True)
class Admitted:
    """A merge that is running now and holds its accounts.

    :param begun: it was admitted before, so it may have logs.
    """

    merge: Merge
    begun: bool

    @property
    def answer(self) -> MergeAnswer:
        """The same as an answer."""
        return merge_answer(self.merge, proceed=True)


class Admission:
    """Lets merges begin.

    :param tables: the work on the merge's tables, which begins once the accounts are held.
    :param gate: raises when a merge that was never admitted may not be admitted.
    """

    def __init__(
        self,
        journal: Journal,
        tables: MergeTables,
        failures: Failures,
        switch: PauseSwitch,
        plans: ApprovedPlan,
        gate: Callable[[Merge], None],
    ) -> None:
        self._journal, self._skipped, self._failures = journal, tables.skipped, failures
        self._idle = IdleTables(tables)
        self._switch, self._plans, self._gate = switch, plans, gate

    def admit(self, merge_id: uuid.UUID, run_id: str = "") -> MergeAnswer:
        """Do what `begin` does, for a merge each of whose tables is the work of a process of its own: idle ones are spared it."""
        admitted = self.begin(merge_id, run_id)
        if not isinstance(admitted, Admitted):
            return admitted
        merge = admitted.merge
        idle = self._idle.end(merge, Fence.around(merge, stoppable=True), admitted.begun)
        return {**admitted.answer, "idle": idle}

    def begin(self, merge_id: uuid.UUID, run_id: str = "") -> Admitted | MergeAnswer:
        """Take the leases and move the merge to running, or say why it cannot run now.

        :raises InvalidRequest: the merge can never be done as asked, and the journal has it as refused; or another run has it.
        :raises NeedsAttention: another merge took its accounts, or an unknown table keeps merges from being admitted.
        """
        for _ in range(10):
            merge, stop = self._switch.look(merge_id)
            if merge.state in CLOSED:
                done = merge.state == State.COMPLETED
                words = f"the merge is {merge.state}: nothing is written"
                return merge_answer(merge, proceed=done, note=(merge.request.dry_run and merge.note) or words)
            if merge.state == State.PROPOSED:
                self._journal.give_back(merge)  # an earlier attempt may have stopped before it did so
            if merge.state in (State.PROPOSED, State.UNDOING, State.REDOING):
                return merge_answer(merge, proceed=False, note=f"the merge is {merge.state}: nothing to do here")
            if self._not_wanted(merge) or self._dry_run(merge):
                continue
            if halted := self._switch.pause_if_stopped(merge, stop, asked=True):
                return merge_answer(self._journal.need(merge_id), proceed=False, note=halted)
            if merge.state in (State.STARTED, State.RUNNING):
                check_run(merge, run_id)
            others = [known for known in merge.run_ids if known != run_id]
            runs = {"run_ids": [*others, run_id]} if run_id and run_id != (merge.run_ids or [""])[-1] else {}
            if merge.state in (State.REQUESTED, State.WAITING):
                started = self._journal.moved(merge, State.STARTED, attempt=merge.attempt + 1, **runs)
                if started is None:
                    continue
                merge, runs = started, {}
            answer = self._admit(merge, runs)
            if answer is not None:
                return answer
        raise TransientError("BUSY", f"merge {merge_id} changes state too often", "The task is tried again.")

    def _not_wanted(self, merge: Merge) -> bool:
        """Give up a repair or settle that was not admitted yet and whose parent was undone: it would merge the same again."""
        parent = self._journal.get(merge.parent) if merge.parent and merge.rules_hash is None else None
        if parent is None or parent.state == State.COMPLETED:
            return False
        self._journal.move(
            merge, State.ABANDONED, note=f"merge {parent.merge_id}, which this one mends, is {parent.state}"
        )
        return True

    def _dry_run(self, merge: Merge) -> bool:
        """End a merge that was opened with `dry_run`, whatever way it came in: it never writes anything."""
        if merge.request.dry_run:
            self._journal.move(
                merge, State.ABANDONED, note="a dry run: nothing was written; a preview shows what it would do"
            )
        return merge.request.dry_run

    def _admit(self, merge: Merge, runs: dict[str, Any]) -> Admitted | MergeAnswer | None:
        if merge.rules_hash is None:  # never admitted: it has written nothing yet
            with self._failures.recording(merge):
                self._gate(merge)
        try:
            admission = leases.acquire_all(self._journal, merge)
        except InvalidRequest as error:
            if merge.state == State.STARTED:
                self._failures.record(merge, error, State.REFUSED)
            raise
        if (blocked := admission.blocked) is not None:
            if merge.state != State.STARTED:
                raise NeedsAttention(
                    "LEASE_LOST",
                    f"merge {merge.merge_id} is {merge.state}, but account {blocked.account} is held by merge "
                    f"{blocked.by.merge_id}",
                    "Finish or abandon that merge first, then clear this one.",
                )
            holder = blocked.by.merge_id
            note = f"waits for account {blocked.account}, which merge {holder} has"
            self._journal.move(
                merge, State.WAITING, waiting_for=blocked.account, waiting_holder=holder, note=note, **runs
            )
            return merge_answer(self._journal.need(merge.merge_id), proceed=False, note=note)
        otherwise = self._otherwise(merge, {"survivor": admission.survivor, **runs})
        if otherwise is not None:
            return otherwise
        columns: dict[str, Any] = {"survivor": admission.survivor, "waiting_for": None, "waiting_holder": None, **runs}
        columns["rules_hash"] = merge.rules_hash or rules_hash()
        columns["plan"] = None  # from here on the merge combines what the platform writes, as any merge does
        if merge.state == State.PAUSED or merge.waiting_for:
            columns["note"] = None  # it said why nothing was done
        notes = [merge.request.doubt] if merge.request.doubt else []
        if admission.survivor != merge.request.target:
            notes.append(f"account {merge.request.target} was itself merged: the history goes to {admission.survivor}")
        if notes:
            columns["note"] = "; ".join(notes)
        # Asked again whether it is wanted: from here on nobody can undo the parent.
        running = None if self._not_wanted(merge) else self.to_running(merge, **columns)
        if running is None:
            return None
        self._skipped.keep(running)
        if merge.plan:
            self._plans.forget(merge)
        return Admitted(running, begun=merge.rules_hash is not None)

    def _otherwise(self, merge: Merge, columns: dict[str, Any]) -> MergeAnswer | None:
        """Propose a merge again that would do otherwise than was approved; None when it does exactly what was approved."""
        if not merge.plan or merge.rules_hash is not None:
            return None
        with self._failures.recording(merge):
            error = self._plans.changed(merge)
        if error is None:
            return None
        cleared = dict.fromkeys(("approved_by", "waiting_for", "waiting_holder", "resume"))
        if not self._journal.move(
            merge, State.PROPOSED, note=as_note(str(error)), **error_columns(error), **cleared, **columns
        ):
            raise busy(merge.merge_id)
        merge = self._journal.need(merge.merge_id)
        self._journal.give_back(merge)
        return merge_answer(merge, proceed=False)

    def to_running(self, merge: Merge, anew: bool = True, **columns: Any) -> Merge | None:
        """Move the merge to running and return it; after a failure it can owe its next failed event.

        :param anew: see `next_failure`.
        """
        if merge.state != State.RUNNING:
            columns.update(next_failure(merge, anew))
            columns.update(error_columns(None), resume=None)
        return self._journal.moved(merge, State.RUNNING, **columns)


def check_run(merge: Merge, run_id: str) -> None:
    """Refuse a run that the poll replaced: another run goes on with the merge.

    :raises InvalidRequest: the run was replaced; nothing was written.
    """
    newest = merge.run_ids[-1] if merge.run_ids else ""
    if run_id in merge.run_ids[:-1] and run_id != newest:
        raise InvalidRequest(
            "RUN_REPLACED",
            f"run {run_id} does nothing any more: run {newest} goes on with merge {merge.merge_id}",
            "Look at that run; this one may be deleted.",
        )


def previewed(journal: Journal, settings: Settings, request: MergeRequest) -> Merge:
    """Return the merge that a request would be, if these accounts can be merged now; nothing is written.

    :raises InvalidRequest: they cannot.
    """
    request = check_request(request, settings)
    merge = Merge.unopened(request_id("preview", request.sources, request.target), request, State.PREVIEW)
    return replace(merge, survivor=leases.check_survivors(journal, merge))
