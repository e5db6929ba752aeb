"""Tables in which a merge has nothing to do: their logs are ended before any task looks at them."""

from __future__ import annotations

from collections.abc import Mapping

from account_merge.engine.merge_tables import MergeTables
from account_merge.errors import NeedsAttention
from account_merge.journal.fence import Fence
from account_merge.journal.log import Draft, Log
from account_merge.journal.log_ends import Endings, ends
from account_merge.model import Merge
from account_merge.rules import RULES, TableRule, rules_hash
from account_merge.states import EntryKind
from account_merge.sunbird.presence import Presence

_EMPTY = (0, EntryKind.END)  # the log of a table without rows is its end alone


class IdleTables:
    """Finds the tables in which a merge has nothing to do.

    The logs are ended as the work on a table without rows ends them, by one fenced statement: who begins that work
    meanwhile wins or finds the end. A row that a source gets later is late, as it is behind any log that has ended.
    """

    def __init__(self, tables: MergeTables) -> None:
        self._tables, self._resources = tables, tables.resources

    def end(self, merge: Merge, fence: Fence, begun: bool) -> list[str]:
        """End the logs of the tables in which no source has a row; return all tables with nothing to do.

        When it is unsure, a table is left to its own work: where an earlier merge has brought rows of these sources, their
        absence does not decide.

        :param begun: the merge was admitted before, so it may have logs.
        """
        rules = self._tables.rules(merge)
        idle = {rule.table for rule in RULES} - {rule.table for rule in rules}
        logs = {rule.table: self._tables.logs(merge, rule) for rule in rules}
        known = ends(self._resources.journal, merge.merge_id) if begun else {}
        empty = {name for name, end in known.items() if (end.seq, end.kind) == _EMPTY}
        idle |= {table for table, mine in logs.items() if all(log.table in empty for log in mine)}
        todo = [rule for rule in rules if not any(log.table in known for log in logs[rule.table])]
        if merge.rules_hash == rules_hash() and not self._merged_before(merge):
            idle |= self._ended(merge, self._rowless(merge, todo), logs, fence)
        return [rule.table for rule in RULES if rule.table in idle]

    def _merged_before(self, merge: Merge) -> bool:
        gave = self._resources.journal.gave
        return merge.parent is not None or any(gave(source) - {merge.merge_id} for source in merge.request.sources)

    def _rowless(self, merge: Merge, rules: list[TableRule]) -> list[TableRule]:
        r = self._resources
        presence = Presence(r.store, r.tables, r.settings, sorted(merge.request.sources), merge.target)
        try:
            found = presence.without_rows(rules) if rules else ()
        except NeedsAttention:  # the table's own work says which table it is, and what to do
            return []
        return [rule for rule in rules if rule.table in found]

    def _ended(self, merge: Merge, rules: list[TableRule], logs: Mapping[str, list[Log]], fence: Fence) -> set[str]:
        """End the logs of these tables; return those of which all are. The first log of a table says which rows are not looked for."""
        finder = self._resources.finder((*sorted(merge.request.sources), merge.target))
        endings = Endings(self._resources.journal)
        for rule in rules:
            for number, log in enumerate(logs[rule.table]):
                endings.owe(log, Draft(0, EntryKind.END, note="" if number else finder.note(rule)))
        there = endings.append(fence)
        return {rule.table for rule in rules if all(log.table in there for log in logs[rule.table])}
