"""The operations on merges: open, admit, merge a table, publish, fail, preview, report. The only orchestration.

Airflow's tasks, the command line and the tests all call these; each may be called again at any time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from account_merge import coverage, leases
from account_merge.codec import Codec
from account_merge.coverage import Coverage
from account_merge.engine import Progress, Tables
from account_merge.errors import InvalidRequest
from account_merge.failures import Failures
from account_merge.inbox import Inbox
from account_merge.journal import Journal
from account_merge.log import Log
from account_merge.merging import Merging, table_answer
from account_merge.model import Merge, MergeRequest
from account_merge.report import Report, TableReport, row_of, rows_of
from account_merge.requests import check_request
from account_merge.rules import RULES, TABLES, TableRule, rule_for
from account_merge.schema import detect
from account_merge.settings import Settings
from account_merge.store import Store, connect
from account_merge.topics import Topics

NAMESPACE = uuid.UUID("6f0a7f0e-5b0d-5c33-9f3e-2f1c8f0c9d11")
_RESUMABLE = frozenset({"failed", "paused", "needs_attention"})


class Service:
    """Opens Cassandra and Kafka when first needed, and closes what it opened."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; the service may not be used afterwards."""
        if "_connection" in self.__dict__:
            self._connection[0].shutdown()
        if "topics" in self.__dict__:
            self.topics.close()

    @cached_property
    def _connection(self) -> Any:
        return connect(self.settings)

    @cached_property
    def topics(self) -> Topics:
        """The platform's topics."""
        return Topics(self.settings)

    @cached_property
    def journal(self) -> Journal:
        """Our own tables."""
        return Journal(self._connection[1], self.settings)

    @cached_property
    def store(self) -> Store:
        """Learners' tables."""
        return Store(self._connection[1], self.settings)

    @cached_property
    def failures(self) -> Failures:
        """Failed events."""
        return Failures(self.journal, lambda: self.topics, self.settings)

    @cached_property
    def inbox(self) -> Inbox:
        """From the topic to merges that can start."""
        return Inbox(self.journal, lambda: self.topics, self.failures, self.settings)

    @cached_property
    def tables(self) -> Tables:
        """The rules' tables as this cluster has them."""
        session, settings = self._connection[1], self.settings
        found = {r.table: detect(session, r, settings.keyspace(r.keyspace), settings.table(r.table)) for r in RULES}
        return Tables({table: schema for table, schema in found.items() if schema is not None})

    @cached_property
    def merging(self) -> Merging:
        """The steps of a merge."""
        gate = (lambda: self.coverage().need_known()) if self.settings.unknown_tables == "block" else (lambda: None)
        return Merging(self.store, self.journal, self.tables, self.failures, lambda: self.topics, self.settings, gate)

    def coverage(self) -> Coverage:
        """Which tables with user ids the rules know."""
        return coverage.look(self._connection[1], self.settings, self.tables)

    # --- opening --------------------------------------------------------------------------------------------------
    def create_journal(self) -> None:
        """Makes our keyspace and tables where they are missing."""
        self.journal.create()

    @staticmethod
    def request_id(run_id: str, sources: Iterable[str], target: str) -> uuid.UUID:
        """The merge id of a run that a person triggered: the same for the same run, however often it is cleared."""
        return uuid.uuid5(NAMESPACE, "\n".join([run_id, *sorted(sources), target]))

    def open_merge(self, request: MergeRequest, merge_id: uuid.UUID | None = None, position: str = "") -> uuid.UUID:
        """Writes the merge into the journal, once.

        :param merge_id: of an event or a run; a bad request is then written as refused and owes a failed event.
        :raises InvalidRequest: the request cannot be a merge.
        """
        try:
            request = check_request(request, self.settings)
        except InvalidRequest as error:
            if merge_id is not None:
                self.journal.open(merge_id, request, position, "refused", error)
            raise
        merge_id = merge_id or self.request_id(str(uuid.uuid4()), request.sources, request.target)
        self.journal.open(merge_id, request, position)
        return merge_id

    def admit(self, merge_id: uuid.UUID, run_id: str = "") -> dict[str, Any]:
        """Takes the leases and moves the merge to running, or says why it cannot be merged now."""
        return self.merging.admit(merge_id, run_id)

    def merge_table(self, merge_id: uuid.UUID, table: str, progress: Progress | None = None) -> dict[str, Any]:
        """Plans, logs, applies and verifies one table, or goes on where an earlier try stopped."""
        return self.merging.merge_table(merge_id, table, progress)

    def publish_sync(self, merge_id: uuid.UUID, publish: bool = True) -> dict[str, Any]:
        """Publishes the sync events, every delivery checked, and completes the merge."""
        return self.merging.publish_sync(merge_id, publish)

    def fail(self, merge_id: uuid.UUID, run_id: str, error: BaseException | str) -> dict[str, Any]:
        """Records that a run failed and publishes its failed event, once; safe to repeat from any callback."""
        return self.failures.fail(merge_id, run_id, error)

    # --- the inbox ------------------------------------------------------------------------------------------------
    def look(self) -> dict[str, int]:
        """Is there anything to do? Consumes nothing."""
        return self.inbox.look()

    def claim_events(self, limit: int = 1000) -> dict[str, int]:
        """Takes messages of the merge topic into the journal, then commits their offsets."""
        return self.inbox.claim(limit)

    def choose_merges(self, run_state: Callable[[str], str | None], limit: int = 1024) -> list[dict[str, Any]]:
        """The runs to start now, oldest merge first; each merge is moved to started."""
        return self.inbox.choose(run_state, limit)

    def report_failures(self, run_state: Callable[[str], str | None]) -> dict[str, int]:
        """Publishes each failed event that is still owed."""
        return self.failures.sweep(run_state)

    # --- looking --------------------------------------------------------------------------------------------------
    def _previewed(self, request: MergeRequest) -> Merge:
        request = check_request(request, self.settings)
        merge_id = self.request_id("preview", request.sources, request.target)
        merge = Merge(
            merge_id, "preview", 0, request, None, None, None, None, None, None, "none", 1, None, {}, (), None, None, None, None
        )  # fmt: skip
        from dataclasses import replace

        return replace(merge, survivor=leases.check_survivors(self.journal, merge))

    def preview_table(self, request: MergeRequest, table: str) -> dict[str, Any]:
        """Counts of what a merge would do in one table; nothing is written."""
        report = self._preview(self._previewed(request), rule_for(table))
        counts: dict[str, int] = {}
        for row in report.rows:
            counts[row["what"]] = counts.get(row["what"], 0) + 1
        note = "; ".join(filter(None, ("preview: nothing was written", report.note)))
        return table_answer(self._previewed(request), table, counts, note)

    def preview(self, request: MergeRequest) -> Report:
        """What a merge would do; nothing is written anywhere."""
        merge = self._previewed(request)
        return Report(merge, tuple(self._preview(merge, rule) for rule in RULES), True, self.coverage().summary())

    def _preview(self, merge: Merge, rule: TableRule) -> TableReport:
        schema = self.tables.of(rule)
        if schema is None or rule.table not in (merge.request.tables or TABLES):
            return TableReport(
                rule.table, "not among the tables of this merge" if schema else "this cluster has no such table"
            )
        work = self.merging.work(merge, rule)
        note = work.remarks(change for change, _ in work.plan())
        return TableReport(rule.table, note, {}, (row_of(change, schema) for change, _ in work.plan()))

    def report(self, merge_id: uuid.UUID) -> Report:
        """What a merge did, from its log."""
        merge = self.journal.need(merge_id)
        tables = []
        for rule in RULES:
            schema = self.tables.of(rule)
            if schema is None:
                tables.append(TableReport(rule.table, "this cluster has no such table"))
                continue
            log = Log(self.journal, merge_id, rule.table, Codec(schema))
            counts, note = log.summary()
            tables.append(TableReport(rule.table, note, counts, rows_of(log.entries(), schema)))
        return Report(merge, tuple(tables), coverage=self.coverage().summary())
