"""Previews: what a merge or an undo would do. Nothing is written anywhere."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from account_merge.choices import Choices
from account_merge.engine.merge_tables import MergeTables, asked_for
from account_merge.engine.resources import TableJob
from account_merge.lifecycle.admission import previewed
from account_merge.lifecycle.answers import TableAnswer, table_answer
from account_merge.lifecycle.undoing import Undoing
from account_merge.model import Merge, MergeRequest, counts_of
from account_merge.reports.balance import Balance, Compared, weigh
from account_merge.reports.preflight import Notice, Preflight
from account_merge.reports.report import NO_TABLE, NOT_CHOSEN, Report, TableReport, row_of
from account_merge.rules import RULES, TableRule, rule_for
from account_merge.states import EntryKind


class Previews:
    """Plans merges and undos without writing.

    :param coverage: a summary of which tables the rules know.
    """

    def __init__(
        self, tables: MergeTables, undoing: Undoing, coverage: Callable[[], Mapping[str, Any]], preflight: Preflight
    ) -> None:
        self._tables, self._undoing, self._coverage, self._preflight = tables, undoing, coverage, preflight
        resources = tables.resources
        self._journal, self._settings, self._schemas = resources.journal, resources.settings, resources.tables

    def preview_table(self, request: MergeRequest, table: str) -> TableAnswer:
        """Count the rows of one table by what a merge would do to them."""
        merge = previewed(self._journal, self._settings, request)
        report = self._preview(merge, rule_for(table))
        counts: dict[str, int] = {}
        for row in report.rows:
            for kind in (row["what"], *(["ambiguous"] if row["notes"] else [])):
                counts[kind] = counts.get(kind, 0) + 1
        note = "; ".join(filter(None, ("preview: nothing was written", report.note)))
        return table_answer(merge, table, counts, note)

    def preview(self, request: MergeRequest) -> Report:
        """Return what a merge would do."""
        merge = previewed(self._journal, self._settings, request)
        return Report(merge, tuple(self._preview(merge, rule) for rule in RULES), True, self._coverage())

    def balance(self, request: MergeRequest) -> Balance:
        """Return the balance of a merge: the learner's totals in each account, the result, and what stays behind."""
        merge = previewed(self._journal, self._settings, request)
        asked = merge.request
        whole = replace(merge, request=replace(asked, tables=(), on_conflict="combine", choices=Choices()))
        tables = {}
        for rule in RULES:
            if self._schemas.of(rule) is None:
                continue
            everything = self._tables.merging(TableJob(whole, rule))
            planned = everything if whole == merge else self._tables.merging(TableJob(merge, rule))
            tables[rule.table] = Compared(everything, planned if asked_for(merge, rule) else None)
        left = {
            (source, (kind, tuple(values))): by
            for source, by, (kind, *values) in self._tables.skipped.not_merged(merge)
        }
        return weigh(tables, merge.target, left)

    def notices(self, request: MergeRequest, balance: Balance | None) -> list[Notice]:
        """Return what a person should know of the accounts before they are merged.

        :param balance: None when it could not be computed.
        """
        return self._preflight.notices(
            previewed(self._journal, self._settings, request), balance.rows if balance else None
        )

    def _preview(self, merge: Merge, rule: TableRule) -> TableReport:
        schema = self._schemas.of(rule)
        if schema is None or not asked_for(merge, rule):
            return TableReport(rule.table, NOT_CHOSEN if schema else NO_TABLE, stage="left out")
        work = self._tables.merging(TableJob(merge, rule))
        note = work.table_note(change for change, _ in work.plan())
        return TableReport(rule.table, note, {}, (row_of(change, schema) for change, _ in work.plan()))

    def preview_undo(self, merge_id: uuid.UUID, action: str = "undo") -> Report:
        """Return what an undo (or redo) would do.

        :raises InvalidRequest: it is not possible now; the remedy names the first step.
        """
        merge = self._journal.need(merge_id)
        self._undoing.check(merge, action)
        tables = [
            TableReport(name, "", {}, map(partial(row_of, schema=self._schemas.schemas[rule.table]), changes))
            for rule in self._tables.undone_rules(merge)
            for name, changes in self._undoing.preview(merge, action, rule)
        ]
        return Report(merge, tuple(tables), preview=True)

    def preview_undo_table(self, merge_id: uuid.UUID, action: str, table: str) -> TableAnswer:
        """Count the rows of one table by what an undo (or redo) would do to them."""
        merge, rule = self._journal.need(merge_id), rule_for(table)
        self._undoing.check(merge, action)
        found = self._undoing.preview(merge, action, rule) if rule in self._tables.undone_rules(merge) else ()
        counts = counts_of(EntryKind.CHANGES, (change for _, changes in found for change in changes))
        return table_answer(merge, table, counts, "preview: nothing was written")
