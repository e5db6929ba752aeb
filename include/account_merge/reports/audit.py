"""Audit: names each difference between a merge's log and the log's own digests, and between log and tables. Writes nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from account_merge.connection.batches import batched
from account_merge.engine.merge_tables import MergeTables
from account_merge.engine.steps import row_steps
from account_merge.errors import InvalidRequest
from account_merge.journal.log import LIST_ATTEMPTS, Log
from account_merge.journal.redaction import digest
from account_merge.jsonable import jsonable
from account_merge.lifecycle.deactivation import Deactivation
from account_merge.model import Change, Key, Merge, Row
from account_merge.planning.lost_updates import shows
from account_merge.reports.reader import ReportReader
from account_merge.rules import RULES, TableRule
from account_merge.states import CLOSED, State
from account_merge.sunbird.schema import TableSchema


@dataclass(frozen=True)
class Difference:
    """One difference from the log.

    :param kind: `log` (an entry was changed or is missing), `lost` (a row does not hold what was written, and no later
        write shows), `report` (an exported report differs from the journal). Not a fault: `later` (the platform or another
        merge wrote since), `expired` (the images are gone, so that rows cannot be compared).
    :param table: the log's name, "" for the merge itself.
    :param key: the row's key, None for a log.
    """

    kind: str
    table: str
    key: dict[str, Any] | None
    words: str

    @property
    def fault(self) -> bool:
        """Whether a person has to look at it."""
        return self.kind not in ("later", "expired")


class Audit:
    """Checks a merge against its log, and the log against its digests."""

    def __init__(self, tables: MergeTables, deactivation: Deactivation, reader: ReportReader) -> None:
        self._tables, self._deactivation, self._reader = tables, deactivation, reader
        resources = tables.resources
        self._journal, self._store, self._schemas = resources.journal, resources.store, resources.tables

    def differences(self, merge_id: uuid.UUID, exported: Mapping[str, Any] | None = None) -> Iterator[Difference]:
        """Yield every difference of a merge, table by table. Rows are compared with the last values that were written to them.

        :param exported: an earlier report of the merge; its differences from the journal come first.
        """
        merge = self._journal.need(merge_id)
        if exported is not None:
            yield from compared_with(exported, merge, self._reader)
        for log in self._deactivation.logs(merge):
            yield from self._log(merge, log)
        for rule in RULES:
            schema = self._schemas.of(rule)
            if schema is None:
                continue
            logs = [*self._tables.logs(merge, rule), *self._tables.undo_logs(merge, [rule])]
            for log in logs:
                yield from self._log(merge, log)
            prefix = f"{merge.operation}/" if merge.operation else ""
            newest = next((log for log in logs if log.table == f"{prefix}{rule.table}"), None)
            if newest is not None and merge.state in (State.COMPLETED, State.UNDONE) and merge.expiry is None:
                yield from self._rows(merge, rule, schema, newest)

    def _log(self, merge: Merge, log: Log) -> Iterator[Difference]:
        for number, words in log.faults():
            yield Difference("log", log.table, None, f"entry {number}: {words}")
        kept, last = merge.digests.get(log.table), log.last()
        closed = merge.state in CLOSED and kept is not None
        if closed and (last is None or log.digest(last.seq) != kept):
            yield Difference("log", log.table, None, "its end is not the one that the merge's row remembers")
        if merge.expiry is not None and last is not None:
            yield from self._expired(merge, log)

    def _expired(self, merge: Merge, log: Log) -> Iterator[Difference]:
        kept = merge.digests.get(f"kept/{log.table}")
        if merge.expiry == "done" and kept != digest(self._journal, merge.merge_id, log.table):
            yield Difference("log", log.table, None, "what is kept of it is not what the merge's row remembers")
            return
        words = "its images have expired" if merge.expiry == "done" else "its images are about to expire"
        yield Difference("expired", log.table, None, f"{words}: rows cannot be compared")

    def _rows(self, merge: Merge, rule: TableRule, schema: TableSchema, log: Log) -> Iterator[Difference]:
        target = merge.target
        for batch in batched(row_steps(log, True, 0), 100):
            written = {key: [step.change for step in steps] for key, _, steps in batch}
            touched = {
                key: done for key, done in written.items() if any(c.writes or c.create_at or c.delete_at for c in done)
            }
            rows = self._store.rows_by_key(schema, target, touched) if touched else {}
            for key, done in touched.items():
                for kind, words in _compared(rule, done, rows.get(key)):
                    yield Difference(kind, rule.table, _named(schema, key), words)


def _compared(rule: TableRule, done: Sequence[Change], row: Row | None) -> Iterator[tuple[str, str]]:
    """Yield (kind, words) for each column that does not hold what was written last."""
    deleted = bool(done[-1].delete_at)
    if deleted or row is None:
        if deleted and row is not None:
            yield "later", "the row is there again"
        elif row is None and not deleted:
            yield "lost", "the row is gone; no read shows who deleted it"
        return
    for column, write in {c: w for change in done for c, w in change.writes.items()}.items():
        if not shows(rule, column, write, row):
            later = row.written.get(column, 0) > write.timestamp + LIST_ATTEMPTS
            yield ("later", f"{column}: written later") if later else ("lost", f"{column} is not what was written")


def _named(schema: TableSchema, key: Key) -> dict[str, Any]:
    return dict(zip(schema.key, map(jsonable, key), strict=True))


# --- exported reports ------------------------------------------------------------------------------------------------
#: Keys of a report that never change once the merge is completed.
LASTING = ("merge_id", "source_accounts", "target_account", "survivor", "mid", "origin", "created_at")

KEPT = {"table", "rows", "entries", "digest"}


def read_report(path: str) -> Mapping[str, Any]:
    """Return an exported report.

    :raises InvalidRequest: the file is not an exported report.
    """
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InvalidRequest("BAD_FILE", f"{path}: {error}", "Give a file that `show MERGE_ID --json` wrote.") from None
    tables = found.get("tables") if isinstance(found, dict) else None
    if not isinstance(tables, list) or not all(isinstance(t, dict) and {*t} >= KEPT for t in tables):
        raise InvalidRequest("BAD_FILE", f"{path}: is not an exported report", "Write one with `show MERGE_ID --json`.")
    return dict(found)


def compared_with(exported: Mapping[str, Any], merge: Merge, reader: ReportReader) -> Iterator[Difference]:
    """Yield the differences of an exported report from the journal; kind `later` where the merge only went on since."""
    today = reader.report(merge.merge_id)
    head = today.head()
    for name in LASTING if merge.state != State.ERASED else ():
        if exported.get(name) != head[name]:
            yield Difference(
                "report", "", None, f"{name} is {exported.get(name)!r} there, {head[name]!r} in the journal"
            )
    if exported.get("state") != head["state"]:
        yield Difference("later", "", None, f"it was {exported.get('state')}, it is {head['state']}")
    logs, tables = reader.logs(merge), {t.table: t for t in today.tables}
    for then in exported["tables"]:
        name = str(then["table"])
        now = tables.pop(name, None)
        if now is None:
            yield Difference("report", name, None, "the journal has no such log of this merge")
            continue
        seen = int(then["entries"]) - 1
        if then["digest"] != (logs[name][0].digest(seen).hex() if name in logs and seen >= 0 else ""):
            yield Difference("report", name, None, "the log that the report was made from was another one")
        if merge.expiry is None:
            yield from _compared_rows(name, then["rows"], now.rows)
        elif then["rows"]:
            yield Difference("expired", name, None, "the images are gone: the report's rows cannot be compared")
    for name, table in tables.items():
        if table.entries:
            yield Difference("later", name, None, "the log came after the report")


def _compared_rows(table: str, then: list[dict[str, Any]], now: Iterable[Mapping[str, Any]]) -> Iterator[Difference]:
    for number, (old, new) in enumerate(zip_longest(then, now)):
        new = None if new is None else json.loads(json.dumps(new))
        if old is None:
            yield Difference("later", table, (new or {}).get("key"), "its row came after the report")
        elif old != new:
            names = sorted(n for n in {*old, *(new or {})} if new is None or old.get(n) != new.get(n))
            key = old.get("key") if isinstance(old, dict) else None
            words = "the journal has no such row" if new is None else f"{', '.join(names)} is otherwise in the journal"
            yield Difference("report", table, key, f"row {number + 1} of the report: {words}")
