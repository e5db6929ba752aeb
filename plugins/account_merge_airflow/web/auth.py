"""The caller of a request and the caller's rights: Airflow's auth manager decides, by the DAG that a request starts.

Reading needs the right to read the DAG `account_merge`. A preview reads any learner's rows and a change starts a run, so
both need the right to start runs: of the DAG that `dags.OUR_DAGS` names for the path, else of `account_merge`.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.auth.tokens import get_signing_key
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
from airflow.configuration import conf
from airflow.models.dag import DagModel
from fastapi import Depends, Request
from sqlalchemy.exc import NoResultFound
from starlette.exceptions import HTTPException

from account_merge.states import MERGE_DAG
from account_merge_airflow.web.dags import started_by

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf_token"


@dataclass(frozen=True)
class Caller:
    """The user of one request.

    :param token: by which Airflow's own API knows the user; never shown.
    :param by_cookie: the browser sent it by itself, so a change needs proof that our own page asked.
    """

    user: Any = field(repr=False)
    token: str = field(repr=False)
    by_cookie: bool

    @property
    def name(self) -> str:
        """The name that the journal keeps."""
        return str(self.user.get_name())

    def may_start(self, dag_id: str) -> bool:
        """Whether the user may start runs of this DAG. Asks the auth manager, which may ask a database."""
        return allowed(self.user, "POST", dag_id)

    @property
    def csrf_token(self) -> str:
        """The token that a form or script of ours sends back with a change."""
        return _csrf(self.user, datetime.now(UTC).date())

    def proves(self, token: str) -> bool:
        """Whether a page of today or yesterday gave this user the token; compared in constant time."""
        today = datetime.now(UTC).date()
        made = [_csrf(self.user, day) for day in (today, today - timedelta(days=1))]
        # Both are compared, whatever the first says.
        return any([hmac.compare_digest(token.encode(), known.encode()) for known in made])


def _csrf(user: Any, day: date) -> str:
    key = get_signing_key("api", "secret_key").encode()
    return hmac.new(key, f"account-merge csrf\n{user.get_id()}\n{day}".encode(), hashlib.sha256).hexdigest()


def caller_of(request: Request) -> Caller:
    """Return the user whom the guard found for this request."""
    found = request.scope["caller"]
    assert isinstance(found, Caller)
    return found


CallerDep = Annotated[Caller, Depends(caller_of)]


async def who(request: Request) -> Caller | str:
    """Return the request's user, found as Airflow itself does, or why there is none."""
    bearer = await bearer_scheme(request)
    token = bearer.credentials if bearer else request.cookies.get(COOKIE_NAME_JWT_TOKEN, "")
    try:
        user = await get_user(request, None, bearer)
    except HTTPException as error:
        return str(error.detail)
    except NoResultFound:
        return "Unknown user"
    return Caller(user, token, by_cookie=bearer is None)


def may(user: Any, method: str, path: str) -> bool:
    """Whether the user may send this request. Asks the auth manager, which may ask a database."""
    if not allowed(user, "GET", MERGE_DAG):
        return False
    return method in SAFE or allowed(user, "POST", started_by(path))


def allowed(user: Any, method: Any, dag_id: str) -> bool:
    """Whether the user may read the DAG (GET), or start runs of it (POST)."""
    team = DagModel.get_team_name(dag_id) if conf.getboolean("core", "multi_team") else None
    details = DagDetails(id=dag_id, team_name=team)
    entity = None if method == "GET" else DagAccessEntity.RUN
    return bool(get_auth_manager().is_authorized_dag(method=method, access_entity=entity, details=details, user=user))


def same_origin(request: Request) -> bool:
    """Whether a browser says that a page of this very server sent the request; false when it says nothing."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = request.headers.get("origin") or request.headers.get("referer")
    if origin is None:
        return site is not None
    ours = {request.headers.get("host", ""), urlsplit(conf.get("api", "base_url", fallback="") or "").netloc}
    return urlsplit(origin).netloc in ours - {""}
