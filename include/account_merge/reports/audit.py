"""Evidence: is what a merge's log says still what is in the log and in the tables? Names each difference; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from account_merge.engine.table_undo import row_steps
from account_merge.engine.verify import holds
from account_merge.journal.expired import digest
from account_merge.journal.log import LIST_ATTEMPTS, Log
from account_merge.lifecycle.merging import Merging
from account_merge.lifecycle.undoing import Undoing
from account_merge.model import Change, Key, Merge, Row
from account_merge.reports.report import jsonable
from account_merge.rules import RULES, TableRule
from account_merge.states import CLOSED
from account_merge.sunbird.schema import TableSchema
from account_merge.sunbird.store import batched


@dataclass(frozen=True)
class Difference:
    """One thing that is not as the log says.

    :param kind: `log` (an entry was changed or is missing), `lost` (a row does not hold what was written, and no later
        write shows), `report` (an exported report says otherwise than the journal); and what is no fault: `later` (the
        platform or another merge wrote since), `expired` (the images are gone, so that rows cannot be compared).
    :param table: the log's name, "" for the merge itself.
    :param key: the row's key, None for a log.
    """

    kind: str
    table: str
    key: dict[str, Any] | None
    words: str

    @property
    def fault(self) -> bool:
        """Whether it needs somebody's attention."""
        return self.kind not in ("later", "expired")


class Audit:
    """Checks a merge against its log, and the log against itself."""

    def __init__(self, merging: Merging, undoing: Undoing) -> None:
        self._merging, self._undoing = merging, undoing

    def differences(self, merge: Merge) -> Iterator[Difference]:
        """Every difference of a merge, table by table. Rows are compared with the last that was written to them."""
        for log in self._merging.deactivation.logs(merge):
            yield from self._log(merge, log)
        for rule in RULES:
            schema = self._merging.tables.of(rule)
            if schema is None:
                continue
            logs = [*self._merging.logs(merge, rule), *self._undoing.logs(merge, rule)]
            for log in logs:
                yield from self._log(merge, log)
            prefix = f"{merge.operation}/" if merge.operation else ""
            newest = next((log for log in logs if log.table == f"{prefix}{rule.table}"), None)
            if newest is not None and merge.state in ("completed", "undone") and merge.expiry is None:
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
        if merge.expiry == "done" and kept != digest(self._merging.journal, merge.merge_id, log.table):
            yield Difference("log", log.table, None, "what is kept of it is not what the merge's row remembers")
            return
        words = "its images have expired" if merge.expiry == "done" else "its images are about to expire"
        yield Difference("expired", log.table, None, f"{words}: rows cannot be compared")

    def _rows(self, merge: Merge, rule: TableRule, schema: TableSchema, log: Log) -> Iterator[Difference]:
        target = merge.survivor or merge.request.target
        for batch in batched(row_steps(log, True, 0), 100):
            written = {key: [step.change for step in steps] for key, _, steps in batch}
            touched = {
                key: done for key, done in written.items() if any(c.writes or c.create or c.delete for c in done)
            }
            rows = self._merging.store.rows_by_key(schema, target, touched) if touched else {}
            for key, done in touched.items():
                for kind, words in _compared(rule, done, rows.get(key)):
                    yield Difference(kind, rule.table, _named(schema, key), words)


def _compared(rule: TableRule, done: Sequence[Change], row: Row | None) -> Iterator[tuple[str, str]]:
    """(kind, words) for each column that does not hold what was written last."""
    deleted = bool(done[-1].delete)
    if deleted or row is None:
        if deleted and row is not None:
            yield "later", "the row is there again"
        elif row is None and not deleted:
            yield "lost", "the row is gone; no read shows who deleted it"
        return
    for column, write in {c: w for change in done for c, w in change.writes.items()}.items():
        value, when = row.values.get(column), row.written.get(column, 0)
        right = value == write.value if rule.strategy(column).ledger else holds(value, write)
        if not right:
            later = when > write.timestamp + LIST_ATTEMPTS
            yield ("later", f"{column}: written later") if later else ("lost", f"{column} is not what was written")


def _named(schema: TableSchema, key: Key) -> dict[str, Any]:
    return dict(zip(schema.key, map(jsonable, key), strict=True))
