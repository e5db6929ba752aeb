"""The JSON API, version 1: one router a resource, one OpenAPI document for all of them."""

from __future__ import annotations

from fastapi import APIRouter

from account_merge_airflow.web.api import actions, merges, operate, proposals, reference, uploads

api = APIRouter(prefix="/api/v1")
for _part in (merges.router, proposals.router, actions.router, uploads.router, operate.router, reference.router):
    api.include_router(_part)
