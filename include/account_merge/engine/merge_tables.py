"""The work on each table of a merge, and its logs: for a merge, its preview, its undo and its redo.

It alone knows the parts of a merge, so that every reader finds the same tables, logs and rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from account_merge.engine.history import AccountHistory, HistoryLog, account_history_of, provenance_of, view_of
from account_merge.engine.known import Known
from account_merge.engine.lookup_logs import in_key_order
from account_merge.engine.resources import Resources, TableJob
from account_merge.engine.skipped import SkippedScopes
from account_merge.engine.table_merge import SourceRows, TableMerge, source_log
from account_merge.engine.table_undo import TableUndo
from account_merge.engine.table_work import TableWork
from account_merge.engine.view import Underway
from account_merge.journal.encoding import Codec
from account_merge.journal.log import Log
from account_merge.model import Change, Merge
from account_merge.rules import RULES, TABLES, TableRule, rule_for
from account_merge.states import State


def asked_for(merge: Merge, rule: TableRule) -> bool:
    """Whether a merge was asked to merge a table."""
    return rule.table in (merge.request.tables or TABLES)


def set_inactive(merge: Merge, rule: TableRule) -> tuple[str, ...]:
    """Return the source accounts whose rows of this table a merge sets inactive."""
    asked = merge.request.source_rows == "deactivate" and rule.deactivated
    return tuple(sorted(merge.request.sources)) if asked else ()


class MergeTables:
    """The maker of the work on tables; planning it writes nothing.

    :param skipped: the scopes that stay as they are.
    """

    def __init__(self, resources: Resources, skipped: SkippedScopes) -> None:
        self.resources, self.skipped = resources, skipped
        self._journal, self._tables = resources.journal, resources.tables

    def rules(self, merge: Merge) -> list[TableRule]:
        """Return the tables of a merge that this cluster has, in the order of merging."""
        return [rule for rule in RULES if asked_for(merge, rule) and self._tables.of(rule) is not None]

    # --- merging ----------------------------------------------------------------------------------------------------
    def merging(self, job: TableJob) -> TableMerge:
        """Return the work on the target's rows of one table."""
        known = job.known or Known(self._journal, job.merge)
        history = provenance_of(known, self.skipped, job.merge, job.rule)
        view = view_of(self.skipped, job.merge, job.rule, history.seeding)
        return TableMerge(self.resources, job, history, view)

    def setting_inactive(self, job: TableJob, operation: str = "") -> list[SourceRows]:
        """Return the work on the sources' rows of one table, where the merge sets them inactive.

        :param operation: the redo that it belongs to.
        """
        accounts = set_inactive(job.merge, job.rule)
        return [SourceRows(self.resources, job, account, operation) for account in accounts]

    def works(self, job: TableJob) -> list[TableWork]:
        """Return all the work of a merge on one table: the target's rows first."""
        return [self.merging(job), *self.setting_inactive(job)]

    def logs(self, merge: Merge, rule: TableRule) -> list[Log]:
        """Return the logs of one table of a merge: the target's rows, then each source's that was set inactive."""
        names = [rule.table, *(source_log(rule, account) for account in set_inactive(merge, rule))]
        return [] if self._tables.of(rule) is None else [self._log(merge, rule, name) for name in names]

    # --- undo and redo ------------------------------------------------------------------------------------------------
    def undone_rules(self, merge: Merge) -> list[TableRule]:
        """Return the tables of a merge in the order of undoing: the last merged comes first."""
        return self.rules(merge)[::-1]

    def undo_works(self, job: TableJob, planned: bool = False) -> Iterator[TableWork]:
        """Yield the work of the undo or redo that a merge is in: the target's rows, then those that it had set inactive.

        :param planned: it only plans: what it does to other tables before this one is not written.
        """
        merge, rule = job.merge, job.rule
        redo, operation = merge.state == State.REDOING, merge.operation or "undo-1"
        yield self._undo(job, operation, redo, planned)
        if redo:
            yield from self.setting_inactive(job, operation)
            return
        for account in set_inactive(merge, rule):
            name = source_log(rule, account)
            earlier = [f"{one}/{name}" for one in self._journal.operations(merge) if one != operation]
            logs = [HistoryLog(merge.merge_id, log, brings=False) for log in (name, *earlier)]
            past = AccountHistory(account, logs, frozenset(), of=frozenset({merge.merge_id}))
            yield TableUndo(self.resources, job, past, f"{operation}/{name}")

    def past(self, merge: Merge, rule: TableRule) -> AccountHistory:
        """Return the history of the target's rows of one table, as the undo or redo that a merge is in sees it."""
        known = Known(self._journal, merge)
        return account_history_of(known, self.skipped, merge, rule, merge.state == State.REDOING)

    def undo_logs(self, merge: Merge, rules: Iterable[TableRule]) -> Iterator[Log]:
        """Yield the logs of every undo and redo of some tables of a merge, of each table oldest first."""
        operations = self._journal.operations(merge)
        for rule in rules:
            for operation in operations:
                yield from self.operation_logs(merge, rule, operation)

    def operation_logs(self, merge: Merge, rule: TableRule, operation: str) -> list[Log]:
        """Return the logs of one undo or redo of one table: the target's rows, then each source's that was set inactive."""
        return [self._log(merge, rule, f"{operation}/{log.table}") for log in self.logs(merge, rule)]

    def _undo(self, job: TableJob, operation: str, redo: bool, planned: bool) -> TableUndo:
        known = job.known or Known(self._journal, job.merge)
        past = account_history_of(known, self.skipped, job.merge, job.rule, redo)
        work = TableUndo(self.resources, job, past, f"{operation}/{job.rule.table}")
        before = {look.table for look in job.rule.lookups} & {rule.table for rule in self.rules(job.merge)}
        changes = self._planned if planned else self._written
        work.underway = Underway(
            past.account, {table: partial(changes, job.merge, rule_for(table)) for table in before}, planned
        )
        return work

    def _planned(self, merge: Merge, rule: TableRule) -> Iterator[Change]:
        """Yield what an undo or redo would do to the target's rows of one table."""
        yield from (change for change, _ in next(self.undo_works(TableJob(merge, rule), planned=True)).plan())

    def _written(self, merge: Merge, rule: TableRule) -> Iterator[Change]:
        """Yield what an undo or redo has done to the target's rows of one table."""
        yield from in_key_order(self._log(merge, rule, f"{merge.operation}/{rule.table}"))

    def _log(self, merge: Merge, rule: TableRule, name: str) -> Log:
        return Log(self._journal, merge.merge_id, name, Codec(self._tables.schemas[rule.table]))
