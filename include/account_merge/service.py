"""The operations on merges: open, admit, merge a table, publish, fail, preview, report. The only orchestration.

Airflow's tasks, the command line and the tests all call these; each may be called again at any time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from account_merge.engine.table_work import Progress
from account_merge.errors import InvalidRequest
from account_merge.intake.failed_search import Search
from account_merge.intake.replay import Replay, find, summary
from account_merge.intake.rescue import SILENT, Rescue, Told
from account_merge.lifecycle.liveness import Life
from account_merge.lifecycle.requests import check_request, request_id
from account_merge.model import Merge, MergeRequest
from account_merge.parts import Parts
from account_merge.reports.audit import Audit, Difference
from account_merge.reports.exported import Exported
from account_merge.reports.report import Report
from account_merge.reports.status import status_of


class Service(Parts):
    """Everything that can be done to merges."""

    # --- opening --------------------------------------------------------------------------------------------------
    def create_journal(self) -> None:
        """Makes our keyspace and tables where they are missing."""
        self.journal.create()

    #: The merge id of a run that a person triggered.
    request_id = staticmethod(request_id)

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
        return self.merging.admission.admit(merge_id, run_id)

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

    def choose_merges(self, life: Life, limit: int = 1024) -> list[dict[str, Any]]:
        """The runs to start now, oldest merge first, each merge moved to started; and those that shall end."""
        return self.inbox.choose(life, limit)

    def settle(self, limit: int = 200, seconds: float = 240.0) -> dict[str, int]:
        """Moves what came to source accounts since their merges, where that is due."""
        return self.settling.run(limit, seconds)

    def expire(self, limit: int = 1000, seconds: float = 240.0, dry_run: bool = False) -> dict[str, int]:
        """Blanks the images of merges past the retention; counts and totals stay."""
        return self.expiry.run(limit, seconds, dry_run)

    def erase(self, account: str, by: str, reason: str, dry_run: bool = True) -> dict[str, Any]:
        """Erases from the journal the person whose account this is; the record of the act stays."""
        return self.erasing.erase(account, by, reason, dry_run)

    def rescue(self, lines: IO[bytes], form: str = "auto", told: Told = SILENT, **options: Any) -> dict[str, Any]:
        """Previews, or opens, the merges that lines name (options: see `Rescue`); `told` gets each line's answer."""
        return Rescue(self.journal, self.preview_table, self.settings, **options).run(lines, form, told)

    def report_failures(self, run_state: Callable[[str], str | None]) -> dict[str, int]:
        """Publishes each failed event that is still owed."""
        return self.failures.sweep(run_state)

    # --- the kill switch ------------------------------------------------------------------------------------------
    def pause(self, tenant: str, by: str, reason: str) -> dict[str, Any]:
        """Stops all merging (tenant "") or one tenant's, in every process; answers which switches are on then."""
        changed = self.switch.turn_on(tenant, by, reason)
        return {"changed": changed, "stopped": [stop.note for stop in self.switch.on().values()]}

    def resume(self, tenant: str, by: str, reason: str = "") -> dict[str, Any]:
        """Switches off what `pause` with the same tenant switched on; the next poll starts what it held up."""
        changed = self.switch.turn_off(tenant, by, reason)
        return {"changed": changed, "stopped": [stop.note for stop in self.switch.on().values()]}

    def status(self) -> dict[str, Any]:
        """Which switches are on, how many merges are in which state, and what waits for whom."""
        return status_of(self.journal, self.switch)

    # --- failed events --------------------------------------------------------------------------------------------
    def failed(self, search: Search) -> list[Merge]:
        """Failed merges, refused events and undeliverable failed events: what a person has to look at."""
        return find(self.journal, search)

    def replay(
        self,
        search: Search,
        by: str,
        reason: str = "",
        dry_run: bool = True,
        corrected: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Opens failed merges and refused events again; answers for each what was done, or why it was left alone."""
        return summary(Replay(self.journal, self.settings, by, reason, corrected, dry_run).run(search), dry_run)

    # --- looking --------------------------------------------------------------------------------------------------
    def preview(self, request: MergeRequest) -> Report:
        """What a merge would do; nothing is written anywhere."""
        return self.looking.preview(request)

    def preview_table(self, request: MergeRequest, table: str) -> dict[str, Any]:
        """Counts of what a merge would do in one table; nothing is written."""
        return self.looking.preview_table(request, table)

    def preview_undo(self, merge_id: uuid.UUID, action: str = "undo") -> Report:
        """What an undo (or redo) would do; nothing is written anywhere."""
        return self.looking.preview_undo(merge_id, action)

    def report(self, merge_id: uuid.UUID) -> Report:
        """What a merge did, and its undos, from their logs."""
        return self.looking.report(merge_id)

    def audit(self, merge_id: uuid.UUID, exported: Mapping[str, Any] | None = None) -> Iterator[Difference]:
        """Each difference between a merge's log and what is in the log and in the tables.

        :param exported: a report of the merge from earlier; what it says otherwise than the journal comes first.
        """
        merge, audit = self.journal.need(merge_id), Audit(self.merging, self.undoing)
        if exported is not None:
            yield from Exported(self.looking).differences(merge, exported)
        yield from audit.differences(merge)

    # --- undoing --------------------------------------------------------------------------------------------------
    def undo(
        self, merge_id: uuid.UUID, action: str = "undo", publish: bool = True, by: str = "", reason: str = ""
    ) -> dict[str, Any]:
        """Undo (or redo) from beginning to end, as the DAG does it task by task; calling again goes on."""
        answer = self.undoing.begin(merge_id, action, by, reason)
        for rule in self.undoing.rules(self.journal.need(merge_id)):
            self.undoing.table(merge_id, rule.table)
        return {**answer, **self.undoing.finish(merge_id, publish)}
