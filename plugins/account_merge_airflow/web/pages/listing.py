"""The list of merges: search, counts by state, plots, and which merge waits for which."""

from __future__ import annotations

import uuid
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request
from pydantic import BaseModel, Field

from account_merge.failed_search import FailedMergeFilter
from account_merge.listings import MergeFilter
from account_merge.reports.queries import place_of, text_of
from account_merge.service import Service
from account_merge.states import BULK_DAG, CLOSED, STATES, Origin
from account_merge_airflow.web.api.bodies import Text
from account_merge_airflow.web.api.common import run_out
from account_merge_airflow.web.pages import plots
from account_merge_airflow.web.pages.common import router as made
from account_merge_airflow.web.problems import Refusal
from account_merge_airflow.web.service import CoreDep
from account_merge_airflow.web.templating import page

router = made()
ORIGINS = tuple(origin.value for origin in Origin)
ALL = "all"
PAGE = 50


def _id_of(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


class ListQuery(BaseModel):
    """The filters of the list."""

    q: Text = Field("", max_length=1024)
    state: Text = Field("", max_length=40)
    origin: Text = Field("", max_length=20)
    since: Text = Field("", max_length=40)
    until: Text = Field("", max_length=40)
    cursor: Text = Field("", max_length=100)


@router.get("/")
def merges(request: Request, core: CoreDep, given: Annotated[ListQuery, Query()]) -> str:
    """Return the merges that fit, newest first; a merge id shows that merge alone."""
    if given.state and given.state not in STATES:
        raise Refusal(422, "BAD_FILTER", "No merge can be in that state.", f"Choose from {', '.join(STATES)}.")
    asked = {"q": given.q.strip(), "state": given.state, "origin": given.origin, "since": given.since.strip(),
             "until": given.until.strip()}  # fmt: skip
    found, following = _found(core.service(), asked, given.cursor)
    rest = {name: value for name, value in asked.items() if value}
    older = "?" + urlencode(rest | {"cursor": following}) if following else None
    return page(
        request.scope, "merges.html", tab="/", merges=found, asked=asked, filtered=bool(rest), older=older,
        first=not given.cursor, states=STATES, origins=ORIGINS,
    )  # fmt: skip


def _found(service: Service, asked: dict[str, str], cursor: str) -> tuple[list[Any], str | None]:
    times = FailedMergeFilter.of(since=asked["since"], until=asked["until"])
    merge_id = _id_of(asked["q"])
    one = service.journal.get(merge_id) if merge_id else None
    if one is not None:
        return [one], None
    origin = "" if asked["origin"] == ALL else asked["origin"]
    # Settles follow each merge by the clock: a list of everything would be mostly settles.
    but = "" if asked["q"] or asked["origin"] else Origin.SETTLE
    wanted = MergeFilter(asked["q"], asked["state"], origin, times.since, times.until, but)
    found, following = service.queries.merges(wanted, place_of(cursor), PAGE)
    return found, text_of(following)


@router.get("/parts/overview")
def overview(request: Request, core: CoreDep) -> str:
    """Return counts by state, plots, waiting merges and switches; the page loads it after the list, which never waits for it."""
    service = core.service()
    status, days, bulk = service.queries.status(), service.queries.by_day(), service.bulk.progress()
    return page(
        request.scope, "parts/overview.html", status=status, days=plots.days(days), complete=days.complete,
        reasons=plots.reasons(days), closed=CLOSED, bulk=bulk,
        bulk_page=run_out(request, BULK_DAG, bulk.run_id).page if bulk else "",
    )  # fmt: skip
