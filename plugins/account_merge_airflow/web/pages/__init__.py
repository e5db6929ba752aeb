"""The pages: each is one call of the core and one template; what they change, they ask of the API."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from account_merge_airflow.web.core import Route
from account_merge_airflow.web.pages import know, listing, merge, new, operate

pages = APIRouter(include_in_schema=False, default_response_class=HTMLResponse, route_class=Route)
for _part in (listing.router, merge.router, new.router, know.router, operate.router):
    pages.include_router(_part)
