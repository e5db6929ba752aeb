"""The pages: each is one call of the core and one template. Their scripts ask the API for changes."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from account_merge_airflow.web.pages import listing, merge, new, operate, reference
from account_merge_airflow.web.service import Route

pages = APIRouter(include_in_schema=False, default_response_class=HTMLResponse, route_class=Route)
for _part in (listing.router, merge.router, new.router, reference.router, operate.router):
    pages.include_router(_part)
