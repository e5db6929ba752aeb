"""The guard before every path of ours, also those without a route: no user 401, no right 403, no proof of origin 403.

Every response leaves with headers that keep a page from running, loading or being framed by anything foreign.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any
from urllib.parse import parse_qs, quote

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from fastapi.responses import Response

from account_merge.acting import Actor, act_as
from account_merge.states import MERGE_DAG
from account_merge_airflow.web import Receive, Scope, Send, auth
from account_merge_airflow.web.dags import started_by
from account_merge_airflow.web.edubrite.routes import OPEN
from account_merge_airflow.web.problems import Problem, answer, problem

log = logging.getLogger(__name__)

#: `self` as frame ancestor: Airflow's own UI shows our pages in a frame.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'self'; base-uri 'none'",
    "x-frame-options": "SAMEORIGIN",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
#: The guard reads a form up to this length for its token; longer requests send the token as a header.
MAX_FORM = 1024 * 1024
FORM = "application/x-www-form-urlencoded"


class Guard:
    """ASGI middleware that refuses by default, so a forgotten route is closed.

    :param threads: how many requests look up rights at once, in threads apart from those of Airflow's own API.
    """

    def __init__(self, app: Any, threads: int = 8) -> None:
        self._app = app
        self._threads = threads
        self._limiter: CapacityLimiter | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        sent = Headed(send)
        try:
            refused, receive = await self._refused(scope, receive)
            if refused is not None:
                await refused(scope, receive, sent)
            else:
                await self._app(scope, receive, sent)
        except Exception as error:  # noqa: BLE001 - the last place where anything can be answered
            _log(error, scope)
            if not sent.started:
                found = problem(500, "UNEXPECTED", "The server met an unforeseen error.", "See its log.")
                await answer(found, scope)(scope, receive, sent)

    async def _refused(self, scope: Scope, receive: Receive) -> tuple[Response | None, Receive]:
        """Return the response that ends the request here, if any, and how the request's body is received."""
        request = Request(scope, receive)
        if scope["path"].removeprefix(scope.get("root_path", "")) in OPEN:
            return None, receive  # these two check their callers themselves, by a session of their own
        found = await auth.who(request)
        if isinstance(found, str):
            what = problem(401, "NOT_LOGGED_IN", found, "Log in to Airflow, or send a token of POST /auth/token.")
            return answer(what, scope, login=_login(scope)), receive
        scope["caller"] = found
        act_as(Actor(found.name))  # for this request alone: each has a context of its own
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        self._limiter = self._limiter or CapacityLimiter(self._threads)
        if not await to_thread.run_sync(auth.may, found.user, scope["method"], path, limiter=self._limiter):
            needed = "read" if scope["method"] in auth.SAFE else "start runs of"
            dag = MERGE_DAG if scope["method"] in auth.SAFE else started_by(path)
            what = problem(403, "NOT_ALLOWED", f"You may not {needed} the DAG {dag}.", "Ask Airflow's administrator.")
            return answer(what, scope), receive
        if scope["method"] in auth.SAFE or not found.by_cookie:
            return None, receive
        forged, receive = await _forged(request, receive, found)
        return (answer(forged, scope) if forged else None), receive


class Headed:
    """A `send` that puts our headers on the response and remembers that it began."""

    def __init__(self, send: Send) -> None:
        self._send, self.started = send, False

    async def __call__(self, message: Any) -> None:
        """Pass one message on."""
        if message["type"] == "http.response.start":
            self.started = True
            have = {name.lower() for name, _ in message["headers"]}
            ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [*message["headers"], *((n, v) for n, v in ours if n not in have)]
        await self._send(message)


async def _forged(request: Request, receive: Receive, caller: auth.Caller) -> tuple[Problem | None, Receive]:
    """Return the problem of a change by cookie: another origin's page sent it, or it lacks our token."""
    if not auth.same_origin(request):
        return problem(
            403, "OTHER_ORIGIN", "A page of another origin sent this.", "Use the pages of this Airflow."
        ), receive
    token = request.headers.get(auth.CSRF_HEADER, "")
    if not token and request.headers.get("content-type", "").startswith(FORM):
        body, receive = await _read(receive)
        token = parse_qs(body.decode("latin-1")).get(auth.CSRF_FIELD, [""])[0]
    if caller.proves(token):
        return None, receive
    remedy = f"Load the page again; programs send the header {auth.CSRF_HEADER} or a bearer token."
    return problem(403, "BAD_CSRF_TOKEN", "The request does not carry this page's token.", remedy), receive


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """Return a form's body, read up to `MAX_FORM`, and a `receive` that gives the same messages again."""
    messages, size = [], 0
    while size <= MAX_FORM:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = b"".join(message.get("body", b"") for message in messages)

    async def again() -> Any:
        return messages.pop(0) if messages else await receive()

    return body, again


def _login(scope: Scope) -> str:
    """Return the address of Airflow's login page, which leads back here."""
    from account_merge_airflow.web import LazyApp

    query = scope.get("query_string", b"").decode("latin-1")
    here = scope["path"] + (f"?{query}" if query else "")
    root = scope.get("root_path", "").removesuffix(LazyApp.PREFIX)
    return f"{root}/api/v2/auth/login?next={quote(here, safe='')}"


def _log(error: Exception, scope: Scope) -> None:
    """Log where an error happened, without its message: that may hold a learner's values."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s of our pages: %s\n%s", scope["method"], type(error).__name__, frames)
