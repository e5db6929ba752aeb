"""Merges that a second person approves: proposed by a run of `account_merge_approve`, answered on Airflow's own page."""

from __future__ import annotations

import uuid

from fastapi import Request, Response

from account_merge.model import Merge
from account_merge.states import State
from account_merge_airflow.web.airflow_api import AirflowApi, AirflowDep
from account_merge_airflow.web.api import answers, bodies, common
from account_merge_airflow.web.api.actions import run_id_of
from account_merge_airflow.web.api.merges import request_of
from account_merge_airflow.web.auth import CallerDep
from account_merge_airflow.web.dags import APPROVE_DAG
from account_merge_airflow.web.problems import Refusal
from account_merge_airflow.web.service import CoreDep

router = common.router("proposals")


@router.post("/proposals", status_code=202, summary="Ask a second person to approve a merge", responses=common.CONFLICT)
def propose(
    body: bodies.ProposalIn, key: common.Key, core: CoreDep, caller: CallerDep, airflow: AirflowDep, request: Request,
    response: Response,
) -> answers.Accepted:  # fmt: skip
    """Open a merge as proposed and start the run that plans it and asks; with the same key again it is the same proposal.

    The person who asks cannot approve. Airflow's conf gets the accounts only; the journal has the rest.
    """
    asked = request_of(body, caller, body.reason)
    merge = core.service().opening.open_once(asked, str(caller.user.get_id()), key, state=State.PROPOSED)
    return _started(request, response, airflow, merge, f"approve__{merge.merge_id}", body.answer_within_days)


@router.post("/merges/{merge_id}/propose", status_code=202, summary="Propose a merge anew",
             responses=common.NOT_FOUND | common.CONFLICT)  # fmt: skip
def propose_anew(  # noqa: PLR0913 - a route: each parameter is a part of the request
    merge_id: uuid.UUID, body: bodies.RenewalIn, core: CoreDep, caller: CallerDep, airflow: AirflowDep, request: Request,
    response: Response, key: common.OptionalKey = None,
) -> answers.Accepted:  # fmt: skip
    """Start a run that plans a proposed merge anew and waits for a person; the first asker stays its asker."""
    merge = core.service().journal.need(merge_id)
    if merge.state != State.PROPOSED:
        words = f"Merge {merge_id} is {merge.state}: it is not up for approval."
        raise Refusal(409, "NOT_PROPOSED", words, "Look at its status.")
    run_id = run_id_of("approve", merge_id, str(caller.user.get_id()), key)
    return _started(request, response, airflow, merge, run_id, body.answer_within_days)


def _started(
    request: Request, response: Response, airflow: AirflowApi, merge: Merge, run_id: str, days: int
) -> answers.Accepted:
    conf = {
        "merge_id": str(merge.merge_id),
        "source_accounts": list(merge.request.sources),
        "target_account": merge.request.target,
        "answer_within_days": days,
    }
    run = airflow.trigger(APPROVE_DAG, run_id, conf)
    status_url = common.link(request, f"/merges/{merge.merge_id}")
    return common.started(request, response, run, merge.merge_id, merge.state, status_url)


@router.get("/merges/{merge_id}/changes", summary="What changed since a merge was proposed",
            responses=common.NOT_FOUND | common.CONFLICT)  # fmt: skip
def changes(merge_id: uuid.UUID, core: CoreDep) -> answers.ChangesOut:
    """Return by table the number of rows whose result is not the proposed one any more, and the first ones by their keys."""
    return answers.ChangesOut.model_validate(core.service().proposals.changes(merge_id))
