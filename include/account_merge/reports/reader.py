"""Reports of a merge and its undos, from their logs. Nothing is written anywhere."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from account_merge.engine.merge_tables import MergeTables
from account_merge.errors import InvalidRequest
from account_merge.journal.log import Log
from account_merge.jsonable import jsonable
from account_merge.lifecycle.deactivation import Deactivation
from account_merge.model import ChangeHeader, Entry, Merge, row_outcome
from account_merge.reports.report import NO_TABLE, NOT_CHOSEN, Report, ReportRow, TableReport, row_of, rows_of
from account_merge.rules import RULES, TABLES, TableRule
from account_merge.states import ACTIONS, CLOSED, EntryKind, State
from account_merge.sunbird.schema import TableSchema

#: Entries that a search looks through at a time: 50,000 rows.
SEARCHED = 500


class ReportReader:
    """Reads merges' logs.

    :param coverage: a summary of which tables the rules know.
    """

    def __init__(
        self, tables: MergeTables, deactivation: Deactivation, coverage: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._tables, self._deactivation, self._coverage = tables, deactivation, coverage
        self._journal, self._schemas = tables.resources.journal, tables.resources.tables

    def report(self, merge_id: uuid.UUID) -> Report:
        """Return what a merge did, and its undos, from their logs."""
        merge = self._journal.need(merge_id)
        tables = []
        for rule in RULES:
            if self._schemas.of(rule) is None:
                tables.append(TableReport(rule.table, NO_TABLE, stage="left out"))
            tables += [logged(log, schema, merge) for log, schema in self._logs(merge, rule)]
        tables += [logged(log, self._deactivation.schema(), merge) for log in self._deactivation.logs(merge)]
        return Report(merge, tuple(tables), coverage=self._coverage())

    def logs(self, merge: Merge) -> dict[str, tuple[Log, TableSchema]]:
        """Each log of a merge and of its undos, by name, with the table that it is about."""
        found = {log.table: (log, schema) for rule in RULES for log, schema in self._logs(merge, rule)}
        return found | {log.table: (log, self._deactivation.schema()) for log in self._deactivation.logs(merge)}

    def rows(
        self,
        merge_id: uuid.UUID,
        name: str,
        place: tuple[int, int] = (0, 0),
        limit: int = 100,
        what: str = "",
        key: str = "",
    ) -> tuple[list[ReportRow], tuple[int, int] | None]:
        """Return one page of a report's rows and the place (entry, row of the entry) of the next; memory for one page only.

        A search looks through `SEARCHED` entries at a time: a page with few rows, or none, is not the last if it has a next.

        :param name: the log's, as the report names its tables.
        :param what: only rows to which this happened, or that are `ambiguous`.
        :param key: only rows with this in a part of their key. A place belongs to one search.
        """
        logs = self.logs(self._journal.need(merge_id))
        if name not in logs:
            raise InvalidRequest(
                "UNKNOWN_LOG", f"merge {merge_id} has no such table", "Choose one of those that its report names."
            )
        log, schema = logs[name]
        found: list[ReportRow] = []
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
        schema = self._schemas.of(rule)
        if schema is not None:
            yield from (
                (log, schema) for log in (*self._tables.logs(merge, rule), *self._tables.undo_logs(merge, [rule]))
            )


def _looked_for(what: str, text: str, kind: EntryKind, head: ChangeHeader) -> bool:
    happened = not what or (bool(head.notes) if what == "ambiguous" else row_outcome(kind, head) == what)
    return happened and (not text or any(text in str(jsonable(value)) for value in head.key))


def logged(log: Log, schema: TableSchema, merge: Merge) -> TableReport:
    """Return the report of one log's table; its rows are read when they are asked for."""
    counts, said = log.summary()
    last, operation = log.last(), _operation(log.table)
    stage = _stage(log, last, merge)
    note = "; ".join(filter(None, (_words(stage, operation, merge), said, gone(merge) if counts else "")))
    return TableReport(
        log.table, note, counts, rows_of(log.some(), schema), last.seq + 1 if last else 0,
        log.digest(last.seq).hex() if last else "", stage, operation,
    )  # fmt: skip


def _operation(name: str) -> str:
    """Return the undo or redo that a log's name begins with."""
    first = name.partition("/")[0]
    return first if first.rpartition("-")[0] in ACTIONS else ""


def _stage(log: Log, last: Entry | None, merge: Merge) -> str:
    if (
        last is not None and last.kind == EntryKind.CLOSED
    ):  # by an undo, or when the merge was given up: look at the entry before
        last = next(log.entries(start=last.seq - 1), None) if last.seq else None
    if last is not None:
        return "done" if last.kind == EntryKind.END else "begun"
    table = log.table.partition("/")[0]
    return "left out" if table in TABLES and table not in (merge.request.tables or TABLES) else "not reached"


def _words(stage: str, operation: str, merge: Merge) -> str:
    if stage == "not reached":
        under_way = {State.UNDOING, State.REDOING}
        own = merge.state not in CLOSED | under_way
        coming = own if not operation else merge.state in under_way and operation == merge.operation
        return "not reached yet" if coming else "never reached"
    return {"begun": "begun, not done", "left out": NOT_CHOSEN}.get(stage, "")


def gone(merge: Merge) -> str:
    """Return the note about rows whose images are gone; empty when they are not."""
    if merge.expiry is None:
        return ""
    when = f" on {merge.images_gone:%Y-%m-%d}" if merge.images_gone else ""
    return f"the images of these rows expired{when}: counts and totals handed on stay, no row can be shown"
