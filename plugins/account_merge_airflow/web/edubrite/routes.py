"""EduBrite's `mergeAccounts`, as its documents and its own client have it: connect, then one call that answers once.

Both routes check their caller themselves, by the cookies of the handshake. The API user is a user of Airflow, signed in by
its auth manager, and needs the right to start runs of `account_merge`. The call opens the merge in the journal, the poll
starts it, and the call waits for its end; a repeated call finds the same merge.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
import traceback
from collections.abc import Mapping
from typing import Any

import httpx
from fastapi import APIRouter, Request, Response

from account_merge.errors import InvalidRequest, MergeError, TransientError
from account_merge.intake.by_user_name import AdministratorRequest, OpenedMerge
from account_merge.model import Merge
from account_merge.states import MERGE_DAG
from account_merge.states import State as MergeState
from account_merge_airflow.web import auth
from account_merge_airflow.web.edubrite.envelope import respond
from account_merge_airflow.web.edubrite.form import parameters
from account_merge_airflow.web.edubrite.sessions import Sessions
from account_merge_airflow.web.edubrite.throttle import Throttle
from account_merge_airflow.web.service import CoreDep, in_thread

PREFIX = "/oltpublish/site"
CONNECT, USER_SERVICE = f"{PREFIX}/connect.do", f"{PREFIX}/userService.do"
#: The paths that the guard leaves open: they check their caller themselves.
OPEN = frozenset({CONNECT, USER_SERVICE})
SESSION_ID, SESSION_INFO = "SESSION_ID", "SESSION_INFO"
#: The header in which EduBrite's own clients name the acting user: the user name, then `|` and more that we do not need.
ACTING_HEADER = "REAL_UNAME"
#: Calls of one process that may wait for their merge at once; a further call is answered with the merge's present state.
MOST_WAITING = 100
MOST_SKIPPED = 1000
#: Our code -> EduBrite's, where it is not the service's generic one.
CODES = {"UNKNOWN_USER": "0004", "NOT_ADMIN": "0005", "SOURCE_IS_ADMIN": "0005"}
GENERIC = "0026"

log = logging.getLogger(__name__)
router = APIRouter(include_in_schema=False)


class State:
    """The settings, sessions and limits of one process."""

    def __init__(self) -> None:
        from airflow.api_fastapi.auth.tokens import get_signing_key

        from account_merge.settings import Settings

        self.settings = Settings.from_env(os.environ)
        self.sessions = Sessions(get_signing_key("api", "secret_key"), self.settings.session_seconds)
        self.connects = Throttle(self.settings.connects_per_minute)
        self.failures = Throttle(self.settings.connects_per_minute)
        self.waiting = 0


@functools.cache
def state() -> State:
    """Return this process's state, made at the first request."""
    return State()


# --- the handshake ------------------------------------------------------------------------------------------------
@router.api_route(CONNECT, methods=["GET", "POST"])
async def connect(request: Request) -> Response:
    """Give the first call SESSION_ID; give the second, which sends it with the API user's name and password, SESSION_INFO."""
    known, session_id = state(), request.cookies.get(SESSION_ID, "")
    try:
        given = await parameters(request)
    except InvalidRequest as error:
        return _refused(error)
    name, password = given.get("username", ""), given.get("password", "")
    address = request.client.host if request.client else ""
    if not session_id or not name:  # the first call, whose parameters are ignored
        wait = known.connects.wait(f"new {address}")
        known.connects.count(f"new {address}")
        return _too_often(wait) if wait else _with_cookie(request, respond("0"), SESSION_ID, known.sessions.new_id())
    if not known.sessions.valid_id(session_id):
        return respond("0174")
    if wait := known.connects.wait(address) or known.failures.wait(name):
        return _too_often(wait)
    known.connects.count(address)
    token = await _sign_in(request, name, password)
    if not token:
        known.failures.count(name)
        return respond("0154")
    return _with_cookie(request, respond("0152"), SESSION_INFO, known.sessions.seal(session_id, token))


async def _sign_in(request: Request, name: str, password: str) -> str:
    """Return the token that Airflow's auth manager gives for a name and password; empty when it gives none.

    The manager is asked through its own route, inside this process, so any auth manager with that route works.
    """
    transport = httpx.ASGITransport(app=request.scope["airflow_app"], raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
        answer = await client.post("/auth/token", json={"username": name, "password": password})
    if answer.status_code not in (200, 201):
        return ""
    return str(answer.json().get("access_token") or "")


def _with_cookie(request: Request, response: Response, name: str, value: str) -> Response:
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, path="/", secure=secure, httponly=True, samesite="strict")
    return response


def _too_often(wait: float) -> Response:
    response = respond("0154", "Too many attempts to connect.", status=403)
    response.headers["Retry-After"] = str(int(wait) + 1)
    return response


# --- the user service ---------------------------------------------------------------------------------------------
@router.api_route(USER_SERVICE, methods=["GET", "POST"])
async def user_service(request: Request, core: CoreDep) -> Response:
    """Answer `dispatch=mergeAccounts`; answer every other call with the service's generic code."""
    details = False
    try:
        caller = await _caller(request)
        if caller is None:
            return respond("0174")
        if not await in_thread(auth.allowed, caller, "POST", MERGE_DAG):
            return respond("0005")
        given = await parameters(request)
        details = given.get("details", "").lower() == "true"
        wanted = _wanted(request, given, str(caller.get_name()))
        service = await in_thread(core.service)
        found = await in_thread(service.by_user_name.open, wanted)
        merge = await _ended(service, found.merge)
        shown = await in_thread(_details, service, merge, found, wanted) if details else None
        if _done(merge):
            return respond("0224", details=shown)
        return _not_done(merge, shown)
    except MergeError as error:
        return _refused(error, details)
    except Exception as error:  # noqa: BLE001 - the caller reads XML; the log says where, without anybody's values
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("userService.do: %s\n%s", type(error).__name__, frames)
        return respond(GENERIC)


