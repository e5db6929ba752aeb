"""Merging: one table at a time, then completion. Each step may be repeated at any time by anybody."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from account_merge.engine.history import history_of, view_of
from account_merge.engine.skipped import Places, opened_ms
from account_merge.engine.table_merge import SourceRows, TableMerge, source_log
from account_merge.engine.table_work import Progress
from account_merge.errors import MergeError, NeedsAttention
from account_merge.journal import Journal, leases, now
from account_merge.journal.encoding import Codec
from account_merge.journal.log import Log, ends
from account_merge.journal.merges import CHILDREN, next_settle
from account_merge.lifecycle.admission import Admission, merge_answer
from account_merge.lifecycle.deactivation import Deactivation, account_log
from account_merge.lifecycle.failures import Failures
from account_merge.lifecycle.pause_switch import Paused, Switch
from account_merge.model import Merge
from account_merge.rules import RULES, TABLES, TableRule, rule_for, rules_hash
from account_merge.settings import Settings
from account_merge.states import CLOSED, RESUMABLE
from account_merge.sunbird.events import sync_events
from account_merge.sunbird.kafka import Topics
from account_merge.sunbird.schema import Tables
from account_merge.sunbird.store import Store


class Merging:
    """The steps of one merge, over open connections."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        tables: Tables,
        failures: Failures,
        topics: Callable[[], Topics],
        settings: Settings,
        deactivation: Deactivation,
        gate: Callable[[], None] = lambda: None,
    ) -> None:
        self.store, self.journal, self.tables = store, journal, tables
        self.failures, self._topics, self.settings = failures, topics, settings
        self.deactivation = deactivation
        self.switch, self.places = Switch(journal), Places(store, journal, tables, settings)
        self.admission = Admission(self, gate)

    @property
    def topics(self) -> Topics:
        """The platform's topics; connects when first asked."""
        return self._topics()

    def _enter(self, merge_id: uuid.UUID) -> Merge:
        """The merge as a task finds it; one that failed goes on, one that was paused only by `admit`.

        :raises Paused: nothing may be written now.
        """
        merge = self.journal.need(merge_id)
        if merge.state not in CLOSED:
            self.switch.check(merge, asked=True)
        if merge.state in RESUMABLE:
            self.admission.to_running(merge)
        return self.journal.need(merge_id)

    # --- merging --------------------------------------------------------------------------------------------------
    def work(
        self, merge: Merge, rule: TableRule, progress: Progress | None = None, guard: Callable[[], None] | None = None
    ) -> TableMerge:
        """The work on one table of a merge; planning it writes nothing.

        :param guard: asked before each entry instead of whether the merge is running.
        """

        def running() -> None:
            found = self.journal.need(merge.merge_id)
            self.switch.check(found)
            if (state := found.state) != "running":
                raise NeedsAttention(
                    "NOT_RUNNING",
                    f"merge {merge.merge_id} became {state} meanwhile: {rule.table} stops here",
                    "See its report.",
                )

        history = history_of(self, merge, rule)
        view = view_of(self, merge, rule, history.seeding)
        return TableMerge(
            self.store, self.journal, self.settings, self.tables, rule, merge, history, view, guard or running, progress,
        )  # fmt: skip

    def merge_table(self, merge_id: uuid.UUID, table: str, progress: Progress | None = None) -> dict[str, Any]:
        """Plans, logs, applies and verifies one table, or goes on where an earlier try stopped.

        :raises MergeError: recorded in the journal first.
        """
        try:
            return self._merge_table(merge_id, rule_for(table), progress)
        except Paused as paused:
            return {**table_answer(self.journal.need(merge_id), table, {}, str(paused)), "proceed": False}

    def _merge_table(self, merge_id: uuid.UUID, rule: TableRule, progress: Progress | None) -> dict[str, Any]:
        merge, table = self._enter(merge_id), rule.table
        with self.failures.recording(merge):
            note = self._why_not(merge, rule)
            if note or self.tables.of(rule) is None:
                return table_answer(merge, table, {}, note or "this cluster has no such table: nothing to merge")
            work = self.work(merge, rule, progress)
            if merge.state in CLOSED:
                return table_answer(merge, table, work.log.counts(), f"the merge is {merge.state}: nothing is written")
            if merge.rules_hash != rules_hash():
                work.finish()
                raise NeedsAttention(
                    "RULES_CHANGED",
                    f"merge {merge.merge_id} was begun with other rules ({merge.rules_hash}) than this program has; what "
                    f"its log of {rule.table} holds is written, nothing more is planned",
                    "Finish it with the program that began it, or repair it with the new rules.",
                )
            counts = work.run()
            note = "" if counts else "the source has no rows here: nothing to merge"
            for account in self.deactivated(merge, rule):
                SourceRows(work, account).run()
            return table_answer(merge, table, counts, "; ".join(filter(None, (note, work.note))))

    @staticmethod
    def deactivated(merge: Merge, rule: TableRule) -> tuple[str, ...]:
        """The accounts whose rows of this table are set inactive."""
        asked = merge.request.source_rows == "deactivate" and rule.deactivated
        return tuple(sorted(merge.request.sources)) if asked else ()

    def account_logs(self, merge: Merge) -> Iterator[tuple[str, Callable[[str], str]]]:
        """(account, its name -> the log's name) of each log of a merge that is called by an account."""
        for rule in RULES:
            yield from ((account, partial(source_log, rule)) for account in self.deactivated(merge, rule))
        yield from ((account, account_log) for account in self.deactivation.accounts(merge))

    def logs(self, merge: Merge, rule: TableRule) -> list[Log]:
        """The logs of one table of a merge: the target's rows, then each deactivated source's."""
        schema = self.tables.of(rule)
        names = [rule.table, *(source_log(rule, account) for account in self.deactivated(merge, rule))]
        return [] if schema is None else [Log(self.journal, merge.merge_id, name, Codec(schema)) for name in names]

    def _why_not(self, merge: Merge, rule: TableRule) -> str:
        if rule.table not in (merge.request.tables or TABLES):
            return "not among the tables of this merge"
        if merge.state == "running":
            if not leases.held(self.journal, merge):
                raise NeedsAttention(
                    "LEASE_LOST",
                    f"merge {merge.merge_id} does not hold all its accounts",
                    "Clear the task `admit` of its run.",
                )
            return ""
        return "" if merge.state in CLOSED else f"the merge is {merge.state}: only `admit` starts it"

    def publish_sync(self, merge_id: uuid.UUID, publish: bool = True) -> dict[str, Any]:
        """Publishes the sync events, every delivery checked, and completes the merge.

        Of a completed merge the events go out again, with the same ids.

        :param publish: False completes without events (a merge by command line where no Kafka is).
        """
        try:
            merge = self._enter(merge_id)
        except Paused as paused:
            return {**merge_answer(self.journal.need(merge_id), False, str(paused)), "sent": 0}
        with self.failures.recording(merge):
            if merge.state not in ("running", "completed"):
                return {**merge_answer(merge, False, f"the merge is {merge.state}: no events"), "sent": 0}
            self._need_all_tables(merge)
            sent = 0
            if publish:
                target = merge.survivor or merge.request.target
                events = sync_events(merge_id, target, self.places.enrolments(merge), self.settings, opened_ms(merge))
                sent = self.topics.publish(events)
            if merge.state == "running":
                self.deactivation.run(merge)
            logs = (log for rule in RULES for log in self.logs(merge, rule))
            digests = ends((*logs, *self.deactivation.logs(merge)))
            columns = {"sync_sent": sent, "digests": digests, **self.first_settle(merge)}
            while merge.state == "running" and not self.journal.move(merge, "completed", **columns):
                merge = self.journal.need(merge_id)
            merge = self.journal.need(merge_id)
            return {**merge_answer(merge, True, "" if publish else "sync events were not published"), "sent": sent}

    def first_settle(self, merge: Merge) -> dict[str, Any]:
        """Columns of a merge that ends completed: when its first settle is due. None of a settle or repair."""
        if merge.request.origin in CHILDREN or not self.settings.settle_after_seconds:
            return {}
        return next_settle(self.settings.settle_after_seconds, 0, now())

    def _need_all_tables(self, merge: Merge) -> None:
        for rule in RULES:
            if rule.table not in (merge.request.tables or TABLES):
                continue
            for log in self.logs(merge, rule):
                last = log.last()
                if last is None or last.kind != "end":
                    raise MergeError(
                        "TABLE_NOT_MERGED",
                        f"merge {merge.merge_id}: {rule.table} is not merged yet",
                        f"Clear its task merge_{rule.table}.",
                    )


def table_answer(merge: Merge, table: str, counts: dict[str, int], note: str) -> dict[str, Any]:
    """What a table task answers: ids, counts and a note, never a learner's values; `proceed` is whether the run goes on."""
    kinds = ("created", "changed", "deleted", "same", "folded", "ambiguous")
    return {
        "merge_id": str(merge.merge_id), "table": table, "state": merge.state, "note": note, "proceed": True,
        **{kind: counts.get(kind, 0) for kind in kinds},
    }  # fmt: skip
