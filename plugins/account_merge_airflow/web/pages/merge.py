"""A merge's page, also as a tab of its DAG run, its tables' rows page by page, and an account's page."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import HTMLResponse

from account_merge.errors import MergeError
from account_merge.failed_search import KINDS, FailedMergeFilter
from account_merge.merge_ids import request_id
from account_merge.model import Merge
from account_merge.reports.report import Report, TableReport
from account_merge.service import Service
from account_merge.states import BY_COMMAND, CLOSED, MERGE_DAG, State
from account_merge_airflow.web.airflow_api import AirflowDep
from account_merge_airflow.web.api.bodies import Text
from account_merge_airflow.web.api.common import place_of, run_out, runs_of
from account_merge_airflow.web.auth import Caller, CallerDep
from account_merge_airflow.web.dags import APPROVE_DAG
from account_merge_airflow.web.filters import diff
from account_merge_airflow.web.pages.common import buttons
from account_merge_airflow.web.pages.common import router as made
from account_merge_airflow.web.problems import Refusal
from account_merge_airflow.web.service import CoreDep
from account_merge_airflow.web.templating import page

router = made()
#: Rows in one answer.
PAGE = 100
WHATS = ("created", "changed", "folded", "deleted", "left", "ambiguous", "same")
#: The counts of rows that were not written.
UNTOUCHED = {"same", "left", "ambiguous"}
#: The merge's id in the id of its run.
IN_RUN_ID = re.compile(r"__([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:__|$)")


@router.get("/merges/{merge_id}")
def merge(request: Request, merge_id: uuid.UUID, core: CoreDep, caller: CallerDep) -> str:
    """Return a merge's page. It reads heads and counts only, so it opens at once whatever the merge's size."""
    return _page(request, core.service(), merge_id, caller)


def _page(request: Request, service: Service, merge_id: uuid.UUID, caller: Caller, in_run: bool = False) -> str:
    report = service.reader.report(merge_id)
    found, parts = report.merge, _parts(report)
    moments = service.queries.timeline(found)
    return page(
        request.scope, "merge.html", tab="", merge=found, head=report.head(), coverage=report.coverage, in_run=in_run,
        parts=parts, ambiguous=sum(t.counts.get("ambiguous", 0) for t in report.tables), whats=WHATS,
        timeline=_timeline(moments, {t.table: t for t in report.tables if t.counts}),
        runs=runs_of(request, found), by_command=any(name.startswith(BY_COMMAND) for name in found.run_ids),
        buttons=buttons(lambda action: _why_not(service, found, action), caller.may_start),
        asks=approval_of(request, found), may_propose=caller.may_start(APPROVE_DAG),
        can_merge=caller.may_start(MERGE_DAG), open=found.state not in CLOSED,
    )  # fmt: skip


def approval_of(request: Request, found: Merge) -> str:
    """Return the address of Airflow's page where the second person answers; empty when nobody is asked."""
    if found.state != State.PROPOSED or not found.approval_run:
        return ""
    return run_out(request, APPROVE_DAG, found.approval_run).page + "/tasks/approve/required_actions"


@router.get("/merges/{merge_id}/parts/changes")
def changes(request: Request, merge_id: uuid.UUID, core: CoreDep) -> str:
    """Return the rows of a proposed merge whose result changed; every table is planned for that."""
    return page(request.scope, "parts/changes.html", **core.service().proposals.changes(merge_id))


@dataclass(frozen=True)
class Part:
    """The tables of a merge, or of one of its undos and redos.

    :param name: for instance `undo-1`; empty for the merge itself.
    :param tables: those with rows, the ambiguous first.
    :param idle: those without, by the words that the page says of them.
    """

    name: str
    tables: list[TableReport]
    idle: dict[str, list[TableReport]]


#: The words for tables without rows, by their stage.
IDLE = {"done": "Nothing in", "begun": "Begun, without a row so far", "left out": "Left out"}


def _parts(report: Report) -> list[Part]:
    """Return the merge itself, then its undos and redos in their order."""
    found: dict[str, Part] = {"": Part("", [], {})}
    for table in report.tables:
        part = found.setdefault(table.operation, Part(table.operation, [], {}))
        if table.counts:
            part.tables.append(table)
        else:
            words = IDLE.get(table.stage) or table.note.partition(";")[0].capitalize()
            part.idle.setdefault(words, []).append(table)
    for part in found.values():
        part.tables.sort(key=lambda t: (not t.counts.get("ambiguous"), set(t.counts) <= {"same"}))
    return sorted(found.values(), key=lambda part: int(part.name.rpartition("-")[2] or 0))


