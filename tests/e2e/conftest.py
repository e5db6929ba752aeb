"""Fixtures of the tests on a running Airflow; the servers are those of `airflow_stack`, none is skipped or replaced."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# A task that is killed at every try shall come to its end within a test; Airflow's components inherit this.
os.environ.setdefault("ACCOUNT_MERGE_RETRY_DELAY_SECONDS", "1")
# A test that has a poll begin waits for the one under way, which mostly finds nothing.
os.environ.setdefault("ACCOUNT_MERGE_POLL_WINDOW_SECONDS", "5")
# So that tens of events are very many.
os.environ.setdefault("ACCOUNT_MERGE_BULK_FROM", "60")

from airflow_client import AirflowClient, wait_for
from platform_world import World

if TYPE_CHECKING:
    from account_merge.service import Service

MERGE, POLL = "account_merge", "account_merge_poll"


@pytest.fixture(scope="session")
def airflow(airflow_stack: Any) -> Iterator[AirflowClient]:
    """The administrator's client."""
    where = airflow_stack.describe()
    client = AirflowClient(where["AIRFLOW_URL"], where["AIRFLOW_USERNAME"], where["AIRFLOW_PASSWORD"])
    for dag in (MERGE, POLL):
        wait_for(lambda dag=dag: _known(client, dag), 120, f"DAG {dag} in Airflow")
        client.set_paused(dag, False)
    yield client
    client.close()


def _known(client: AirflowClient, dag: str) -> bool:
    return any(found["dag_id"] == dag for found in client.get("dags", limit=100)["dags"])


@pytest.fixture(scope="session")
def core(airflow_stack: Any) -> Iterator[Service]:
    """The core with the settings that Airflow's tasks have."""
    from account_merge.service import Service
    from account_merge.settings import Settings

    with Service(Settings.from_env(airflow_stack.describe())) as service:
        yield service


@pytest.fixture(scope="session")
def world(core: Service, session: Any) -> World:
    """Rows and messages on the stack's own topics and keyspaces."""
    return World(core.settings, session)


@pytest.fixture(scope="session")
def poll(airflow: AirflowClient) -> Callable[[], str]:
    """Have a poll begin after this call, not at the next minute only; answers its run id.

    Polls run one at a time: a run that is queued already begins later than now, and a second one behind it would only
    hold up the next test's.
    """

    def begin() -> str:
        queued = airflow.get(f"dags/{POLL}/dagRuns", state="queued", order_by="-run_after", limit=1)["dag_runs"]
        return str(queued[0]["dag_run_id"]) if queued else airflow.trigger(POLL)

    return begin


@pytest.fixture(scope="session")
def in_state(core: Service, airflow: AirflowClient) -> Callable[..., dict[str, Any]]:
    """Wait until a merge is in one of these states and return the head of its report."""

    def wait(merge_id: uuid.UUID, *states: str, seconds: float = 180) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def look() -> dict[str, Any] | None:
            merge = core.journal.get(merge_id)
            seen["state"] = merge.state if merge else "not in the journal"
            return core.reader.report(merge_id).head() if merge and merge.state in states else None

        try:
            return wait_for(look, seconds, f"merge {merge_id} in {states}")
        except AssertionError as error:
            runs = (core.journal.get(merge_id) and core.reader.report(merge_id).head()["run_ids"]) or []
            logs = "\n".join(airflow.log_tail(MERGE, run) for run in runs if airflow.run(MERGE, run))
            raise AssertionError(f"{error}; it is {seen['state']}\n{logs}") from None

    return wait
