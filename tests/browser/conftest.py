"""A browser on the running Airflow. Pictures of what it saw are kept in `.local/browser`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "e2e"))
sys.path.insert(0, str(Path(__file__).parent))
# The stack may be started for these tests; the others on it need the same.
os.environ.setdefault("ACCOUNT_MERGE_RETRY_DELAY_SECONDS", "1")
# A test that has a poll begin waits for the one under way, which mostly finds nothing.
os.environ.setdefault("ACCOUNT_MERGE_POLL_WINDOW_SECONDS", "5")

from airflow_client import AirflowClient, wait_for
from chromium import executable
from people import Person
from platform_world import World

if TYPE_CHECKING:
    from account_merge.service import Service

PICTURES = Path(__file__).parents[2] / ".local" / "browser"
DAGS = ("account_merge", "account_merge_approve", "account_merge_poll", "account_merge_undo", "account_merge_rescue",
        "account_merge_replay")  # fmt: skip


@pytest.fixture(scope="session")
def where(airflow_stack: Any) -> dict[str, str]:
    """The stack's addresses, once Airflow knows the DAGs that the pages start."""
    found: dict[str, str] = airflow_stack.describe()
    client = AirflowClient(found["AIRFLOW_URL"], found["AIRFLOW_USERNAME"], found["AIRFLOW_PASSWORD"])

    def known() -> bool:
        return set(DAGS) <= {dag["dag_id"] for dag in client.get("dags", limit=100)["dags"]}

    wait_for(known, 180, f"{DAGS} in Airflow")
    client.close()
    return found


@pytest.fixture(scope="session")
def core(where: dict[str, str]) -> Iterator[Service]:
    """The core with the settings that Airflow's tasks have."""
    from account_merge.service import Service
    from account_merge.settings import Settings

    with Service(Settings.from_env(where)) as service:
        yield service


@pytest.fixture(scope="session")
def world(core: Service, session: Any) -> World:
    """Rows on the stack's own keyspaces."""
    return World(core.settings, session)


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where pictures are kept; those of earlier runs are gone."""
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    return PICTURES


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A Chromium of its own, headless."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # A container's user is root, which the browser's own sandbox refuses.
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=executable(playwright), args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def signed_in() -> dict[str, Any]:
    """User -> what the browser keeps of a user who has signed in."""
    return {}


@pytest.fixture
def sign_in(
    chromium: Any, where: dict[str, str], airflow_stack: Any, pictures: Path, signed_in: dict[str, Any]
) -> Iterator[Callable[..., Person]]:
    """A user's own window, signed in by Airflow's own form once a run: `sign_in("viewer", width=390, theme="dark")`."""
    from local import keys

    secrets = keys.load(airflow_stack.config.home)
    people: list[Person] = []

    def person(user: str = "admin", width: int = 1440, theme: str = "light") -> Person:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, storage_state=signed_in.get(user)
        )
        found = Person(context, where["AIRFLOW_URL"], pictures, f"{theme}-{width}")
        people.append(found)
        if user not in signed_in:
            found.sign_in(user, secrets[f"{user}_password"])
            signed_in[user] = context.storage_state()
        return found

    yield person
    # A window left open would go on asking.
    for one in people:
        one.context.close()


@pytest.fixture(scope="session")
def merged(core: Service) -> Callable[..., Any]:
    """Merge by the core, without a run: quick, and for the pages the same."""
    from account_merge.model import MergeRequest
    from account_merge.rules import RULES

    def merge(source: str, target: str, **more: Any) -> Any:
        asked = {"requested_by": "admin", "origin": "ui", **more}
        merge_id = core.opening.open_merge(MergeRequest((source,), target, **asked))
        core.journal.move(core.journal.need(merge_id), "started", attempt=1)
        core.admission.admit(merge_id)
        for rule in sorted(RULES, key=lambda rule: rule.last):
            core.merging.merge_table(merge_id, rule.table)
        core.merging.publish_sync(merge_id)
        return merge_id

    return merge
