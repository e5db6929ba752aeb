"""Merges: preview, create, search, status, report."""

from __future__ import annotations

import logging
import uuid
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from account_merge.errors import InvalidRequest, MergeError
from account_merge.failed_search import FailedMergeFilter
from account_merge.intake.opening import choices_of
from account_merge.jsonable import jsonable
from account_merge.listings import MergeFilter
from account_merge.model import Merge, MergeRequest
from account_merge.reports.queries import place_of as merge_place
from account_merge.reports.queries import text_of
from account_merge.rules import TABLES
from account_merge.service import Service
from account_merge.states import MERGE_DAG, Origin
from account_merge_airflow.web.airflow_api import AirflowApi, AirflowDep
from account_merge_airflow.web.api import answers, bodies, common, preview_answers
from account_merge_airflow.web.auth import Caller, CallerDep
from account_merge_airflow.web.dags import APPROVE_DAG
from account_merge_airflow.web.problems import Refusal
from account_merge_airflow.web.service import CoreDep

log = logging.getLogger(__name__)

router = common.router("merges")
Rows = Annotated[int, Query(ge=0, le=1000, description="How many rows of each table are shown.")]
Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[bodies.Text, Query(max_length=100, description="`next` of the page before.")]


def request_of(body: bodies.PreviewIn, caller: Caller, reason: str = "") -> MergeRequest:
    """Return the core's request.

    :raises InvalidRequest: the list of tables is empty, or a choice cannot be read.
    """
    if body.tables is not None and not body.tables:
        remedy = "Choose at least one table; a request without `tables` merges every table."
        raise InvalidRequest("NO_TABLES", "no table is chosen: there is nothing to merge", remedy)
    chosen = body.tables or TABLES
    tables = () if set(chosen) == set(TABLES) else tuple(chosen)  # () = all, also those of a later version
    return MergeRequest(
        tuple(body.source_accounts), body.target_account, tables, body.on_conflict, body.source_rows,
        reason=reason, requested_by=caller.name, origin=Origin.API, choices=choices_of(body.choices.model_dump()),
        deactivate_sources=isinstance(body, bodies.MergeIn) and body.deactivate_sources,
    )  # fmt: skip


@router.post("/previews", summary="Preview a merge", responses=common.CONFLICT)
def preview(body: bodies.PreviewIn, core: CoreDep, caller: CallerDep, rows: Rows = 100) -> preview_answers.PreviewOut:
    """Return what a merge would do, by table and row, what stays behind, and known facts about the accounts.

    Nothing is written. A warning with `serious` true means that an id is probably wrong: ask a person before you merge.
    """
    service, asked = core.service(), request_of(body, caller)
    report = service.previews.preview(asked)
    merge = answers.MergeOut.model_validate(report.head())
    balance = service.previews.balance(asked)
    return preview_answers.PreviewOut(
        merge=merge, tables=common.previewed(report, rows), balance=preview_answers.BalanceOut.model_validate(balance.to_dict()),
        warnings=[preview_answers.Warned.model_validate(n.to_dict()) for n in service.previews.notices(asked, balance)],
    )  # fmt: skip


@router.post("/merges", status_code=202, summary="Merge accounts", responses=common.CONFLICT)
def create(
    body: bodies.MergeIn, key: common.Key, core: CoreDep, caller: CallerDep, airflow: AirflowDep, request: Request,
    response: Response,
) -> answers.Accepted:  # fmt: skip
    """Open a merge in the journal and start its run; with the same key again it is the same merge, done once.

    The poll starts a merge that cannot start now (another one has an account, merging is stopped, Airflow fails).
    """
    service = core.service()
    merge = service.opening.open_once(request_of(body, caller, body.reason), str(caller.user.get_id()), key)
    return common.accepted(response, start(merge, service, airflow, request))


def start(merge: Merge, service: Service, airflow: AirflowApi, request: Request) -> answers.Accepted:
    """Start a requested merge's run if nothing is in its way; whatever happens here, the journal has the merge."""
    run = service.opening.start(merge)
    if run is not None:
        try:
            airflow.trigger(MERGE_DAG, run["trigger_run_id"], run["conf"])
        except Refusal as refusal:
            log.warning("Merge %s: %s; the poll starts it.", merge.merge_id, refusal.problem.code)
    merge = service.journal.need(merge.merge_id)
    runs = common.runs_of(request, merge)
    return answers.Accepted(
        merge_id=merge.merge_id,
        state=merge.state,
        status_url=common.link(request, f"/merges/{merge.merge_id}"),
        run=runs[-1] if runs else None,
    )


