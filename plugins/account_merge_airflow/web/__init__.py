"""Pages and JSON API of account merges, mounted below `/account-merge` of Airflow's API server.

Every Airflow process imports this file, so it imports nothing: the first request makes the app.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class LazyApp:
    """The app, imported and made at its first request."""

    PREFIX = "/account-merge"

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand one request on, together with Airflow's own app, through which runs are started."""
        if self._app is None:
            from account_merge_airflow.web.app import create_app

            self._app = create_app()
        scope["airflow_app"] = scope.get("app")
        await self._app(scope, receive, send)


def views() -> list[dict[str, Any]]:
    """Return our entries for Airflow's navigation and for its page of a DAG run, below the path of Airflow itself."""
    from urllib.parse import urlsplit

    from airflow.configuration import conf

    base = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/") + LazyApp.PREFIX
    return [
        {"name": "Account merges", "href": f"{base}/", "destination": "nav", "url_route": "account-merges",
         "nav_top_level": True},
        {"name": "Account merge", "href": f"{base}/runs/{{DAG_ID}}/{{RUN_ID}}", "destination": "dag_run",
         "url_route": "account-merge"},
    ]  # fmt: skip
