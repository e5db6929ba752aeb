"""Pages for operators: failed events with their replay, and the upload of pairs."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Annotated

from fastapi import Query, Request
from pydantic import BaseModel, Field

from account_merge.failed_search import KINDS, FailedMergeFilter
from account_merge.states import State
from account_merge_airflow.web.api.bodies import Text
from account_merge_airflow.web.auth import CallerDep
from account_merge_airflow.web.dags import REPLAY_DAG, RESCUE_DAG
from account_merge_airflow.web.pages.common import router as made
from account_merge_airflow.web.problems import Refusal
from account_merge_airflow.web.service import CoreDep
from account_merge_airflow.web.templating import page

router = made()
LIMIT = 200


class FailedQuery(BaseModel):
    """The filters of the failures."""

    states: list[Text] | None = Field(None, max_length=10)
    codes: Text = Field("", max_length=400)
    account: Text = Field("", max_length=1024)
    since: Text = Field("", max_length=40)
    until: Text = Field("", max_length=40)


@router.get("/failed")
def failed(request: Request, core: CoreDep, caller: CallerDep, given: Annotated[FailedQuery, Query()]) -> str:
    """Return failed merges, refused events and failed events that could not be published, oldest first."""
    asked = {"states": given.states or list(KINDS), "codes": given.codes.strip(), "account": given.account.strip(),
             "since": given.since, "until": given.until}  # fmt: skip
    wanted = FailedMergeFilter.of(
        kinds=asked["states"], codes=given.codes.replace(",", " ").split(), account=given.account.strip(),
        since=given.since, until=given.until, limit=LIMIT,
    )  # fmt: skip
    merges = core.service().replays.find(wanted)
    return page(
        request.scope, "failed.html", tab="/failed", merges=merges, asked=asked, kinds=KINDS, limit=LIMIT,
        by_code=Counter(m.error_code or m.failed_event for m in merges).most_common(),
        may=caller.may_start(REPLAY_DAG),
        filtered=any(given.model_dump().values()),
    )  # fmt: skip


@router.get("/failed/{merge_id}/event")
def event(request: Request, merge_id: uuid.UUID, core: CoreDep, caller: CallerDep) -> str:
    """Return a refused event, whole, for its correction. It names people's accounts, so only a user who may replay sees it."""
    merge = core.service().journal.need(merge_id)
    if not caller.may_start(REPLAY_DAG):
        why = f"You may not start runs of the DAG {REPLAY_DAG}."
        raise Refusal(403, "NOT_ALLOWED", why, "Ask Airflow's administrator.")
    if merge.state != State.REFUSED or merge.request.raw is None:
        what = (
            f"merge {merge_id} is {merge.state}" if merge.state != State.REFUSED else "its event is not kept any more"
        )
        raise Refusal(409, "NOT_REFUSED", f"{what}: there is no event to correct", "Load the list again.")
    raw = merge.request.raw.decode("utf-8", "replace")
    return page(request.scope, "parts/event.html", merge=merge, raw=raw, whole=raw.encode() == merge.request.raw)


@router.get("/upload")
def upload(request: Request, caller: CallerDep) -> str:
    """Return the form for a file of pairs: each line is checked, then opened for the poll to start."""
    return page(request.scope, "upload.html", tab="/upload", may=caller.may_start(RESCUE_DAG))
