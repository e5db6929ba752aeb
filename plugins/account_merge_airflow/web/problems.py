"""Errors as callers see them: problem details (RFC 9457) for programs, a page for people, each with code and remedy."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from account_merge.errors import InvalidRequest, MergeError, TransientError
from account_merge_airflow.web.templating import page

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
#: Codes whose status is not that of their class.
STATUS = {
    "UNKNOWN_MERGE": 404,
    "UNKNOWN_ACCOUNT": 404,
    "UNKNOWN_RUN": 404,
    **dict.fromkeys(("NO_JOURNAL", "NO_JOURNAL_URL", "JOURNAL_AHEAD", "JOURNAL_SIGN_IN", "JOURNAL_NO_GRANT"), 503),
    "CANNOT_UNDO": 409,
    "CANNOT_REDO": 409,
    "CANNOT_ABANDON": 409,
    "CANNOT_REPAIR": 409,
    "CANNOT_RETRY": 409,
    "UNDO_FIRST": 409,
    "ACCOUNT_HELD": 409,
    "OTHER_ACCOUNTS": 409,
    "NOT_PROPOSED": 409,
    "KEY_REUSED": 422,
}


class Wrong(BaseModel):
    """One part of a request that cannot be read; never the value itself."""

    where: str = Field(examples=["body.target_account"])
    what: str = Field(examples=["Field required"])


class Problem(BaseModel):
    """Problem details (RFC 9457), with the product's stable code and what to do about it."""

    model_config = ConfigDict(extra="forbid")

    type: str = "about:blank"
    title: str = Field(examples=["Conflict"])
    status: int = Field(ge=400, le=599, examples=[409])
    detail: str = Field(examples=["merge 5e… is requested: no undo of it"])
    code: str = Field(description="Stable identifier that programs may compare.", examples=["CANNOT_UNDO"])
    remedy: str = Field(description="What to do about it.", examples=["That can be done when it is completed."])
    errors: list[Wrong] = Field(default=[], description="Which parts of the request are wrong.")


class Refusal(Exception):
    """An exception that ends a request with a problem."""

    def __init__(self, status: int, code: str, detail: str, remedy: str = "") -> None:
        super().__init__(code)
        self.problem = problem(status, code, detail, remedy)


def problem(status: int, code: str, detail: str, remedy: str = "", errors: list[Wrong] | None = None) -> Problem:
    """Return problem details with the status's own title."""
    title = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Error"
    return Problem(title=title, status=status, code=code, detail=detail, remedy=remedy, errors=errors or [])


def of_error(error: MergeError) -> Problem:
    """Return the problem of a core's error: a caller's mistake, a conflict with the present state, or a server that is away."""
    by_class = 503 if isinstance(error, TransientError) else 422 if isinstance(error, InvalidRequest) else 409
    return problem(STATUS.get(error.code, by_class), error.code, error.message, error.remedy)


def wants_page(scope: Any) -> bool:
    """Whether the answer is a page for a person: a browser navigates outside the API."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    accepts = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"accept"), "")
    return "text/html" in accepts and not path.startswith("/api/")


def answer(found: Problem, scope: Any, **shown: Any) -> Response:
    """Return the response: a page for a person, JSON for programs."""
    headers = {"WWW-Authenticate": "Bearer"} if found.status == 401 else {}
    if found.status == 503:
        headers["Retry-After"] = "10"
    if wants_page(scope):
        html = page(scope, "error.html", problem=found, **shown)
        return Response(html, found.status, headers, "text/html; charset=utf-8")
    return JSONResponse(jsonable_encoder(found), found.status, headers, MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Turn every error of a route into a problem; the guard answers unforeseen ones."""

    async def merge_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, MergeError)
        return answer(of_error(error), request.scope)

    async def refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return answer(error.problem, request.scope)

    async def unreadable(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        wrong = [Wrong(where=".".join(map(str, e["loc"])), what=e["msg"]) for e in error.errors()]
        found = problem(422, "BAD_REQUEST", "The request cannot be read.", "Correct what errors names.", wrong)
        return answer(found, request.scope)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = HTTPStatus(error.status_code).name
        remedy = "The API's document, api/v1/openapi.json, names every address and what it takes."
        response = answer(problem(error.status_code, code, str(error.detail), remedy), request.scope)
        response.headers.update(error.headers or {})
        return response

    for kind, handler in ((MergeError, merge_error), (Refusal, refusal), (RequestValidationError, unreadable),
                          (HTTPException, http)):  # fmt: skip
        app.add_exception_handler(kind, handler)
