"""Merging: one table at a time, then completion. Each step may be repeated at any time by anybody."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from account_merge.engine.known import Known
from account_merge.engine.merge_tables import MergeTables, asked_for
from account_merge.engine.resources import Progress, TableJob, untold
from account_merge.engine.skipped import opened_ms
from account_merge.errors import MergeError, NeedsAttention
from account_merge.journal import now
from account_merge.journal.fence import Fence
from account_merge.journal.log_ends import Endings, Ends, digests, ends
from account_merge.journal.merges import CHILDREN, next_settle
from account_merge.lifecycle.admission import Admission, Admitted
from account_merge.lifecycle.answers import MergeAnswer, PublishAnswer, TableAnswer, merge_answer, table_answer
from account_merge.lifecycle.deactivation import Deactivation
from account_merge.lifecycle.failures import Failures
from account_merge.lifecycle.guards import still
from account_merge.lifecycle.pause_switch import Paused, PauseSwitch
from account_merge.lifecycle.together import Together
from account_merge.model import Merge
from account_merge.rules import RULES, TableRule, rule_for, rules_hash
from account_merge.settings import Settings
from account_merge.states import CLOSED, RESUMABLE, EntryKind, State
from account_merge.sunbird.events import sync_events
from account_merge.sunbird.few_rows import FewRows
from account_merge.sunbird.publishing import Publisher

#: A log that has ended stays so: what comes to a source later is late, in whichever table.
NO_ROWS = "the source has no rows here: nothing to merge; a settle or repair moves those that come later"


class Merging:
    """The steps of one merge after its admission."""

    def __init__(
        self,
        tables: MergeTables,
        admission: Admission,
        failures: Failures,
        switch: PauseSwitch,
        deactivation: Deactivation,
        publisher: Publisher,
    ) -> None:
        self._tables, self._admission, self._failures = tables, admission, failures
        self._switch, self._deactivation, self._publisher = switch, deactivation, publisher
        self._journal, self._settings = tables.resources.journal, tables.resources.settings

    def run(
        self,
        merge_id: uuid.UUID,
        run_id: str = "",
        publish: bool = True,
        told: Callable[[TableAnswer], None] = lambda answer: None,
        follow: Callable[[str], Progress] = lambda table: untold,
    ) -> MergeAnswer:
        """Do a whole merge from admission to completion, as the per-merge DAG does it, and record what fails.

        :param publish: see `publish_sync`.
        :param told: gets the answer of each table.
        :param follow: table -> function that gets the number of its rows that are done.
        :returns: the answer of the last step; `proceed` is whether the merge is completed.
        :raises MergeError: of the first step that fails.
        """
        try:
            return self.steps(merge_id, run_id, publish, told, follow)
        except MergeError as error:
            with suppress(MergeError):  # the journal does not answer: the first error tells more
                self._failures.record(self._journal.need(merge_id), error, State.FAILED)
            raise

    def steps(
        self,
        merge_id: uuid.UUID,
        run_id: str = "",
        publish: bool = True,
        told: Callable[[TableAnswer], None] = lambda answer: None,
        follow: Callable[[str], Progress] = lambda table: untold,
    ) -> MergeAnswer:
        """Do what `run` does; when a server is away the merge stays as it is, for whoever calls this again.

        :raises MergeError: as `run`; recorded where calling again cannot help.
        """
        admitted = self._admission.begin(merge_id, run_id)
        answer = admitted.answer if isinstance(admitted, Admitted) else admitted
        if not answer["proceed"]:
            return answer
        together = self._together(admitted) if isinstance(admitted, Admitted) else None
        for rule in RULES:
            done = self.merge_table(merge_id, rule.table, follow(rule.table), together)
            told(done)
            if not done["proceed"]:
                return merge_answer(self._journal.need(merge_id), False, done["note"])
        ended = together.ended(Fence.around(together.known.about, stoppable=True)) if together else None
        if together and ended is None:  # another worker ended one of them, or nothing may be written: each says which
            for rule in RULES:
                done = self.merge_table(merge_id, rule.table)
                if not done["proceed"]:
                    return merge_answer(self._journal.need(merge_id), False, done["note"])
        published = self.publish_sync(merge_id, publish, ended)
        note = answer["note"] if published["proceed"] else published["note"]
        return {**answer, "state": published["state"], "note": note, "proceed": published["proceed"]}

    def _enter(self, merge_id: uuid.UUID) -> Merge:
        """Return the merge as a task finds it. A failed one goes on; only `admit` lets a paused one go on.

        :raises Paused: nothing may be written now.
        """
        merge, stop = self._switch.look(merge_id)
        if merge.state not in CLOSED:
            self._switch.check_seen(merge, stop, asked=True)
        if merge.state not in RESUMABLE:
            return merge
        return self._admission.to_running(merge, anew=False) or self._journal.need(merge_id)

    def _together(self, admitted: Admitted) -> Together:
        merge = admitted.merge
        ahead = FewRows(rule.table for rule in self._tables.rules(merge))
        return Together(Known(self._journal, merge, ahead, admitted.begun), Endings(self._journal))

    def merge_table(
        self, merge_id: uuid.UUID, table: str, progress: Progress | None = None, together: Together | None = None
    ) -> TableAnswer:
        """Plan, log, apply and verify one table, or go on where an earlier try stopped.

        :param together: what this process knows of the merge from the tables before.
        :raises MergeError: recorded in the journal first.
        """
        try:
            return self._merge_table(merge_id, rule_for(table), progress or untold, together)
        except Paused as paused:
            return table_answer(self._journal.need(merge_id), table, {}, str(paused), proceed=False)

    def _merge_table(
        self, merge_id: uuid.UUID, rule: TableRule, progress: Progress, together: Together | None
    ) -> TableAnswer:
        known = together.known if together else Known(self._journal, self._enter(merge_id))
        merge, table = known.about, rule.table
        with self._failures.recording(merge):
            if note := self._why_not(merge, rule):
                return table_answer(merge, table, {}, note)
            guard = still(self._journal, merge, f"{table} stops here", self._switch.check)
            endings = together.endings if together else None
            target, *sources = self._tables.works(TableJob(merge, rule, guard, progress, known, endings))
            if merge.state in CLOSED:
                return table_answer(
                    merge, table, target.log.counts(), f"the merge is {merge.state}: nothing is written"
                )
            if merge.rules_hash != rules_hash():
                target.complete_logged()
                raise NeedsAttention(
                    "RULES_CHANGED",
                    f"merge {merge.merge_id} was begun with other rules ({merge.rules_hash}) than this program has; what "
                    f"its log of {rule.table} holds is written, nothing more is planned",
                    "Replay it by its id: what is left is planned by today's rules. Or undo or abandon it.",
                )
            counts = target.run()
            note = "" if counts else NO_ROWS
            for source in sources:
                source.run()
            return table_answer(merge, table, counts, "; ".join(filter(None, (note, target.note))))

    def _why_not(self, merge: Merge, rule: TableRule) -> str:
        if merge.state in CLOSED | {State.RUNNING}:
            return self._out_of_reach(merge, rule)
        return f"the merge is {merge.state}: only `admit` starts it"

    def _out_of_reach(self, merge: Merge, rule: TableRule) -> str:
        """Return why a table is none of a merge's; empty when it is one."""
        if not asked_for(merge, rule):
            return "not among the tables of this merge"
        return "" if rule in self._tables.rules(merge) else "this cluster has no such table: nothing to merge"

    def publish_sync(self, merge_id: uuid.UUID, publish: bool = True, ended: Ends | None = None) -> PublishAnswer:
        """Publish the sync events, check each delivery, and complete the merge.

        The events of a completed merge go out again, with the same ids.

        :param publish: False completes without events (a merge by command line without a Kafka).
        :param ended: log name -> end, where this process ended all of them: who closes one changes the merge's state first.
        """
        try:
            merge = self._enter(merge_id)
        except Paused as paused:
            return {**merge_answer(self._journal.need(merge_id), False, str(paused)), "sent": 0}
        with self._failures.recording(merge):
            if merge.state not in (State.RUNNING, State.COMPLETED):
                return {**merge_answer(merge, False, f"the merge is {merge.state}: no events"), "sent": 0}
            found = ends(self._journal, merge_id) if ended is None else ended
            if merge.state == State.RUNNING:  # an undo has closed the logs of one that was completed and stands again
                self._need_all_tables(merge, found)
            sent = 0
            if publish:
                places = self._tables.skipped.enrolments(merge)
                events = sync_events(merge_id, merge.target, places, self._settings, opened_ms(merge))
                sent = self._publisher.publish(events)
            if merge.state == State.RUNNING and self._deactivation.accounts(merge):
                self._deactivation.run(merge)
                found = ends(self._journal, merge_id)
            logs = (log for rule in RULES for log in self._tables.logs(merge, rule))
            names = (log.table for log in (*logs, *self._deactivation.logs(merge)))
            columns = {"sync_sent": sent, "digests": digests(found, names), **first_settle(merge, self._settings)}
            while merge.state == State.RUNNING:
                merge = self._journal.moved(merge, State.COMPLETED, **columns) or self._journal.need(merge_id)
            return {**merge_answer(merge, True, "" if publish else "sync events were not published"), "sent": sent}

    def _need_all_tables(self, merge: Merge, found: Ends) -> None:
        for rule in self._tables.rules(merge):
            for log in self._tables.logs(merge, rule):
                if log.table not in found or found[log.table].kind != EntryKind.END:
                    raise MergeError(
                        "TABLE_NOT_MERGED",
                        f"merge {merge.merge_id}: {rule.table} is not merged yet",
                        f"Clear its task merge_{rule.table}.",
                    )


def first_settle(merge: Merge, settings: Settings) -> dict[str, Any]:
    """Return the columns that say when the first settle of a completed merge is due; none for a settle or repair."""
    if merge.request.origin in CHILDREN or not settings.settle_after_seconds:
        return {}
    return next_settle(settings.settle_after_seconds, 0, now())
