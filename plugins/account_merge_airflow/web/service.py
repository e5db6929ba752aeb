"""The core's service for pages and API: one in each process, opened at the first request, shared by its threads."""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request
from fastapi.routing import APIRoute

from account_merge_airflow.connections import CASSANDRA_CONNECTION, JOURNAL_CONNECTION, KAFKA_CONNECTION, settings_from

if TYPE_CHECKING:
    from account_merge.service import Service
    from account_merge.settings import Settings

#: How long the service keeps what it read of the learners' schema and of Airflow's connections.
RENEW_SECONDS = 300.0
#: Requests that may wait for Cassandra at once, in threads of their own: Airflow's API never waits for a slow cluster.
THREADS = 16


class Core:
    """The holder of the service; after a failure the next request asks the cluster again."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._service: Service | None = None
        self._old: Service | None = None
        self._until = 0.0

    def service(self) -> Service:
        """Return the service with open connections; may block.

        :raises TransientError: Cassandra does not answer.
        """
        from account_merge.service import Service

        with self._lock:
            if self._service is not None and time.monotonic() < self._until:
                return self._service
            before, settings = self._service, self._settings()
            same = before is not None and before.settings == settings
            fresh = before.renewed() if before is not None and same else Service(settings)
            # The parts that threads share are made here, once; the others are made from them.
            _ = fresh.previews, fresh.queries, fresh.undoing, fresh.inbox, fresh.switch
            if before is not None and not same:
                if self._old is not None:
                    self._old.close()
                self._old = before  # requests under way may still use it
            self._service, self._until = fresh, time.monotonic() + RENEW_SECONDS
            return fresh


def server_settings() -> Settings:
    """Return the settings inside the API server, from the same connections as in a task."""
    found = (_connection(name) for name in (CASSANDRA_CONNECTION, KAFKA_CONNECTION, JOURNAL_CONNECTION))
    return settings_from(*found)


def _connection(conn_id: str) -> Any:
    from airflow.models.connection import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        return None


def core_of(request: Request) -> Core:
    """Return the app's core."""
    found = request.app.state.core
    assert isinstance(found, Core)
    return found


CoreDep = Annotated[Core, Depends(core_of)]

_limiter: list[CapacityLimiter] = []


async def in_thread(call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Return the result of a blocking call, in one of our own threads."""
    if not _limiter:
        _limiter.append(CapacityLimiter(THREADS))
    return await to_thread.run_sync(functools.partial(call, *args, **named), limiter=_limiter[0])


class Route(APIRoute):
    """A route whose plain function runs in one of our own threads: `APIRouter(route_class=Route)`."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint if inspect.iscoroutinefunction(endpoint) else _threaded(endpoint), **options)


def _threaded(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(endpoint)
    async def threaded(*args: Any, **named: Any) -> Any:
        return await in_thread(endpoint, *args, **named)

    return threaded
