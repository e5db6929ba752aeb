"""The plan of a merge for one table: the target's rows joined with its sources', and the sources' rows set inactive."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from account_merge.cursor import ascending, rising
from account_merge.engine.evidence import EvidenceReader
from account_merge.engine.history import Provenance
from account_merge.engine.limits import passed
from account_merge.engine.resources import Resources, TableJob
from account_merge.engine.steps import steps_of
from account_merge.engine.table_work import Planned, TableWork
from account_merge.engine.unknown_writes import UnknownWrites, marks_of
from account_merge.engine.verify import fold_in
from account_merge.engine.view import View
from account_merge.journal.ledger import Ledger, LedgerMerges
from account_merge.journal.log import Log
from account_merge.journal.redaction import RedactedFacts
from account_merge.model import Change, Entry, Key, Row, Values, Write
from account_merge.planning.lost_updates import correct, corrections
from account_merge.planning.merge_join import NO_CORRECTION, Corrections, Shown, TableFacts, plan
from account_merge.rules import TABLES, TableRule


class TableMerge(TableWork):
    """The merge of one table.

    :param view: the accounts, and the scopes in which their rows stay as they are.
    """

    def __init__(self, resources: Resources, job: TableJob, history: Provenance, view: View) -> None:
        super().__init__(resources, job, view.target, job.rule.table)
        self._history, self._view = history, view
        self.sources = tuple(sorted(job.merge.request.sources))
        self.found = resources.finder((*self.sources, view.target), self._few)

    def table_note(self, changes: Iterable[Change]) -> str:
        """Return the rows and columns that are not moved, and the limits of the platform that these changes pass."""
        since = sorted(self._store.columns(self._schema) - self._schema.names)
        added = [f"column {name} was added meanwhile: the next settle or repair moves it" for name in since]
        limits = passed(self._rule, self._schema, self._store, self.account, changes)
        return "; ".join(
            filter(None, dict.fromkeys((self.found.note(self._rule), self._anew(), self._left_in(), *added, *limits)))
        )

    def _anew(self) -> str:
        """Return the sentence about expired images of earlier merges of these sources; empty when there are none."""
        gone = self._history.without_images
        return (
            f"the images of {len(gone)} earlier merge{'s' * (len(gone) > 1)} of these sources have expired: what they "
            "brought is combined anew, also where people changed it since"
            if gone
            else ""
        )

    def _left_in(self) -> str:
        """Return whose rows hold what these sources handed on before; empty when those were merged here as well."""
        accounts = ", ".join(sorted(self._history.left_in))
        return (
            f"these sources were merged into account {accounts} before, whose rows of this table were not merged here: what "
            "is not new since then comes when those are"
            if accounts
            else ""
        )

    def _source_rows(self, account: str) -> Iterator[Row]:
        """Return a source's rows; a row that an earlier merge set inactive shows the value that it had before."""
        rows = self.found.rows(self._rule, account)
        if not self._rule.deactivated:
            return rows
        # An erased account's log stands under its hash: first the name that it leaves, then the one that it moves to.
        names = [source_log(self._rule, name) for name in (account, self._journal.erased_id(account))]
        earlier = sorted(self._history.merges_from - {self._merge.merge_id})
        logs = [Log(self._journal, m, name, self._codec) for name in names for m in earlier]

        kept = RedactedFacts(self._journal)

        def expired(key: Key) -> Values:
            packed = kept.before(self._rule.table, account, self._codec.key(key))
            return {column: self._codec.cell(column, data) if data else None for column, data in packed.items()}

        return reactivated(rows, logs, self._rule.deactivated, kept, expired)

    def _shown(self) -> Shown:
        lookups = EvidenceReader(self.found, self._journal, self._tables, self._rule, self._history.merges_into)
        return lookups.of(self._view)

    def _ledger(self) -> Ledger:
        history = self._history
        earlier = (history.merges_from | history.withdrawn) - {self._merge.merge_id}
        merges = LedgerMerges(earlier, history.lives_here, history.withdrawn)
        return Ledger(self._journal, merges, self.sources, self._rule.table, self._codec)

    def _corrections(self) -> Corrections:
        """Return the corrections of rows in which the platform wrote over earlier merges of these sources, asked in key order."""
        past = self._history.past
        if past is None:
            return lambda key, held: NO_CORRECTION
        earlier = self._history.merges_from & past.effective
        steps = steps_of(self._journal, self._codec, past)
        return corrections(
            ((key, done) for key, done in steps if any(step.of in earlier for step in done)),
            lambda steps, row: correct(
                self._rule, steps, row, self.account, past.effective.__contains__, self._settings
            ),
        )  # fmt: skip

    def plan(self, after: Key | None = None) -> Iterator[Planned]:
        """Yield a change for each row that a source has; this is also the preview.

        :raises NeedsAttention: a merge that the journal has forgotten wrote to one of these accounts.
        """
        unknown, seeding = UnknownWrites(self._resources, self._merge, self.found), self._history.seeding
        # What stands at the target counts as moved there: nothing can be added a second time.
        watched = iter if seeding and seeding.since.keys() >= {*self.sources} else unknown.watched
        # Tables that one process merges in the same moment tell their writes apart.
        first = TABLES.index(self._rule.table)

        def behind(rows: Iterable[Row], account: str = "") -> Iterator[Row]:
            stays = self.found.stays(self._rule, self._view.from_other_source.get(account, frozenset()))
            return (row for row in rows if (after is None or row.key > after) and not stays(row.key))

        planned = plan(
            self._rule,
            self.account,
            {account: behind(watched(self._source_rows(account)), account) for account in self.sources},
            behind(watched(self.found.rows(self._rule, self.account))),
            TableFacts(
                self._ledger().at,
                self._shown(),
                self.found.stays(self._rule, self._view.kept),
                self._corrections(),
                self._history.seeding,
                self._merge.request.choices.of(self._rule.table, self._journal.hidden),
                lambda base, turn: unknown.marks.below(base, (first + turn) % 2),
            ),
        )
        return ((self._codec.fitted(change), base) for change, base in planned)

    def reread(self, entry: Entry, sent: float) -> tuple[list[Change], int]:
        """Fold in what the platform wrote since."""
        evidence = self._shown().at
        folds, base = fold_in(self._resources, self._schema, self._rule, self.account, entry, sent, evidence)
        return [self._codec.fitted(fold) for fold in folds], base


