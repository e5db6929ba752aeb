"""Merges that a second person approves: proposed by a run of `account_merge_approve`, answered on Airflow's own page."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response

from account_merge.requests import id_of_key
from account_merge_airflow.web.airflow_api import AirflowApi, AirflowDep
from account_merge_airflow.web.api import common, inputs, models
from account_merge_airflow.web.api.actions import run_id_of
from account_merge_airflow.web.api.merges import request_of
from account_merge_airflow.web.auth import CallerDep
from account_merge_airflow.web.core import CoreDep
from account_merge_airflow.web.problems import Refusal

router = common.router("proposals")
DAG = "account_merge_approve"


@router.post("/proposals", status_code=202, summary="Ask a second person to approve a merge", responses=common.CONFLICT)
def propose(
    body: inputs.ProposalIn, key: common.Key, core: CoreDep, caller: CallerDep, airflow: AirflowDep, request: Request,
    response: Response,
) -> models.Accepted:  # fmt: skip
    """Starts a run that proposes the merge and waits for a person; with the same key again it is the same proposal.

    The merge is there when the run's task `propose` is done. Whoever asks cannot approve.
    """
    core.service().looking.check(request_of(body, caller))
    merge_id = id_of_key(str(caller.user.get_id()), f"proposal {key}")
    conf = {name: value for name, value in body.model_dump().items() if value != []} | {"merge_id": str(merge_id)}
    return _started(request, response, airflow, merge_id, f"approve__{merge_id}", conf)


@router.post("/merges/{merge_id}/propose", status_code=202, summary="Propose a merge anew",
             responses=common.NOT_FOUND | common.CONFLICT)  # fmt: skip
def propose_anew(
    merge_id: uuid.UUID, body: inputs.RenewalIn, core: CoreDep, caller: CallerDep, airflow: AirflowDep, request: Request,
    response: Response, key: common.OptionalKey = None,
) -> models.Accepted:  # fmt: skip
    """Starts a run that plans a proposed merge as things stand, and waits for a person; who asked first stays so."""
    merge = core.service().journal.need(merge_id)
    if merge.state != "proposed":
        words = f"Merge {merge_id} is {merge.state}: it is not up for approval."
        raise Refusal(409, "NOT_PROPOSED", words, "Look at its status.")
    conf = {
        "merge_id": str(merge_id),
        "source_accounts": list(merge.request.sources),
        "target_account": merge.request.target,
        "answer_within_days": body.answer_within_days,
    }
    run_id = run_id_of("approve", merge_id, str(caller.user.get_id()), key)
    return _started(request, response, airflow, merge_id, run_id, conf)


def _started(
    request: Request, response: Response, airflow: AirflowApi, merge_id: uuid.UUID, run_id: str, conf: Mapping[str, Any]
) -> models.Accepted:
    run = airflow.trigger(DAG, run_id, conf)
    if not run.created and airflow.conf(DAG, run_id) != conf:
        raise Refusal(
            422, "KEY_REUSED", f"This idempotency key belongs to merge {merge_id}, which was asked for otherwise.",
            "Send the same request again, or another one with a key of its own.",
        )  # fmt: skip
    made = common.run_out(request, run.dag_id, run.run_id, run.state)
    return common.accepted(
        response, models.Accepted(merge_id=merge_id, state=None, status_url=made.status_url, run=made)
    )


@router.get("/merges/{merge_id}/changes", summary="What changed since a merge was proposed",
            responses=common.NOT_FOUND | common.CONFLICT)  # fmt: skip
def changes(merge_id: uuid.UUID, core: CoreDep) -> models.ChangesOut:
    """By table how many rows would be done otherwise than was proposed, and the first of them by their keys."""
    return models.ChangesOut.model_validate(core.service().proposals.changes(merge_id))
