"""Real servers for the tests: started once on free ports, in a home of their own, so that they run beside a demo.

All workers of one run (`pytest -n 2`) use the same servers. A server that does not start fails the tests that need it;
none is skipped. `ACCOUNT_MERGE_TEST_STACK` may name the home of a stack that is up: the tests then use it and leave it
running.

Fixtures: `stack` (Kafka, Cassandra and PostgreSQL), `airflow_stack` (the same and all of Airflow), `fresh_stack` (a
stack that a test may kill), `guarded_stack` (a Cassandra with sign-in, and PostgreSQL), `settings` (keyspaces, journal,
topics and group of this test alone), `environment` (the same as variables), `service` (the core on them), `session` (a
Cassandra session). `schema_family` is parametrised indirectly.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

# How long one example takes says nothing on a busy machine; the time-out of the whole test stands. A gate judges the
# commit, not the dice: with CI set the examples are the same each time, everywhere else they are new ones.
hypothesis.settings.register_profile("project", deadline=None, print_blob=True, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("project")

ROOT = Path(__file__).resolve().parent.parent
for _folder in (ROOT / "include", ROOT):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

from local.config import DEFAULT_PORTS, Config  # noqa: E402
from local.processes import started_at, still_runs, tail  # noqa: E402
from local.stack import ALL, SERVERS, Stack  # noqa: E402
from tests.keyspaces import own_keyspaces  # noqa: E402
from tests.turns import turn  # noqa: E402

if TYPE_CHECKING:
    from cassandra.cluster import Cluster, Session

    from account_merge.service import Service
    from account_merge.settings import Settings

#: A home carries the process that made it, so that the next run can remove what a killed run left behind.
HOME_PREFIX = "account-merge-test-"
#: Where a run's process tells its workers the home of the servers that they share.
RUN_HOME = "ACCOUNT_MERGE_TEST_RUN_HOME"
#: `make test-all` and `make crash`: every interruption, every moment and 300 histories instead of a choice of them.
FULL = bool(os.environ.get("ACCOUNT_MERGE_FULL"))
#: Chooses the cases and interruptions that are tried where not all are. A gate judges the commit, not the dice.
CRASH_SEED = int(os.environ.setdefault("CRASH_SEED", "1" if "CI" in os.environ else str(random.randrange(1_000_000))))
STARTED: list[Stack] = []


def sampled(cases: Iterable[Any], number: int) -> list[Any]:
    """Return some of these cases by the run's seed, in their order; all of them where nothing is left out."""
    every = list(cases)
    chosen = set(random.Random(CRASH_SEED).sample(range(len(every)), min(number, len(every))))
    return [case for place, case in enumerate(every) if FULL or place in chosen]


def _new_home() -> Path:
    home = Path(tempfile.mkdtemp(prefix=f"{HOME_PREFIX}{os.getpid()}-{started_at(os.getpid())}-"))
    home.chmod(0o755)  # PostgreSQL, which runs as another user than root, must be able to enter
    return home


def _stack_in(home: Path, guarded: bool = False, durable: bool = False) -> Stack:
    ports = dict.fromkeys(DEFAULT_PORTS, 0)
    stack = Stack(Config(home, Config.from_env().cache, ports, durable=durable, guarded=guarded))
    STARTED.append(stack)
    return stack


def pytest_configure(config: pytest.Config) -> None:
    """One home for the servers of a run, whoever of its workers needs them first."""
    if not hasattr(config, "workerinput"):
        _remove_leftovers()
        os.environ[RUN_HOME] = str(_new_home())


def told_at_the_end(section: str, line: str) -> None:
    """Have a line printed when all workers of the run are done, whichever of them says it."""
    with (Path(os.environ[RUN_HOME]) / f"{section}.told").open("a") as file:
        file.write(line + "\n")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say by which seed cases were chosen, and what tests had to tell."""
    terminalreporter.section("choice of cases")
    terminalreporter.line("all of them" if FULL else f"CRASH_SEED={CRASH_SEED}; ACCOUNT_MERGE_FULL=1 runs all of them")
    for found in sorted(Path(os.environ[RUN_HOME]).glob("*.told")):
        terminalreporter.section(found.stem)
        for line in found.read_text().splitlines():
            terminalreporter.line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The servers that a run's workers shared go with it."""
    if not hasattr(config, "workerinput") and (home := os.environ.pop(RUN_HOME, None)):
        _stack_in(Path(home)).clean()