async def _caller(request: Request) -> Any:
    """Return the API user of the session; None when it is not valid, or not any more."""
    from airflow.api_fastapi.app import get_auth_manager
    from jwt import InvalidTokenError

    token = state().sessions.open(request.cookies.get(SESSION_ID, ""), request.cookies.get(SESSION_INFO, ""))
    if not token:
        return None
    try:
        return await get_auth_manager().get_user_from_token(token)
    except InvalidTokenError:
        return None


def _wanted(request: Request, given: Mapping[str, str], caller: str) -> AdministratorRequest:
    """Return the call's parameters as a request.

    :raises InvalidRequest: they are not those of `mergeAccounts`.
    """
    if given.get("dispatch") != "mergeAccounts":
        raise InvalidRequest("UNKNOWN_DISPATCH", "dispatch is not mergeAccounts", "Send dispatch=mergeAccounts.")
    deactivate = given.get("deactivate", "").strip().lower()
    if deactivate not in ("", "true", "false"):
        raise InvalidRequest("BAD_OPTION", "deactivate is true or false", "Correct it.")
    others = ",".join(given.get(name, "") for name in ("otherUserNames", "otherUserName"))
    return AdministratorRequest(
        acting=_acting(request, given),
        main=given.get("mainUserName", ""),
        others=tuple(others.split(",")),
        deactivate=deactivate == "true",
        by=caller,
        reason="mergeAccounts",
    )


def _acting(request: Request, given: Mapping[str, str]) -> str:
    """Return the acting user's name: the header's, else the parameter's; empty when the two differ."""
    sent = [
        raw.encode("latin-1").decode("utf-8", "replace").split("|")[0] for raw in request.headers.getlist(ACTING_HEADER)
    ]
    sent.append(given.get(state().settings.acting_user_parameter, ""))
    names = {name.strip() for name in sent} - {""}
    return names.pop() if len(names) == 1 else ""


async def _ended(service: Any, merge: Merge) -> Merge:
    """Return the merge when it has ended or stopped, or when the time to wait is over."""
    known = state()
    deadline, pause = time.monotonic() + known.settings.answer_seconds, 0.2
    if known.waiting >= MOST_WAITING:
        return merge
    known.waiting += 1
    try:
        while (
            merge.state in (MergeState.REQUESTED, MergeState.STARTED, MergeState.WAITING, MergeState.RUNNING)
            and time.monotonic() < deadline
        ):
            await asyncio.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(pause * 1.5, 2.0)
            merge = await in_thread(service.journal.need, merge.merge_id)
        return merge
    finally:
        known.waiting -= 1


def _done(merge: Merge) -> bool:
    return merge.state in (MergeState.COMPLETED, MergeState.ERASED)


def _not_done(merge: Merge, details: Mapping[str, Any] | None) -> Response:
    under_way = merge.state in (MergeState.REQUESTED, MergeState.STARTED, MergeState.WAITING, MergeState.RUNNING)
    text = "The merge is not done yet. Repeat the call for its result." if under_way else ""
    response = respond(GENERIC, text, details)
    if under_way:
        response.headers["Retry-After"] = "10"
    return response


def _refused(error: MergeError, details: bool = False) -> Response:
    shown = {"error": {"code": error.code, "message": error.message, "remedy": error.remedy}} if details else None
    response = respond(CODES.get(error.code, GENERIC), details=shown)
    if isinstance(error, TransientError):
        response.headers["Retry-After"] = "10"
    return response


def _details(service: Any, merge: Merge, found: OpenedMerge, wanted: AdministratorRequest) -> dict[str, Any]:
    """Return the parts that the old answer has no place for: merge id, each account's result, skipped rows."""
    names = {account: name for name, account in found.accounts.items()}
    skipped: dict[str, list[dict[str, str]]] = {}
    for source, stands, (kind, *values) in service.skipped.not_merged(merge):
        why = {"keptFrom": names.get(stands, ""), "keptFromAccount": stands}
        skipped.setdefault(source, []).append({"kind": kind, "id": "/".join(map(str, values)), **why})
    main = merge.request.target
    others = [
        {
            "userName": name,
            "accountId": account,
            "result": "merged" if _done(merge) else "notMerged",
            "deactivated": str(_done(merge) and merge.request.deactivate_sources).lower(),
            "skipped": skipped.get(account, [])[:MOST_SKIPPED],
            "skippedTotal": str(len(skipped.get(account, []))),
        }
        for name, account in found.accounts.items()
        if account != main
    ]
    error = {"code": merge.error_code, "message": merge.error, "remedy": merge.remedy} if merge.error_code else None
    return {
        "mergeId": str(merge.merge_id),
        "state": merge.state,
        "main": {"userName": names.get(main, ""), "accountId": main, "survivor": merge.survivor or main},
        "other": others,
        **({"error": error} if error else {}),
    }