class SearchQuery(BaseModel):
    """The filters of a search."""

    account: bodies.Text = Field("", max_length=1024, description="Source or target.")
    merge_id: uuid.UUID | None = None
    state: bodies.State | None = None
    origin: bodies.Text = Field("", max_length=20, examples=["event"])
    since: bodies.Text = Field("", max_length=40, description="Created at or after (UTC).")
    until: bodies.Text = Field("", max_length=40, description="Created before (UTC).")
    cursor: bodies.Text = Field("", max_length=100, description="`next` of the page before.")
    limit: int = Field(50, ge=1, le=500)


@router.get("/merges", summary="Search merges")
def search(core: CoreDep, given: Annotated[SearchQuery, Query()]) -> answers.MergesOut:
    """Return the merges that fit all filters, newest first. A page may have fewer than `limit`: only `next` tells the end."""
    times = FailedMergeFilter.of(since=given.since, until=given.until)
    service = core.service()
    if given.merge_id is not None:
        found = service.journal.get(given.merge_id)
        return answers.MergesOut(merges=[answers.MergeOut.of(found)] if found else [], next=None)
    wanted = MergeFilter(given.account, given.state or "", given.origin, times.since, times.until)
    merges, following = service.queries.merges(wanted, merge_place(given.cursor), given.limit)
    return answers.MergesOut(merges=[answers.MergeOut.of(m) for m in merges], next=text_of(following))


@router.get("/merges/{merge_id}", summary="A merge's status", responses=common.NOT_FOUND)
def status(merge_id: uuid.UUID, core: CoreDep, request: Request) -> answers.MergeStatus:
    """Return how far a merge is, what happened to it, its runs, and its possible actions."""
    service = core.service()
    merge = service.journal.need(merge_id)
    return answers.MergeStatus(
        merge=answers.MergeOut.of(merge),
        timeline=[answers.Moment(at=str(jsonable(at)), what=what, note=note)
                  for at, what, note in service.queries.timeline(merge)],
        actions={action: _possible(error) for action, error in service.queries.possible(merge).items()},
        runs=common.runs_of(request, merge),
        approval=common.run_out(request, APPROVE_DAG, merge.approval_run) if merge.approval_run else None,
    )  # fmt: skip


def _possible(error: MergeError | None) -> answers.Possible:
    if error is None:
        return answers.Possible(possible=True)
    return answers.Possible(possible=False, code=error.code, detail=error.message, remedy=error.remedy)


@router.get("/merges/{merge_id}/report", summary="What a merge did", responses=common.NOT_FOUND)
def report(merge_id: uuid.UUID, core: CoreDep, request: Request) -> answers.ReportOut:
    """Return counts by table, of the merge and of its undos, and where each table's rows are."""
    found = core.service().reader.report(merge_id)

    def table(part: Any) -> answers.TableOut:
        path = f"/merges/{merge_id}/tables/{quote(part.table, safe='')}/rows"
        url = common.link(request, path) if part.counts else None
        return answers.TableOut(
            table=part.table, note=part.note, counts=dict(part.counts), stage=part.stage, operation=part.operation,
            rows_url=url,
        )  # fmt: skip

    return answers.ReportOut(
        merge=answers.MergeOut.of(found.merge), coverage=dict(found.coverage), tables=[table(t) for t in found.tables]
    )


@router.get("/merges/{merge_id}/tables/{table:path}/rows", summary="A report's rows", responses=common.NOT_FOUND)
def rows(
    merge_id: uuid.UUID, table: bodies.Text, core: CoreDep, cursor: Cursor = "0.0", limit: Limit = 100
) -> answers.RowsOut:
    """Return rows of one table of the report, in key order, page by page."""
    found, following = core.service().reader.rows(merge_id, table, common.place_of(cursor or "0.0"), limit)
    return answers.RowsOut(rows=common.rows_out(found), next=f"{following[0]}.{following[1]}" if following else None)
