"""What a merge would do and what it did, as reports; nothing is written anywhere."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from account_merge.choices import Choices
from account_merge.engine.table_work import counts_of
from account_merge.errors import InvalidRequest
from account_merge.journal import leases
from account_merge.journal.log import Log
from account_merge.lifecycle.merging import Merging, table_answer
from account_merge.lifecycle.requests import check_request, request_id
from account_merge.lifecycle.undo_order import ACTIONS
from account_merge.lifecycle.undoing import Undoing
from account_merge.model import Entry, Head, Merge, MergeRequest
from account_merge.model import what as happened_to
from account_merge.reports.balance import Balance, Compared, weigh
from account_merge.reports.preflight import Beforehand, Notice
from account_merge.reports.report import Report, TableReport, jsonable, row_of, rows_of
from account_merge.rules import RULES, TABLES, TableRule, rule_for
from account_merge.states import CLOSED
from account_merge.sunbird.schema import TableSchema

#: Why a table is left out.
NOT_CHOSEN, NO_TABLE = "not among the tables of this merge", "this cluster has no such table"
#: Entries that a search looks through at a time: 50,000 rows.
SEARCHED = 500


class Looking:
    """Previews and reports, over the connections of `merging`.

    :param coverage: a summary of which tables the rules know.
    """

    def __init__(
        self, merging: Merging, undoing: Undoing, coverage: Callable[[], Mapping[str, Any]], beforehand: Beforehand
    ) -> None:
        self._merging, self._undoing, self._coverage, self._beforehand = merging, undoing, coverage, beforehand
        self.merging, self.journal = merging, merging.journal
        self._journal = merging.journal
        self._tables = merging.tables

    def _previewed(self, request: MergeRequest) -> Merge:
        request = check_request(request, self._merging.settings)
        merge_id = request_id("preview", request.sources, request.target)
        merge = Merge.unopened(merge_id, request, "preview")
        return replace(merge, survivor=leases.check_survivors(self._journal, merge))

    def check(self, request: MergeRequest) -> MergeRequest:
        """The request with each source once, if these accounts can be merged as things stand.

        :raises InvalidRequest: they cannot.
        """
        return self._previewed(request).request

    def preview_table(self, request: MergeRequest, table: str) -> dict[str, Any]:
        """Counts of what a merge would do in one table."""
        merge = self._previewed(request)
        report = self._preview(merge, rule_for(table))
        counts: dict[str, int] = {}
        for row in report.rows:
            for kind in (row["what"], *(["ambiguous"] if row["notes"] else [])):
                counts[kind] = counts.get(kind, 0) + 1
        note = "; ".join(filter(None, ("preview: nothing was written", report.note)))
        return table_answer(merge, table, counts, note)

    def preview(self, request: MergeRequest) -> Report:
        """What a merge would do."""
        merge = self._previewed(request)
        return Report(merge, tuple(self._preview(merge, rule) for rule in RULES), True, self._coverage())

    def balance(self, request: MergeRequest) -> Balance:
        """What a merge would mean to the learner: what each account has, what results, and what stays behind."""
        merge = self._previewed(request)
        asked = merge.request
        whole = replace(merge, request=replace(asked, tables=(), on_conflict="combine", choices=Choices()))
        tables = {}
        for rule in RULES:
            if self._tables.of(rule) is None:
                continue
            everything = self._merging.work(whole, rule)
            planned = everything if whole == merge else self._merging.work(merge, rule)
            tables[rule.table] = Compared(everything, planned if rule.table in (asked.tables or TABLES) else None)
        left = {(source, (kind, tuple(place))): by for source, by, (kind, *place) in self._merging.places.left(merge)}
        return weigh(tables, merge.survivor or asked.target, left)

    def notices(self, request: MergeRequest, balance: Balance | None) -> list[Notice]:
        """What a person should know of the accounts before they are merged.

        :param balance: None when it could not be worked out.
        """
        return self._beforehand.notices(self._previewed(request), balance.rows if balance else None)

    def _preview(self, merge: Merge, rule: TableRule) -> TableReport:
        schema = self._tables.of(rule)
        if schema is None or rule.table not in (merge.request.tables or TABLES):
            return TableReport(rule.table, NOT_CHOSEN if schema else NO_TABLE, stage="left out")
        work = self._merging.work(merge, rule)
        note = work.remark(change for change, _ in work.plan())
        return TableReport(rule.table, note, {}, (row_of(change, schema) for change, _ in work.plan()))

    def preview_undo(self, merge_id: uuid.UUID, action: str = "undo") -> Report:
        """What an undo (or redo) would do.

        :raises InvalidRequest: it makes no sense now; the remedy names what to do first.
        """
        merge = self._journal.need(merge_id)
        self._undoing.check(merge, action)
        tables = [
            TableReport(name, "", {}, map(partial(row_of, schema=self._tables.schemas[rule.table]), changes))
            for rule in self._undoing.rules(merge)
            for name, changes in self._undoing.preview(merge, action, rule)
        ]
        return Report(merge, tuple(tables), preview=True)

    def preview_undo_table(self, merge_id: uuid.UUID, action: str, table: str) -> dict[str, Any]:
        """Counts of what an undo (or redo) would do in one table."""
        merge, rule = self._journal.need(merge_id), rule_for(table)
        self._undoing.check(merge, action)
        found = self._undoing.preview(merge, action, rule) if rule in self._undoing.rules(merge) else ()
        counts = counts_of("changes", (change for _, changes in found for change in changes))
        return table_answer(merge, table, counts, "preview: nothing was written")

    def report(self, merge_id: uuid.UUID) -> Report:
        """What a merge did, and its undos, from their logs."""
        merge = self._journal.need(merge_id)
        tables = []
        for rule in RULES:
            if self._tables.of(rule) is None:
                tables.append(TableReport(rule.table, NO_TABLE, stage="left out"))
            tables += [logged(log, schema, merge) for log, schema in self._logs(merge, rule)]
        deactivation = self._merging.deactivation
        tables += [logged(log, deactivation.schema(), merge) for log in deactivation.logs(merge)]
        return Report(merge, tuple(tables), coverage=self._coverage())

    def logs(self, merge: Merge) -> dict[str, tuple[Log, TableSchema]]:
        """Each log of a merge and of its undos, by name, with the table that it is about."""
        found = {log.table: (log, schema) for rule in RULES for log, schema in self._logs(merge, rule)}
        deactivation = self._merging.deactivation
        return found | {log.table: (log, deactivation.schema()) for log in deactivation.logs(merge)}

    def rows(
        self,
        merge_id: uuid.UUID,
        name: str,
        place: tuple[int, int] = (0, 0),
        limit: int = 100,
        what: str = "",
        key: str = "",
    ) -> tuple[list[dict[str, Any]], tuple[int, int] | None]:
        """One page of a report's rows, and the place (entry, row of the entry) of the next; memory for one page only.

        A search looks through so many entries at a time; a page with few rows, or none, is not the last if it has a next.

        :param name: the log's, as the report names its tables.
        :param what: only rows to which this happened, or that are `ambiguous`.
        :param key: only rows with this in a part of their key. Both count rows by what fits: a place is of one search.
        """
        logs = self.logs(self._journal.need(merge_id))
        if name not in logs:
            raise InvalidRequest(
                "UNKNOWN_LOG", f"merge {merge_id} has no such table", "Choose one of those that its report names."
            )
        log, schema = logs[name]
        found: list[dict[str, Any]] = []
        fits = partial(_looked_for, what, key) if what or key else None
        for number, entry in enumerate(log.some(place[0], what, fits, key), 1):
            first = place[1] if entry.seq == place[0] else 0
            for row, change in enumerate(entry.changes[first:], first):
                if len(found) == limit:
                    return found, (entry.seq, row)
                found.append(row_of(change, schema, entry.kind))
            if fits and number == SEARCHED:
                return found, (entry.seq + 1, 0)
        return found, None

    def _logs(self, merge: Merge, rule: TableRule) -> Iterator[tuple[Log, TableSchema]]:
        schema = self._tables.of(rule)
        if schema is not None:
            yield from ((log, schema) for log in (*self._merging.logs(merge, rule), *self._undoing.logs(merge, rule)))


def _looked_for(what: str, text: str, kind: str, head: Head) -> bool:
    happened = not what or (bool(head.notes) if what == "ambiguous" else happened_to(kind, head) == what)
    return happened and (not text or any(text in str(jsonable(value)) for value in head.key))


def logged(log: Log, schema: TableSchema, merge: Merge) -> TableReport:
    """What a log says of its table and how far it is; its rows are read when they are asked for."""
    counts, said = log.summary()
    last, operation = log.last(), _operation(log.table)
    stage = _stage(log, last, merge)
    note = "; ".join(filter(None, (_words(stage, operation, merge), said, gone(merge) if counts else "")))
    return TableReport(
        log.table, note, counts, rows_of(log.some(), schema), last.seq + 1 if last else 0,
        log.digest(last.seq).hex() if last else "", stage, operation,
    )  # fmt: skip


def _operation(name: str) -> str:
    """The undo or redo that a log's name begins with."""
    first = name.partition("/")[0]
    return first if first.rpartition("-")[0] in ACTIONS else ""


def _stage(log: Log, last: Entry | None, merge: Merge) -> str:
    if last is not None and last.kind == "closed":  # by an undo, or when the merge was given up: it tells nothing here
        last = next(log.entries(start=last.seq - 1), None) if last.seq else None
    if last is not None:
        return "done" if last.kind == "end" else "begun"
    table = log.table.partition("/")[0]
    return "left out" if table in TABLES and table not in (merge.request.tables or TABLES) else "not reached"


def _words(stage: str, operation: str, merge: Merge) -> str:
    if stage == "not reached":
        under_way = {"undoing", "redoing"}
        own = merge.state not in CLOSED | under_way
        coming = own if not operation else merge.state in under_way and operation == merge.operation
        return "not reached yet" if coming else "never reached"
    return {"begun": "begun, not done", "left out": NOT_CHOSEN}.get(stage, "")


def gone(merge: Merge) -> str:
    """What a report says of rows that are not there any more."""
    if merge.expiry is None:
        return ""
    when = f" on {merge.images_gone:%Y-%m-%d}" if merge.images_gone else ""
    return f"the images of these rows expired{when}: counts and totals handed on stay, no row can be shown"