def _remove_leftovers() -> None:
    for home in Path(tempfile.gettempdir()).glob(f"{HOME_PREFIX}*-*-*"):
        pid, start = home.name.removeprefix(HOME_PREFIX).split("-")[:2]
        if not still_runs(int(pid), start):
            _stack_in(home).clean()


@pytest.fixture(scope="session")
def stack() -> Stack:
    """Kafka, Cassandra and PostgreSQL, up for the whole run."""
    shared = os.environ.get("ACCOUNT_MERGE_TEST_STACK")
    if shared:
        found = _stack_in(Path(shared).resolve())
        missing = set(SERVERS) - set(found.ports())
        assert not missing, f"ACCOUNT_MERGE_TEST_STACK={shared} does not run {missing}: make up STACK_HOME={shared}"
        return found
    own = _stack_in(Path(os.environ[RUN_HOME]))
    own.up(SERVERS)
    return own


@pytest.fixture(scope="session")
def airflow_stack(stack: Stack) -> Stack:
    """The stack with every component of Airflow, the topics, the sample platform and the journal."""
    stack.up(ALL)
    return stack


@pytest.fixture(autouse=True)
def its_turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests share one Airflow; who is marked `alone` stops, pauses or fills what the others need."""
    if "airflow_stack" not in request.fixturenames:
        yield
        return
    home = request.getfixturevalue("airflow_stack").config.home
    with turn(home, "airflow", alone=request.node.get_closest_marker("alone") is not None):
        yield


@pytest.fixture(scope="session")
def guarded_stack() -> Iterator[Stack]:
    """A Cassandra that asks who signs in, for tests that change what a cluster says of itself as well."""
    own = _stack_in(_new_home(), guarded=True)
    try:
        own.up(["postgres", "cassandra"])
        yield own
    finally:
        own.clean()


@pytest.fixture
def fresh_stack() -> Iterator[Callable[..., Stack]]:
    """Starts servers for one test alone, which may stop, kill or restart them: `fresh_stack("cassandra")`.

    With `durable` a write that was acknowledged survives the kill.
    """
    made: list[Stack] = []

    def start(*names: str, durable: bool = False) -> Stack:
        own = _stack_in(_new_home(), durable=durable)
        made.append(own)
        own.up(names)
        return own

    yield start
    for own in made:
        own.clean()


@pytest.fixture(scope="session")
def cluster(stack: Stack) -> Iterator[Cluster]:
    """A driver for the tests' own questions; the core under test builds its own."""
    from cassandra.cluster import Cluster

    nodelay = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    with Cluster(
        ["127.0.0.1"], port=stack.ports()["cassandra"], sockopts=nodelay, control_connection_timeout=20,
        schema_metadata_enabled=False, schema_event_refresh_window=-1,  # else each new table is read by everybody
    ) as found:  # fmt: skip
        yield found


@pytest.fixture(scope="session")
def session(cluster: Cluster) -> Session:
    """One session for all tests, without a keyspace: statements name theirs."""
    return cluster.connect()


@pytest.fixture
def schema_family(request: pytest.FixtureRequest) -> str:
    """How the learners' tables name their columns: `cassandra` unless parametrised (`spark` is the other)."""
    return str(getattr(request, "param", "cassandra"))


@pytest.fixture
def environment(stack: Stack, session: Session, schema_family: str) -> Iterator[dict[str, str]]:
    """Variables of one test: keyspaces, journal, topics and group that no other test sees; dropped at the end."""
    with own_keyspaces(stack, session, schema_family) as own:
        yield own


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The core's settings of this test."""
    from account_merge.settings import Settings

    return Settings.from_env(environment)


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    """The core on this test's keyspaces and topics, its journal created."""
    from account_merge.service import Service

    with Service(settings) as found:
        found.journal.create()
        yield found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """A failed test on real servers shows the end of their logs."""
    report = yield
    if report.failed and {"stack", "fresh_stack", "guarded_stack"} & set(getattr(item, "fixturenames", ())):
        for stack in STARTED:
            for name, entry in stack.state.load().items():
                report.sections.append((f"end of {name}'s log", tail(entry, 15)))
    return report
