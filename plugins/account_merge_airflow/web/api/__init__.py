"""The JSON API, version 1: one router a resource."""

from __future__ import annotations

from fastapi import APIRouter

from account_merge_airflow.web.core import Route

api = APIRouter(prefix="/api/v1", route_class=Route)