def _timeline(moments: list[tuple[Any, str, str]], busy: dict[str, TableReport]) -> list[dict[str, Any]]:
    """Return what happened, oldest first: a log once, with its duration. Logs without rows are left out.

    :param busy: each log with rows; one that is not done has no duration yet.
    """
    last = {note: at for at, what, note in moments if what == "last entry"}
    found = []
    for at, what, note in moments:
        if what == "last entry" or (what == "first entry" and note not in busy):
            continue
        table = busy.get(note) if what == "first entry" else None
        done = table is not None and table.stage == "done"
        seconds = (last[note] - at).total_seconds() if done and note in last else None
        words = what.replace("_", " ") if table is None else "wrote" if {*table.counts} - UNTOUCHED else "looked at"
        found.append({"at": at, "words": words, "note": note, "took": seconds,
                      "after": (at - moments[0][0]).total_seconds()})  # fmt: skip
    return found


def _why_not(service: Service, found: Merge, action: str) -> str:
    if action == "retry":
        if found.state not in KINDS:
            return f"a merge that is {found.state.replace('_', ' ')} is not retried"
        answer = service.replays.replay(FailedMergeFilter(merge_ids=(found.merge_id,)), "", "", dry_run=True)
        return str(answer["items"][0]["note"]) if answer["left_alone"] else ""
    try:
        service.undoing.check(found, action)
    except MergeError as error:
        return f"{error.message}. {error.remedy}"
    return ""


@router.get("/merges/{merge_id}/parts/rows")
def rows(
    request: Request,
    merge_id: uuid.UUID,
    core: CoreDep,
    table: Annotated[Text, Query(max_length=100)],
    cursor: Annotated[Text, Query(max_length=100)] = "0.0",
    what: Annotated[Text, Query(max_length=20)] = "",
    key: Annotated[Text, Query(max_length=200)] = "",
) -> HTMLResponse:
    """Return some rows of one table, as the bodies of its diff; the header `x-next` names the place of the next ones."""
    found, following = core.service().reader.rows(merge_id, table, place_of(cursor), PAGE, what, key.strip())
    html = page(request.scope, "parts/rows.html", rows=diff(found, table))
    headers = {"x-next": f"{following[0]}.{following[1]}"} if following else {}
    return HTMLResponse(html, headers=headers | {"x-rows": str(len(found))})


@router.get("/runs/{dag_id}/{run_id:path}")
def of_run(request: Request, dag_id: Text, run_id: Text, core: CoreDep, caller: CallerDep, airflow: AirflowDep) -> str:
    """Return the page of the merge that a DAG run works on: a tab of the run's page."""
    service = core.service()
    merge_id = _merge_of(service, airflow, dag_id, run_id)
    if merge_id is None or service.journal.get(merge_id) is None:
        return page(request.scope, "run.html", tab="", dag_id=dag_id)
    return _page(request, service, merge_id, caller, in_run=True)


def _merge_of(service: Service, airflow: Any, dag_id: str, run_id: str) -> uuid.UUID | None:
    if named := IN_RUN_ID.search(run_id):
        return uuid.UUID(named[1])
    if not dag_id.startswith(MERGE_DAG):
        return None
    try:
        conf = airflow.conf(dag_id, run_id)
        if conf.get("merge_id"):
            return uuid.UUID(str(conf["merge_id"]).strip())
        if conf.get("source_accounts") and conf.get("target_account"):
            return request_id(run_id, tuple(conf["source_accounts"]), str(conf["target_account"]))
    except (Refusal, ValueError):
        return None
    return None


@router.get("/account")
def account(request: Request, core: CoreDep, id: Annotated[Text, Query(min_length=1, max_length=1024)]) -> str:
    """Return an account's page: every merge that it took part in."""
    service = core.service()
    found = service.queries.account(id)
    merges = sorted(found["merges"], key=lambda m: (str(m.created_at), str(m.merge_id)), reverse=True)
    away = service.journal.get(uuid.UUID(found["merged_by"])) if found["merged_by"] else None
    holder = service.journal.get(uuid.UUID(found["held_by"])) if found["held_by"] else None
    return page(
        request.scope, "account.html", tab="", account=id, found=found, away=away, holder=holder,
        was_source=[m for m in merges if id in m.request.sources],
        was_target=[m for m in merges if id not in m.request.sources],
    )  # fmt: skip
