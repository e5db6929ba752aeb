"""Routes for operators: failed events and their replay, switches, runs, status, session."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request, Response

from account_merge.errors import need_reason
from account_merge.failed_search import KINDS, MOST, FailedMergeFilter
from account_merge_airflow.web.airflow_api import AirflowDep
from account_merge_airflow.web.api import answers, bodies, common
from account_merge_airflow.web.api.actions import run_id_of
from account_merge_airflow.web.auth import CallerDep
from account_merge_airflow.web.dags import DAG_IDS, REPLAY_DAG, SWITCH_DAG
from account_merge_airflow.web.service import CoreDep, in_thread

router = common.router("operation")


@router.get("/failed", summary="What a person has to look at")
def failed(
    core: CoreDep,
    states: Annotated[list[bodies.Kind] | None, Query(description="Empty: all.")] = None,
    codes: Annotated[list[bodies.Text] | None, Query(description="Error codes.", max_length=100)] = None,
    account: Annotated[bodies.Text, Query(max_length=1024)] = "",
    since: Annotated[bodies.Text, Query(max_length=40)] = "",
    until: Annotated[bodies.Text, Query(max_length=40)] = "",
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
) -> list[answers.MergeOut]:
    """Return failed merges, refused events and failed events that could not be published, oldest first."""
    wanted = FailedMergeFilter.of(
        kinds=states or KINDS, codes=codes, account=account, since=since, until=until, limit=limit
    )
    return [answers.MergeOut.of(merge) for merge in core.service().replays.find(wanted)]


@router.post(
    "/failed/replay", status_code=202, summary="Open them again",
    responses=common.CONFLICT | {200: {"model": answers.Replayed, "description": "dry_run: what it would do."}},
)  # fmt: skip
def replay(
    body: bodies.ReplayIn, core: CoreDep, caller: CallerDep, airflow: AirflowDep, request: Request, response: Response,
    key: common.OptionalKey = None,
) -> answers.Accepted | answers.Replayed:  # fmt: skip
    """Start a run that opens failed merges and refused events again; `dry_run` (the default) returns what it would do."""
    asked = body.model_dump(mode="json", exclude={"dry_run", "reason", "corrected"})
    kinds = asked.pop("states")
    found = core.service().replays.replay(
        FailedMergeFilter.of(kinds=kinds, **asked), caller.name, body.reason, True, body.corrected
    )
    if body.dry_run:
        response.status_code = 200
        return answers.Replayed.model_validate(found)
    conf = asked | {
        "states": kinds or list(KINDS[:3]),
        "corrected": body.corrected,
        "dry_run": False,
        "reason": body.reason,
    }
    run = airflow.trigger(REPLAY_DAG, run_id_of("replay", "failed", str(caller.user.get_id()), key), conf)
    return common.started(request, response, run)


@router.post("/switches", status_code=202, summary="Stop merging, or let it go on", responses=common.CONFLICT)
def turn(
    body: bodies.SwitchIn, caller: CallerDep, airflow: AirflowDep, request: Request, response: Response,
    key: common.OptionalKey = None,
) -> answers.Accepted:  # fmt: skip
    """Start a run that turns a switch. A merge stops before it writes its next rows. A pause needs a reason."""
    if body.action == "pause":
        need_reason(body.reason)
    run_id = run_id_of(body.action, "switch", str(caller.user.get_id()), key)
    conf: dict[str, Any] = {"action": body.action, "tenant": body.tenant or None, "reason": body.reason}
    run = airflow.trigger(SWITCH_DAG, run_id, conf)
    return common.started(request, response, run)


@router.get("/status", summary="The status of the product")
def status(core: CoreDep) -> answers.StatusOut:
    """Return which switches are on, how many merges are in which state, and which merge waits for which."""
    return answers.StatusOut.model_validate(core.service().queries.status())


@router.get("/runs/{dag_id}/{run_id:path}", summary="A run's state", responses=common.NOT_FOUND)
def run(dag_id: bodies.Text, run_id: bodies.Text, airflow: AirflowDep, request: Request) -> answers.RunOut:
    """Return a run of one of the product's DAGs."""
    found = airflow.run(dag_id, run_id)
    return common.run_out(request, found.dag_id, found.run_id, found.state)


@router.get("/session", summary="Who is logged in")
async def session(caller: CallerDep) -> answers.SessionOut:
    """Return the user, what the user may start, and the token that changes by cookie need."""
    may = {dag: await in_thread(caller.may_start, dag) for dag in DAG_IDS}
    return answers.SessionOut(user=caller.name, may_start=may, csrf_token=caller.csrf_token)