class SourceRows(TableWork):
    """The setting inactive of one source account's rows (`source_rows: deactivate`), in a log of its own."""

    def __init__(self, resources: Resources, job: TableJob, account: str, operation: str = "") -> None:
        name = source_log(job.rule, account)
        super().__init__(resources, job, account, f"{operation}/{name}" if operation else name)
        self.found = resources.finder((*sorted(job.merge.request.sources), job.merge.target), self._few)

    def plan(self, after: Key | None = None) -> Iterator[Planned]:
        """Yield a change for each row that is still active."""
        marks, turn = marks_of(self._resources), 0
        for row in self.found.rows(self._rule, self.account):
            base = marks.below(row.base, turn % 2)
            off = {
                c: Write(value, max(base, row.written.get(c, 0) + 1))
                for c, value in self._rule.deactivated.items()
                if c in self._schema.columns and row.values.get(c) != value
            }
            if off and (after is None or row.key > after):
                why = dict.fromkeys(off, "the source account's rows are deactivated, as asked")
                yield Change(row.key, {}, row.values, off, 0, why, {}), base
                turn += 1

    def reread(self, entry: Entry, sent: float) -> tuple[list[Change], int]:
        """Return nothing: a row that the platform makes active again stays so."""
        return [], 0


def source_log(rule: TableRule, account: str) -> str:
    """Return the name of the log of a source account's own rows."""
    return f"{rule.table}/{account}"


def reactivated(
    rows: Iterable[Row],
    logs: Iterable[Log],
    deactivated: Mapping[str, Any],
    kept: RedactedFacts,
    expired: Callable[[Key], Values],
) -> Iterator[Row]:
    """Yield rows (sorted) with the value from before a merge set them inactive (null included), where it is still as it was set.

    :param kept: takes in what expired entries tell.
    :param expired: key -> what those entries keep of the row before: column -> value or None.
    """
    befores = (ascending(_befores(log, kept), f"rows of {log.table} in the log") for log in logs)
    earlier = heapq.merge(*befores, key=lambda item: item[:2])
    held = next(earlier, None)
    for row in rising(rows, "rows that a merge set inactive"):
        while held is not None and held[0] < row.key:
            held = next(earlier, None)
        before = dict[str, Any]()
        while held is not None and held[0] == row.key:
            before |= held[2]  # the last merge decides: between two merges the platform had switched it on
            held = next(earlier, None)
        before = (expired(row.key) if kept else {}) | before
        ours = {c: before[c] for c, off in deactivated.items() if c in before and row.values.get(c) == off}
        values = {c: v for c, v in {**row.values, **ours}.items() if v is not None}
        yield row._replace(values=values)


def _befores(log: Log, kept: RedactedFacts) -> Iterator[tuple[Key, int, Values]]:
    """Yield (key, µs of the write, column -> value before it or None) of each row that a log set inactive."""
    for entry in log.entries():
        if entry.kept is not None:
            kept.add(entry.kept)
        for change in entry.changes:
            before = {column: (change.before or {}).get(column) for column in change.writes}
            yield change.key, max((write.timestamp for write in change.writes.values()), default=0), before
