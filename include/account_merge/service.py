"""The operations on merges: open, admit, merge a table, publish, fail, preview, report. The only orchestration.

Airflow's tasks, the command line and the tests all call these; each may be called again at any time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from account_merge import leases
from account_merge.codec import Codec
from account_merge.engine import Progress, SourceRows, TableMerge, Tables
from account_merge.errors import InvalidRequest, MergeError, NeedsAttention, TransientError
from account_merge.events import sync_events
from account_merge.failures import Failures
from account_merge.inbox import Inbox
from account_merge.journal import Journal
from account_merge.log import Log
from account_merge.model import Key, Merge, MergeRequest
from account_merge.report import Report, TableReport, row_of, rows_of
from account_merge.requests import check_request
from account_merge.rules import RULES, TABLES, TableRule, rule_for, rules_hash
from account_merge.schema import detect
from account_merge.settings import Settings
from account_merge.states import CLOSED
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
        session, keyspace = self._connection[1], self.settings.courses_keyspace
        found = {r.table: detect(session, r, keyspace, self.settings.table(r.table)) for r in RULES}
        return Tables({table: schema for table, schema in found.items() if schema is not None})

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

        :raises InvalidRequest: the request cannot be a merge; nothing is written.
        """
        request = check_request(request, self.settings)
        merge_id = merge_id or self.request_id(str(uuid.uuid4()), request.sources, request.target)
        self.journal.open(merge_id, request, position)
        return merge_id

    def admit(self, merge_id: uuid.UUID, run_id: str = "") -> dict[str, Any]:
        """Takes the leases and moves the merge to running, or says why it cannot be merged now.

        :raises InvalidRequest: the merge can never be done as asked; it is refused in the journal.
        """
        for _ in range(10):
            merge = self.journal.need(merge_id)
            if merge.state in CLOSED:
                done = merge.state == "completed"
                return self._answer(merge, proceed=done, note=f"the merge is {merge.state}: nothing is written")
            if merge.state in ("proposed", "undoing", "redoing"):
                return self._answer(merge, proceed=False, note=f"the merge is {merge.state}: nothing to do here")
            runs = {"run_ids": [*merge.run_ids, run_id]} if run_id and run_id not in merge.run_ids else {}
            if merge.state in ("requested", "waiting"):
                self.journal.move(merge, "started", attempt=merge.attempt + 1, **runs)
                continue
            answer = self._admit(merge, runs)
            if answer is not None:
                return answer
        raise TransientError("BUSY", f"merge {merge_id} changes state too often", "The task is tried again.")

    def _admit(self, merge: Merge, runs: dict[str, Any]) -> dict[str, Any] | None:
        try:
            admission = leases.take(self.journal, merge)
        except InvalidRequest as error:
            if merge.state == "started":
                self.failures.record(merge, error, "refused")
            raise
        if admission.blocked_by is not None:
            if merge.state != "started":
                raise NeedsAttention(
                    "LEASE_LOST",
                    f"merge {merge.merge_id} is {merge.state}, but account {admission.blocked_account} is held by merge "
                    f"{admission.blocked_by.merge_id}",
                    "Finish or abandon that merge first, then clear this one.",
                )
            holder = admission.blocked_by.merge_id
            note = f"waits for account {admission.blocked_account}, which merge {holder} holds"
            self.journal.move(
                merge, "waiting", waiting_for=admission.blocked_account, waiting_holder=holder, note=note, **runs
            )
            return self._answer(self.journal.need(merge.merge_id), proceed=False, note=note)
        columns: dict[str, Any] = {"survivor": admission.survivor, "waiting_for": None, "waiting_holder": None, **runs}
        columns["rules_hash"] = merge.rules_hash or rules_hash()
        if admission.survivor != merge.request.target:
            columns["note"] = (
                f"account {merge.request.target} was itself merged: the history goes to {admission.survivor}"
            )
        if not self._to_running(merge, **columns):
            return None
        self._skip_entry(self.journal.need(merge.merge_id))
        return self._answer(self.journal.need(merge.merge_id), proceed=True)

    def _to_running(self, merge: Merge, **columns: Any) -> bool:
        """Moves to running; a failure that was reported arms the next failed event."""
        if merge.failed_event == "sent" and merge.state != "running":
            columns.update(failed_event="none", failed_number=merge.failed_number + 1)
        if merge.state != "running":
            columns.update(error_code=None, error=None, remedy=None)
        return self.journal.move(merge, "running", **columns)

    @staticmethod
    def _answer(merge: Merge, proceed: bool, note: str = "") -> dict[str, Any]:
        note = note or merge.note or ""
        return {"merge_id": str(merge.merge_id), "state": merge.state, "note": note, "proceed": proceed}

    # --- on_conflict: skip ----------------------------------------------------------------------------------------
    def _skip_log(self, merge: Merge) -> Log | None:
        rule = next(r for r in RULES if r.enrolments)
        schema = self.tables.of(rule)
        return None if schema is None else Log(self.journal, merge.merge_id, "skip", Codec(schema))

    def _skip_entry(self, merge: Merge) -> None:
        """With `skip`: the courses and batches that the target already had, written once; every table obeys it."""
        log = self._skip_log(merge) if merge.request.on_conflict == "skip" else None
        if log is None or log.last() is not None:
            return
        rule = next(r for r in RULES if r.enrolments)
        schema = self.tables.schemas[rule.table]
        keys = [row.key for row in self.store.rows(schema, merge.survivor or merge.request.target)]
        codec = Codec(schema)
        log.append(0, "skip", None, 0, [codec.key(key) for key in keys], {"pairs": len(keys)})

    def _skip(self, merge: Merge, rule: TableRule) -> Callable[[Key], bool]:
        if merge.request.on_conflict != "skip":
            return lambda key: False
        log = self._skip_log(merge)
        pairs = frozenset(log.keys(0)) if log else frozenset()
        return lambda key: rule.place(key) in pairs

    # --- merging --------------------------------------------------------------------------------------------------
    def _table_merge(self, merge: Merge, rule: TableRule, progress: Progress | None = None) -> TableMerge:
        earlier = frozenset().union(*(self.journal.gave(s) for s in merge.request.sources))

        def guard() -> None:
            state = self.journal.need(merge.merge_id).state
            if state != "running":
                raise NeedsAttention(
                    "NOT_RUNNING",
                    f"merge {merge.merge_id} became {state} meanwhile: {rule.table} stops here",
                    "See its report.",
                )

        return TableMerge(
            self.store,
            self.journal,
            self.settings,
            self.tables,
            rule,
            merge,
            earlier,
            guard,
            self._skip(merge, rule),
            progress,
        )

    def merge_table(self, merge_id: uuid.UUID, table: str, progress: Progress | None = None) -> dict[str, Any]:
        """Plans, logs, applies and verifies one table, or goes on where an earlier try stopped.

        :raises MergeError: recorded in the journal first.
        """
        rule = rule_for(table)
        merge = self.journal.need(merge_id)
        with self._recording(merge):
            if merge.state in _RESUMABLE:
                self._to_running(merge)
                merge = self.journal.need(merge_id)
            note = self._why_not(merge, rule)
            if note or self.tables.of(rule) is None:
                return self._table_answer(merge, table, {}, note or "this cluster has no such table: nothing to merge")
            work = self._table_merge(merge, rule, progress)
            if merge.state in CLOSED:
                return self._table_answer(
                    merge, table, work.log.counts(), f"the merge is {merge.state}: nothing is written"
                )
            counts = work.run()
            if merge.request.source_rows == "deactivate" and rule.deactivated:
                for account in merge.request.sources:
                    SourceRows(work, account).run()
            return self._table_answer(
                merge, table, counts, "" if counts else "the source has no rows here: nothing to merge"
            )

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
            if merge.rules_hash != rules_hash():
                raise NeedsAttention(
                    "RULES_CHANGED",
                    f"merge {merge.merge_id} was begun with other rules ({merge.rules_hash}) than this program has",
                    "Finish it with the program that began it, or repair it with the new rules.",
                )
            return ""
        return "" if merge.state in CLOSED else f"the merge is {merge.state}: only `admit` starts it"

    @staticmethod
    def _table_answer(merge: Merge, table: str, counts: dict[str, int], note: str) -> dict[str, Any]:
        kinds = ("created", "changed", "same", "folded", "ambiguous")
        return {
            "merge_id": str(merge.merge_id), "table": table, "state": merge.state, "note": note,
            **{kind: counts.get(kind, 0) for kind in kinds},
        }  # fmt: skip

    @contextmanager
    def _recording(self, merge: Merge) -> Iterator[None]:
        """Records an error in the journal before it goes on; what may pass by itself leaves the state alone."""
        try:
            yield
        except TransientError:
            raise
        except MergeError as error:
            state = "needs_attention" if isinstance(error, NeedsAttention) else "failed"
            self.failures.record(self.journal.need(merge.merge_id), error, state)
            raise

    def publish_sync(self, merge_id: uuid.UUID, publish: bool = True) -> dict[str, Any]:
        """Publishes the sync events, every delivery checked, and completes the merge.

        Of a completed merge the events go out again, with the same ids.

        :param publish: False completes without events (a merge by command line where no Kafka is).
        """
        merge = self.journal.need(merge_id)
        with self._recording(merge):
            if merge.state in _RESUMABLE:
                self._to_running(merge)
                merge = self.journal.need(merge_id)
            if merge.state not in ("running", "completed"):
                return {**self._answer(merge, False, f"the merge is {merge.state}: no events"), "sent": 0}
            self._need_all_tables(merge)
            sent = 0
            if publish:
                target = merge.survivor or merge.request.target
                moment = merge.created_at.timestamp() if merge.created_at else 0
                events = sync_events(merge_id, target, self._enrolments(merge), self.settings, int(moment * 1000))
                sent = self.topics.publish(events)
            while merge.state == "running" and not self.journal.move(merge, "completed", sync_sent=sent):
                merge = self.journal.need(merge_id)
            merge = self.journal.need(merge_id)
            return {**self._answer(merge, True, "" if publish else "sync events were not published"), "sent": sent}

    def _need_all_tables(self, merge: Merge) -> None:
        for rule in RULES:
            schema = self.tables.of(rule)
            if schema is None or rule.table not in (merge.request.tables or TABLES):
                continue
            last = Log(self.journal, merge.merge_id, rule.table, Codec(schema)).last()
            if last is None or last.kind != "end":
                raise MergeError(
                    "TABLE_NOT_MERGED",
                    f"merge {merge.merge_id}: {rule.table} is not merged yet",
                    f"Clear its task merge_{rule.table}.",
                )

    def _enrolments(self, merge: Merge) -> Iterator[tuple[str, str]]:
        rule = next(r for r in RULES if r.enrolments)
        schema = self.tables.of(rule)
        if schema is None:
            return
        if self.settings.sync_scope == "touched":
            log = Log(self.journal, merge.merge_id, rule.table, Codec(schema))
            touched = {c.key for entry in log.entries() for c in entry.changes if c.writes or c.create}
            yield from (rule.place(key) for key in sorted(touched))
            return
        for row in self.store.rows(schema, merge.survivor or merge.request.target):
            yield rule.place(row.key)

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
        return self._table_answer(
            self._previewed(request), table, counts, report.note or "preview: nothing was written"
        )

    def preview(self, request: MergeRequest) -> Report:
        """What a merge would do; nothing is written anywhere."""
        merge = self._previewed(request)
        return Report(merge, tuple(self._preview(merge, rule) for rule in RULES), preview=True)

    def _preview(self, merge: Merge, rule: TableRule) -> TableReport:
        schema = self.tables.of(rule)
        if schema is None or rule.table not in (merge.request.tables or TABLES):
            return TableReport(
                rule.table, "not among the tables of this merge" if schema else "this cluster has no such table"
            )
        work = self._table_merge(merge, rule)
        return TableReport(rule.table, "", {}, (row_of(change, schema) for change, _ in work.plan()))

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
            tables.append(TableReport(rule.table, "", log.counts(), rows_of(log.entries(), schema)))
        return Report(merge, tuple(tables))
