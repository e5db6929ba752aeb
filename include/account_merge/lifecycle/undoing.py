"""Undo and redo of a merge, and giving one up: what may be done, in which order. Each step may be repeated."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from account_merge.engine.history import settles_of
from account_merge.engine.known import Known
from account_merge.engine.merge_tables import MergeTables
from account_merge.engine.resources import Guard, Progress, TableJob, untold
from account_merge.engine.skipped import opened_ms
from account_merge.errors import InvalidRequest, MergeError, TransientError, busy
from account_merge.journal.log_ends import Endings, Ends, close_all, digests, ends
from account_merge.lifecycle.admission import check_run
from account_merge.lifecycle.answers import TableAnswer, UndoAnswer, UndoneAnswer, as_note, table_answer, undo_answer
from account_merge.lifecycle.deactivation import Deactivation
from account_merge.lifecycle.guards import still
from account_merge.lifecycle.liveness import TAKING_BACK
from account_merge.lifecycle.merging import first_settle
from account_merge.lifecycle.pause_switch import PauseSwitch
from account_merge.lifecycle.remains import Remains, open_remains
from account_merge.lifecycle.together import Together
from account_merge.lifecycle.undo_order import UndoOrder, operation_name
from account_merge.model import Change, Merge
from account_merge.rules import TableRule, rule_for
from account_merge.states import ACTIONS, RESUMABLE, EntryKind, State
from account_merge.sunbird.events import sync_events
from account_merge.sunbird.publishing import Publisher

REMEDY_STOPPED = "Let merging go on (`resume`), then try again; what was begun the poll goes on with."


class Undoing:
    """The steps of undoing or redoing a merge, and of giving one up."""

    def __init__(
        self,
        tables: MergeTables,
        order: UndoOrder,
        switch: PauseSwitch,
        deactivation: Deactivation,
        publisher: Publisher,
    ) -> None:
        self._tables, self._order, self._switch = tables, order, switch
        self._deactivation, self._publisher = deactivation, publisher
        self._journal, self._settings = tables.resources.journal, tables.resources.settings

    def check(self, merge: Merge, action: str) -> None:
        """Whether the action makes sense now.

        :raises InvalidRequest: it does not; the remedy names what to do first.
        """
        self._order.check(merge, action)

    def run(
        self, merge_id: uuid.UUID, action: str = "undo", publish: bool = True, by: str = "", reason: str = ""
    ) -> UndoneAnswer:
        """Undo (or redo) from beginning to end, as the DAG does it task by task; calling again goes on."""
        merge, note = self._begin(merge_id, action, by, reason)
        together = Together(Known(self._journal, merge), Endings(self._journal))
        for rule in self._tables.undone_rules(merge):
            self.table(merge_id, rule.table, together=together)
        ended = together.ended(self._guard(merge).fence)
        if ended is None:
            for rule in self._tables.undone_rules(merge):  # each says why its log could not be ended, or ends it
                self.table(merge_id, rule.table)
        return {**undo_answer(merge, note, proceed=True), **self.finish(merge_id, publish, ended)}

    # --- the steps ----------------------------------------------------------------------------------------------------
    def begin(self, merge_id: uuid.UUID, action: str, by: str = "", reason: str = "") -> UndoAnswer:
        """Take the accounts and close the merge's logs, so that none of its writers can go on; may be repeated.

        :param by: the person who asks; the note of the merge says so, with the reason.
        :raises InvalidRequest: see `check`; another open merge holds an account; or it is a redo and merging is stopped.
            Nothing was changed.
        """
        merge, words = self._begin(merge_id, action, by, reason)
        return undo_answer(merge, words, proceed=True)

    def _begin(self, merge_id: uuid.UUID, action: str, by: str, reason: str) -> tuple[Merge, str]:
        """Do what `begin` does; return the merge as it is then, and what is to be said of it."""
        under_way, ends, _ = ACTIONS[action]
        merge = self._journal.need(merge_id)
        if merge.state == ends and (action == "undo" or merge.operation):
            return merge, f"the merge is {merge.state}: nothing is written"
        self._may_merge(merge, action)
        note = f"{action} by {by or 'somebody'}" + (f": {reason}" if reason else "")
        with self._journal.transaction():
            merge = self._journal.lock(merge_id)
            # What is checked holds until the accounts are this merge's: nobody else can take, complete or undo meanwhile.
            self._take(merge, lambda: self.check(merge, action))
            if merge.state != under_way:
                clean = dict.fromkeys(("error_code", "error", "remedy", "resume"))
                named = {"operation": operation_name(merge, action), "note": as_note(note)}
                merge = self._move(merge, under_way, **named, **clean)
                self._journal.join(merge_id, merge_id, merge.target, "target", named["operation"])
        for one in (merge, *self.settles(merge)):
            logs = [log for rule in self._tables.undone_rules(merge) for log in self._tables.logs(one, rule)]
            close_all(self._journal, logs)
        return merge, ""

    def _may_merge(self, merge: Merge, action: str) -> None:
        """Refuse a redo (`STOPPED`) while the kill switch stops merging: a redo merges. An undo stays allowed."""
        stop = self._switch.stop_for(merge) if action == "redo" else None
        if stop is not None:
            raise InvalidRequest("STOPPED", f"no redo of merge {merge.merge_id}: {stop.note}", REMEDY_STOPPED)

    def attend(self, merge_id: uuid.UUID, run_id: str) -> None:
        """Note which run does the undo, so that the poll sees when no run does it any more.

        :raises InvalidRequest: the poll has given the undo another run; this one does nothing any more.
        """
        for _ in range(10):
            merge = self._journal.need(merge_id)
            if merge.state not in TAKING_BACK or merge.run_ids[-1:] == (run_id,):
                return
            if merge.run_ids and merge.run_ids[-1].startswith(f"{TAKING_BACK[merge.state]}__{merge_id}"):
                check_run(merge, run_id)
            others = [known for known in merge.run_ids if known != run_id]
            if self._journal.change(merge, run_ids=[*others, run_id]):
                return
        raise busy(merge_id)

    def _take(self, merge: Merge, check: Callable[[], None]) -> None:
        """Take the accounts of a merge, if it may be undone or redone now that they cannot change hands any more."""
        roles = {**dict.fromkeys(merge.request.sources, "source"), merge.target: "target"}
        blocked = self._journal.take(merge, lambda: roles, moves_rows=False)
        check()
        if blocked is not None:
            raise InvalidRequest(
                "ACCOUNT_HELD",
                f"merge {merge.merge_id}: account {blocked.account} is held by merge {blocked.by.merge_id}, which is "
                f"{blocked.by.state}",
                "Wait until that merge is done, or put it right first; then try again.",
            )

    def _digests(self, merge: Merge, found: Ends | None = None) -> dict[str, bytes]:
        """Return what the row of a merge that is closed remembers of its logs. :param found: their ends, where they are known."""
        tables, rules = self._tables, self._tables.rules(merge)
        logs = (*(log for rule in rules for log in tables.logs(merge, rule)), *tables.undo_logs(merge, rules))
        names = (log.table for log in (*logs, *self._deactivation.logs(merge)))
        return digests(ends(self._journal, merge.merge_id) if found is None else found, names)

    def preview(self, merge: Merge, action: str, rule: TableRule) -> Iterator[tuple[str, Iterator[Change]]]:
        """Yield (log name, changes) that the action would make in one table; nothing is written."""
        asked = replace(merge, state=ACTIONS[action][0], operation=operation_name(merge, action))
        for work in self._tables.undo_works(TableJob(asked, rule), planned=True):
            yield work.log.table, (change for change, _ in work.plan())

    def table(
        self, merge_id: uuid.UUID, table: str, progress: Progress | None = None, together: Together | None = None
    ) -> TableAnswer:
        """Bring one table's rows to what they are without the merge (or with it again), or go on where a try stopped.

        :param together: what this process knows of the merge from the tables before.
        """
        known, endings = (together.known, together.endings) if together else (None, None)
        merge, rule = known.about if known else self._journal.need(merge_id), rule_for(table)
        if merge.state not in (State.UNDOING, State.REDOING):
            return table_answer(merge, table, {}, f"the merge is {merge.state}: nothing is written")
        if rule not in self._tables.rules(merge):
            return table_answer(merge, table, {}, "not among the tables of this merge, or not in this cluster")
        counts: dict[str, int] = {}
        job = TableJob(merge, rule, self._guard(merge), progress or untold, known, endings)
        for work in self._tables.undo_works(job):
            for name, number in work.run().items():
                counts[name] = counts.get(name, 0) + number
        return table_answer(merge, table, counts, "" if counts else "the merge touched no row here")

    def _guard(self, merge: Merge) -> Guard:
        def permit(found: Merge) -> None:
            redoes = (found.state, found.operation) == (State.REDOING, merge.operation)
            stop = self._switch.stop_for(merge) if redoes else None
            if stop is not None:
                raise TransientError(
                    "STOPPED", f"the redo of merge {merge.merge_id} stops: {stop.note}", REMEDY_STOPPED
                )

        return still(self._journal, merge, "this stops here", permit, stoppable=merge.state == State.REDOING)

    def settles(self, merge: Merge) -> list[Merge]:
        """Return the standing settles of a merge: its undo takes them back as well."""
        return settles_of(Known(self._journal, merge), merge)

    def finish(self, merge_id: uuid.UUID, publish: bool = True, ended: Ends | None = None) -> UndoneAnswer:
        """Publish the target's sync events once more and end the undo (or redo); may be repeated.

        :param ended: log name -> end, where this process ended all of them.
        :raises MergeError: a table is not done yet.
        """
        merge = self._journal.need(merge_id)
        if merge.state not in (State.UNDOING, State.REDOING):
            return {**undo_answer(merge, f"the merge is {merge.state}: nothing to end", proceed=False), "sent": 0}
        found = ends(self._journal, merge_id) if ended is None else ended
        for rule in self._tables.rules(merge):
            for log in self._tables.operation_logs(merge, rule, merge.operation or ""):
                if log.table not in found or found[log.table].kind != EntryKind.END:
                    raise MergeError(
                        "TABLE_NOT_UNDONE", f"merge {merge_id}: {rule.table} is not done yet", "Clear its task."
                    )
        sent = 0
        if publish:
            again = uuid.uuid5(merge_id, merge.operation or "")
            places = self._tables.skipped.enrolments(merge, f"{merge.operation}/")
            sent = self._publisher.publish(sync_events(again, merge.target, places, self._settings, opened_ms(merge)))
        guard, note = self._guard(merge), {}
        if merge.state == State.REDOING:
            self._deactivation.run(merge, guard, merge.operation or "")
        elif left := self._deactivation.take_back(merge, guard):
            note = {"note": as_note(f"{merge.note or ''}; {'; '.join(left)}".strip("; "))}
        state = State.UNDONE if merge.state == State.UNDOING else State.COMPLETED
        if state == State.UNDONE:
            for child in self.settles(merge):
                self._end_with(child, merge)
        settles = first_settle(merge, self._settings) if state == State.COMPLETED else {}
        known = None if self._deactivation.accounts(merge) else found  # which has logs of its own
        merge = self._move(merge, state, digests=self._digests(merge, known), **note, **settles)
        return {**undo_answer(merge, "", proceed=True), "sent": sent}

    def _end_with(self, child: Merge, merge: Merge) -> None:
        """End a settle with its parent, whose undo has already taken back what the settle brought."""
        note = f"undone with merge {merge.merge_id}"
        undoing = child if child.state == State.UNDOING else self._move(child, State.UNDOING, note=note)
        self._move(undoing, State.UNDONE, digests=self._digests(undoing))

    def _move(self, merge: Merge, state: State, **columns: Any) -> Merge:
        moved = self._journal.moved(merge, state, **columns)
        if moved is None:
            raise busy(merge.merge_id)
        return moved

    # --- giving up ------------------------------------------------------------------------------------------------
    def abandon(self, merge_id: uuid.UUID, reason: str) -> UndoAnswer:
        """Give a merge up without restoring: its rows stay, totals that arrived stay counted, its accounts are free.

        It needs nothing that failed. A worker that works on the merge stops before its next entry.

        :raises InvalidRequest: it is closed already, or is being undone.
        :raises TransientError: a server does not answer, and writes that were sent to it may still arrive; try again.
        """
        merge = self._journal.need(merge_id)
        if merge.state == State.ABANDONED:
            return undo_answer(merge, "the merge is abandoned already", proceed=False)
        self.check(merge, "abandon")
        if merge.state in TAKING_BACK:
            return self._end_half_way(merge, reason)
        if merge.state == State.RUNNING:
            # Nothing resumes a merge that is paused without a switch: from here on no worker appends.
            merge = self._move(merge, State.PAUSED, note=as_note(f"stopped to be abandoned: {reason}"), resume=None)
        words = [f"abandoned: {reason}"]
        if merge.state in RESUMABLE:
            words += self._give_up(merge)
        note = as_note("; ".join(words))
        given_up = self._move(merge, State.ABANDONED, note=note, resume=None, digests=self._digests(merge))
        return undo_answer(given_up, note, proceed=False)

    def _end_half_way(self, merge: Merge, reason: str) -> UndoAnswer:
        """Give up an undo or redo: the merge counts as undone, and its shares that stay in rows become a merge of their own.

        Closing the logs stops a worker that works on it. May be repeated.
        """
        words = [f"{TAKING_BACK[merge.state]} given up: {reason}"]
        remains = open_remains(self._journal, merge)
        stays = 0
        for rule in self._tables.undone_rules(merge):
            job = TableJob(merge, rule, self._guard(merge))
            for number, work in enumerate(self._tables.undo_works(job)):
                if work.give_up() is None:
                    words.append(f"{rule.table} cannot be read: what its last entry says counts as done")
                if number == 0:
                    named = replace(job, merge=remains)
                    rows = Remains(self._tables.resources, named, work.log, self._tables.past(merge, rule))
                    stays += sum(rows.run().values())
                    rows.log.close()
        words.append(
            f"{stays} rows could not be taken back: merge {remains.merge_id} names them, undo that one later"
            if stays
            else "nothing of it stays in the target's rows"
        )
        for child in self.settles(merge):
            self._end_with(child, merge)
        merge = self._move(merge, State.UNDONE, note=as_note("; ".join(words)), digests=self._digests(merge))
        return undo_answer(merge, "; ".join(words), proceed=False)

    def _give_up(self, merge: Merge) -> Iterator[str]:
        """Close the logs of a merge as they are; yield what people should know about it."""
        for rule in self._tables.undone_rules(merge):
            for work in self._tables.works(TableJob(merge, rule, self._guard(merge))):
                left = work.give_up()
                if left:
                    yield f"{left} rows of {rule.table} are not as its log says: that counts as not handed on"
                elif left is None:
                    yield (
                        f"{rule.table} cannot be read: the rows of its log's last entry count as handed on; if they did not "
                        "arrive, their totals are missing"
                    )
