"""A merge as a row of its table, and back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from account_merge.choices import Choices
from account_merge.model import Merge, MergeRequest
from account_merge.states import Origin, State


def request_columns(request: MergeRequest) -> dict[str, Any]:
    """Return the columns of what a request asks: its accounts, and how they are merged."""
    return {
        "sources": list(request.sources), "target": request.target, "on_conflict": request.on_conflict,
        "source_rows": request.source_rows, "dry_run": request.dry_run, "tenant": request.tenant, "dated": request.dated,
        "seeded": request.seeded, "deactivate_sources": request.deactivate_sources,
        "choices": request.choices.to_text(), "doubt": request.doubt, "mid": request.mid,
    }  # fmt: skip


def merge_of(row: Row[Any]) -> Merge:
    """Return the merge that a whole row of the table is."""
    request = MergeRequest(
        tuple(row.sources), row.target, tuple(row.tables), row.on_conflict, row.source_rows, row.dry_run,
        row.reason or "", row.requested_by or "", Origin(row.origin), row.mid, row.raw, row.tenant, row.dated,
        row.seeded, row.deactivate_sources, Choices.of_text(row.choices), row.doubt,
    )  # fmt: skip
    return Merge(
        row.merge_id, State(row.state), row.attempt, request,
        survivor=row.survivor, waiting_for=row.waiting_for, waiting_holder=row.waiting_holder,
        error_code=row.error_code, error=row.error, remedy=row.remedy,
        failed_event=row.failed_event, failed_number=row.failed_number, failed_at=row.failed_at,
        failed_offsets=dict(row.failed_offsets or {}), run_ids=tuple(row.run_ids), sync_sent=row.sync_sent,
        rules_hash=row.rules_hash, created_at=row.created_at, updated_at=row.updated_at, note=row.note,
        resume=row.resume, operation=row.operation, parent=row.parent, replayed_as=row.replayed_as,
        digests=row.digests, settles=row.settles, settle_at=row.settle_at, closed_at=row.closed_at, expiry=row.expiry,
        images_gone=row.images_gone, former=State(row.former) if row.former else None, plan=row.plan,
        approved_by=row.approved_by, approval_run=row.approval_run, state_at=row.state_at,
    )  # fmt: skip
