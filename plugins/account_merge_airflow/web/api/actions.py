"""Actions on existing merges, each by a run of its DAG: undo, redo, abandon, repair, retry."""

from __future__ import annotations

import hashlib
import uuid

from fastapi import Request, Response

from account_merge.failed_search import FailedMergeFilter
from account_merge.service import Service
from account_merge.states import ACTIONS, UNDO_DAG
from account_merge_airflow.web.airflow_api import AirflowDep
from account_merge_airflow.web.api import answers, bodies, common, preview_answers
from account_merge_airflow.web.auth import CallerDep
from account_merge_airflow.web.dags import REPLAY_DAG
from account_merge_airflow.web.problems import Refusal
from account_merge_airflow.web.service import CoreDep

router = common.router("actions")
ANSWERS = (
    common.NOT_FOUND
    | common.CONFLICT
    | {200: {"model": preview_answers.Checked, "description": "dry_run: what it would do."}}
)


def run_id_of(action: str, merge_id: uuid.UUID | str, user: str, key: str | None) -> str:
    """Return the id of the action's run: with a key the same for every repeated request."""
    unique = hashlib.sha256(f"{user}\n{key}".encode()).hexdigest()[:32] if key else uuid.uuid4().hex
    return f"{action}__{merge_id}__{unique}"


def checked(service: Service, merge_id: uuid.UUID, action: str, rows: int) -> preview_answers.Checked:
    """Return what an action would do, by table and row; nothing is written."""
    if action in ACTIONS:
        tables = common.previewed(service.previews.preview_undo(merge_id, action), rows)
    else:
        service.undoing.check(service.journal.need(merge_id), action)
        tables = []
    return preview_answers.Checked(merge_id=merge_id, action=action, tables=tables)


@router.post("/merges/{merge_id}/retry", status_code=202, summary="Let a failed merge go on", responses=ANSWERS)
def retry(  # noqa: PLR0913 - a route: each parameter is a part of the request
    merge_id: uuid.UUID, body: bodies.ActionIn, core: CoreDep, caller: CallerDep, airflow: AirflowDep, request: Request,
    response: Response, key: common.OptionalKey = None,
) -> answers.Accepted | preview_answers.Checked:  # fmt: skip
    """Open a failed merge or a refused event again: it goes on where it stopped."""
    service = core.service()
    service.journal.need(merge_id)
    item = service.replays.replay(FailedMergeFilter(merge_ids=(merge_id,)), caller.name, body.reason, dry_run=True)
    if item["left_alone"]:
        raise Refusal(409, item["items"][0]["code"], item["items"][0]["note"], "Look at the merge's status.")
    if body.dry_run:
        response.status_code = 200
        return preview_answers.Checked(merge_id=merge_id, action="retry", tables=[])
    conf = {"merge_ids": [str(merge_id)], "dry_run": False, "reason": body.reason}
    run_id = run_id_of("retry", merge_id, str(caller.user.get_id()), key)
    run = airflow.trigger(REPLAY_DAG, run_id, conf)
    return common.started(request, response, run, merge_id)


@router.post("/merges/{merge_id}/{action}", status_code=202, summary="Undo, redo, abandon or repair", responses=ANSWERS)
def act(  # noqa: PLR0913 - a route: each parameter is a part of the request
    merge_id: uuid.UUID, action: bodies.Action, body: bodies.ActionIn, core: CoreDep, caller: CallerDep,
    airflow: AirflowDep, request: Request, response: Response, key: common.OptionalKey = None,
) -> answers.Accepted | preview_answers.Checked:  # fmt: skip
    """Start a run of the action if the action is possible now; `dry_run` shows what it would do.

    An undo or redo rewrites a learner's rows: it is refused unless the request says `dry_run`, true or false.
    """
    if action in ACTIONS and body.dry_run is None:
        remedy = "Send `dry_run`: true shows what would be done, false does it."
        raise Refusal(422, "DRY_RUN_MISSING", f"{action} does not say whether it is a dry run", remedy)
    service = core.service()
    if body.dry_run:
        response.status_code = 200
        return checked(service, merge_id, action, rows=100)
    merge = service.journal.need(merge_id)
    service.undoing.check(merge, action)
    conf = {"merge_id": str(merge_id), "action": action, "dry_run": False, "reason": body.reason}
    run = airflow.trigger(UNDO_DAG, run_id_of(action, merge_id, str(caller.user.get_id()), key), conf)
    return common.started(request, response, run, merge_id, merge.state)
