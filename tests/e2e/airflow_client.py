"""A client of a running Airflow, through its public REST API only. Every wait has a deadline and says what it saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx

T = TypeVar("T")
ENDED = ("success", "failed")


class Refused(Exception):
    """The API said no."""

    def __init__(self, response: httpx.Response) -> None:
        request = response.request
        super().__init__(f"{request.method} {request.url}: {response.status_code} {response.text[:2000]}")
        self.status = response.status_code
        self.text = response.text


def wait_for(look: Callable[[], T | None], seconds: float, what: str, pause: float = 0.5) -> T:
    """Return the first truthy answer of `look`; after the deadline fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"after {seconds:g} s still no {what}; the last look gave {found!r}"
        time.sleep(pause)


class AirflowClient:
    """One signed-in user."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=60)
        token = self._json(self._http.post("/auth/token", json={"username": username, "password": password}))
        self.token = str(token["access_token"])
        self._http.headers["Authorization"] = f"Bearer {self.token}"

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    @staticmethod
    def _json(response: httpx.Response) -> Any:
        if response.status_code >= 400:
            raise Refused(response)
        return response.json()

    def get(self, path: str, **query: Any) -> Any:
        """Read one resource of the API."""
        return self._json(self._http.get(f"/api/v2/{path}", params=query))

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change one resource of the API."""
        return self._json(self._http.patch(f"/api/v2/{path}", json=dict(body)))

    def trigger(self, dag: str, conf: Mapping[str, Any] | None = None, run_id: str | None = None) -> str:
        """Start a run and return its id."""
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id:
            body["dag_run_id"] = run_id
        return str(self._json(self._http.post(f"/api/v2/dags/{dag}/dagRuns", json=body))["dag_run_id"])

    def run(self, dag: str, run_id: str) -> dict[str, Any] | None:
        """Return a run, None when there is none."""
        response = self._http.get(f"/api/v2/dags/{dag}/dagRuns/{run_id}")
        return None if response.status_code == 404 else self._json(response)

    def tasks(self, dag: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Return the run's task instances by task id (of mapped ones the last)."""
        found = self.get(f"dags/{dag}/dagRuns/{run_id}/taskInstances", limit=200)["task_instances"]
        return {entry["task_id"]: entry for entry in found}

    def states(self, dag: str, run_id: str) -> dict[str, str | None]:
        """Return task id -> state."""
        return {name: entry["state"] for name, entry in self.tasks(dag, run_id).items()}

    def xcom(self, dag: str, run_id: str, task: str) -> Any:
        """Return what a task returned."""
        path = f"dags/{dag}/dagRuns/{run_id}/taskInstances/{task}/xcomEntries/return_value"
        return self.get(path, deserialize="true")["value"]

    def log_tail(self, dag: str, run_id: str, lines: int = 25) -> str:
        """Return the last lines of every failed task's log."""
        parts = []
        for name, entry in self.tasks(dag, run_id).items():
            if entry["state"] in ("failed", "up_for_retry"):
                path = f"/api/v2/dags/{dag}/dagRuns/{run_id}/taskInstances/{name}/logs/{max(entry['try_number'], 1)}"
                text = self._http.get(path, headers={"Accept": "application/x-ndjson"}).text
                parts.append(f"--- {name} ({entry['state']}) ---\n" + "\n".join(text.splitlines()[-lines:]))
        return "\n".join(parts)

    def ended(self, dag: str, run_id: str, seconds: float = 180) -> str:
        """Wait until the run has ended and return its state."""

        def look() -> str | None:
            run = self.run(dag, run_id)
            return run["state"] if run and run["state"] in ENDED else None

        try:
            return wait_for(look, seconds, f"end of {dag} {run_id}")
        except AssertionError as error:
            raise AssertionError(f"{error}\ntasks: {self.states(dag, run_id)}\n{self.log_tail(dag, run_id)}") from None

    def succeeded(self, dag: str, run_id: str, seconds: float = 180) -> dict[str, str | None]:
        """Wait for the run's success and return its tasks' states; a failure shows the end of the logs."""
        state = self.ended(dag, run_id, seconds)
        assert state == "success", f"{dag} {run_id}: {self.states(dag, run_id)}\n{self.log_tail(dag, run_id)}"
        return self.states(dag, run_id)

    def clear(self, dag: str, run_id: str, *tasks: str, downstream: bool = False) -> None:
        """Clear these tasks of a run (all of them when none is named), as the UI does."""
        body: dict[str, Any] = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "reset_dag_runs": True,
                                "include_downstream": downstream}  # fmt: skip
        if tasks:
            body["task_ids"] = list(tasks)
        self._json(self._http.post(f"/api/v2/dags/{dag}/clearTaskInstances", json=body))

    def mark_task_failed(self, dag: str, run_id: str, task: str) -> None:
        """Mark a task failed, as the UI does."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run_id}/taskInstances/{task}"
        self._json(self._http.patch(path, json={"new_state": "failed"}))

    def mark_run_failed(self, dag: str, run_id: str) -> None:
        """Mark a run failed, as the UI does."""
        self._json(self._http.patch(f"/api/v2/dags/{dag}/dagRuns/{run_id}", json={"state": "failed"}))

    def set_paused(self, dag: str, paused: bool) -> None:
        """Pause a DAG or let it go on."""
        self._json(self._http.patch(f"/api/v2/dags/{dag}", json={"is_paused": paused}))
