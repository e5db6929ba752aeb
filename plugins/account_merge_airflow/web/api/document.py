"""The API's one OpenAPI document: problems have their media type, and the ways to log in are named."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from account_merge_airflow.web.problems import MEDIA_TYPE

DESCRIPTION = """Everything that the pages do. Log in to Airflow, or send a bearer token of `POST /auth/token`. Airflow \
decides what a user may do: by the right to read the DAG `account_merge`, and to start runs of the DAG that an action \
starts. Errors are problem details (RFC 9457) with a stable `code` and a `remedy`. A request that takes time answers 202 \
with the address of its status in `Location`. Changes that a browser sends with its cookie need the header `x-csrf-token`."""


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document; it is made once."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, openapi_version="3.1.0"
        )
        for operations in found["paths"].values():
            for operation in operations.values():
                for status, answer in operation["responses"].items():
                    if int(status) >= 400:
                        answer["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
                if "202" in operation["responses"]:
                    operation["responses"]["202"]["headers"] = {
                        "Location": {"description": "The address of its status.", "schema": {"type": "string"}}
                    }
        schemes = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                   "cookie": {"type": "apiKey", "in": "cookie", "name": "_token"}}  # fmt: skip
        found["components"]["securitySchemes"] = schemes
        found["security"] = [{name: []} for name in schemes]
        app.openapi_schema = found
    return app.openapi_schema
