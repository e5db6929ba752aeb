"""What a person has to look at: failed events with their replay, and lists of pairs."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from fastapi import Query, Request

from account_merge.search import KINDS, Search
from account_merge_airflow.web.api.inputs import Text
from account_merge_airflow.web.auth import CallerDep
from account_merge_airflow.web.core import CoreDep
from account_merge_airflow.web.html import page
from account_merge_airflow.web.pages.common import router as made

router = made()
LIMIT = 200


@router.get("/failed")
def failed(
    request: Request,
    core: CoreDep,
    caller: CallerDep,
    states: Annotated[list[Text] | None, Query(max_length=10)] = None,
    codes: Annotated[Text, Query(max_length=400)] = "",
    account: Annotated[Text, Query(max_length=1024)] = "",
    since: Annotated[Text, Query(max_length=40)] = "",
    until: Annotated[Text, Query(max_length=40)] = "",
) -> str:
    """Failed merges, refused events and failed events that could not be published, oldest first."""
    asked = {"states": states or list(KINDS), "codes": codes.strip(), "account": account.strip(), "since": since,
             "until": until}  # fmt: skip
    wanted = Search.of(
        kinds=asked["states"], codes=codes.replace(",", " ").split(), account=account.strip(), since=since, until=until,
        limit=LIMIT,
    )  # fmt: skip
    merges = core.service().failed(wanted)
    return page(
        request.scope, "failed.html", tab="/failed", merges=merges, asked=asked, kinds=KINDS, limit=LIMIT,
        by_code=Counter(m.error_code or m.failed_event for m in merges).most_common(),
        may=caller.may_start("account_merge_replay"),
        filtered=bool(states or codes or account or since or until),
    )  # fmt: skip


@router.get("/upload")
def upload(request: Request, caller: CallerDep) -> str:
    """A file of pairs: checked line by line, then opened for the poll to start."""
    return page(request.scope, "upload.html", tab="/upload", may=caller.may_start("account_merge_rescue"))
