"""The pages: each is one call of the core and one template."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from account_merge.report import Report
from account_merge_airflow.web.core import CoreDep, Route
from account_merge_airflow.web.html import page

pages = APIRouter(route_class=Route, include_in_schema=False, default_response_class=HTMLResponse)


@pages.get("/")
def merges(request: Request, core: CoreDep) -> str:
    """All merges."""
    found = core.service().journal.all(limit=200)
    return page(request.scope, "merges.html", merges=[Report(merge, ()).head() for merge in found])
