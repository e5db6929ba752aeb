"""Airflow's own REST API, called with the token of whoever calls ours: Airflow checks, starts and remembers who it was.

The call stays in this process: it needs no address, no certificate and no second worker, whatever proxy stands before
Airflow.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

import httpx
from anyio import from_thread
from fastapi import Depends, Request

from account_merge_airflow.web.auth import Caller, caller_of
from account_merge_airflow.web.dags import DAG_IDS
from account_merge_airflow.web.problems import Refusal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run of one of our DAGs; `created` is false when a run of this id was there before."""

    dag_id: str
    run_id: str
    state: str
    created: bool = True


class AirflowApi:
    """Airflow's API for one caller; for plain functions in our own threads.

    :param app: Airflow's app, through which the request came.
    """

    def __init__(self, app: Any, caller: Caller) -> None:
        self._app, self._caller = app, caller

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> Run:
        """Start a run; a run of this id that exists is left alone.

        :raises Refusal: Airflow does not start it; nothing was done.
        """
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        answer = self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        if answer.status_code == 409:
            return Run(dag_id, run_id, self.run(dag_id, run_id).state, created=False)
        found = self._checked(answer)
        return Run(dag_id, run_id, str(found.get("state")))

    def run(self, dag_id: str, run_id: str) -> Run:
        """Return a run as it is now.

        :raises Refusal: there is no such run, or the user may not see it.
        """
        if dag_id not in DAG_IDS:
            raise Refusal(
                404, "UNKNOWN_RUN", "That DAG is not one of account merges.", f"Ours are {', '.join(DAG_IDS)}."
            )
        answer = self._send("GET", f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")
        if answer.status_code == 404:
            raise Refusal(404, "UNKNOWN_RUN", f"DAG {dag_id} has no such run.", "Airflow may have removed it.")
        return Run(dag_id, run_id, str(self._checked(answer).get("state")))

    def conf(self, dag_id: str, run_id: str) -> Mapping[str, Any]:
        """Return the conf of a run.

        :raises Refusal: there is no such run, or the user may not see it.
        """
        answer = self._send("GET", f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}")
        if answer.status_code == 404:
            raise Refusal(404, "UNKNOWN_RUN", "There is no such run.", "Airflow may have removed it.")
        found: Mapping[str, Any] = self._checked(answer).get("conf") or {}
        return found

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            headers = {"Authorization": f"Bearer {self._caller.token}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
                return await client.request(method, path, **options)

        return from_thread.run(send)

    @staticmethod
    def _checked(answer: httpx.Response) -> Mapping[str, Any]:
        if answer.is_success:
            found: Mapping[str, Any] = answer.json()
            return found
        log.warning("Airflow's API answered %d to a request of ours.", answer.status_code)
        if answer.status_code in (401, 403):
            raise Refusal(answer.status_code, "NOT_ALLOWED", "Airflow refuses this user.", "Ask its administrator.")
        if answer.status_code == 404:
            raise Refusal(503, "NO_DAG", "Airflow does not know the DAG yet.", "Look for import errors; try again.")
        raise Refusal(502, "AIRFLOW_FAILED", "Airflow did not start the run.", "See the API server's log; try again.")


def airflow_of(request: Request) -> AirflowApi:
    """Return Airflow's API for the request's user."""
    return AirflowApi(request.scope["airflow_app"], caller_of(request))


AirflowDep = Annotated[AirflowApi, Depends(airflow_of)]
