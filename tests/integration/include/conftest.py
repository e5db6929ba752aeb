"""One pair of keyspaces for all tests here, dropped at the end: accounts are new in each test, so they never meet."""

from __future__ import annotations

import uuid

import pytest

from local import cql
from tests.journal_sql import empty
from tests.keyspaces import own_keyspaces

#: Smaller than by default: what lies in several entries, and between them, is met by a few hundred rows.
SMALL_ENTRIES = {"ACCOUNT_MERGE_ENTRY_ROWS": "100"}


@pytest.fixture(scope="session")
def shared_environment(stack, session):
    with own_keyspaces(stack, session, users=True) as own:
        yield own | SMALL_ENTRIES


@pytest.fixture(scope="module")
def own_environment(stack, session):
    """A module's own keyspaces and topics."""
    with own_keyspaces(stack, session) as own:
        yield own | SMALL_ENTRIES


@pytest.fixture(scope="module")
def own_world(own_environment):
    """Answers, at each call, the service on them with an empty journal."""
    from account_merge.service import Service
    from account_merge.settings import Settings

    with Service(Settings.from_env(own_environment)) as service:
        service.journal.create()

        def emptied():
            empty(service)
            return service

        yield emptied


@pytest.fixture(scope="session")
def shared_service(shared_environment):
    from account_merge.service import Service
    from account_merge.settings import Settings

    with Service(Settings.from_env(shared_environment)) as found:
        found.journal.create()
        yield found
        # monkeypatch puts a method back as a value of the instance, which hides what later tests put into the class.
        kept = [
            n for part in (found.store, found.journal) for n in vars(part) if callable(getattr(type(part), n, None))
        ]
        assert not kept, f"a test patched the shared service itself: {kept}"


@pytest.fixture
def with_settings(shared_service):
    """The core on the shared keyspaces under other settings."""
    from account_merge.service import Service

    opened = []

    def make(**changes):
        opened.append(Service(shared_service.settings.replace(**changes)))
        return opened[-1]

    yield make
    for service in opened:
        service.close()


@pytest.fixture
def keyspace(service):
    """The courses' keyspace of the test's own `service`."""
    return service.settings.courses_keyspace


@pytest.fixture
def shaped(session, with_settings, shared_service):
    """Answers a service and the name of a table that is the platform's but for what is given."""
    made = []

    def make(table, key, directions=(), types=None, more="", **settings):
        keyspace, name = shared_service.settings.courses_keyspace, f"{table[:20]}_{uuid.uuid4().hex[:8]}"
        official = next(s for s in cql.statements(keyspace=keyspace) if f"{keyspace}.{table} (" in s)
        columns = official[official.index("(") + 1 : official.index("PRIMARY KEY")]
        for column, cql_type in (types or {}).items():
            columns = columns.replace(f"{column} text", f"{column} {cql_type}")
        order = ", ".join(f"{c} {d}" for c, d in directions)
        suffix = f" WITH CLUSTERING ORDER BY ({order})" if order else ""
        session.execute(f"CREATE TABLE {keyspace}.{name} ({columns} {more} PRIMARY KEY ({key})){suffix}", timeout=60)
        made.append(f"{keyspace}.{name}")
        return with_settings(tables={table: name}, entry_rows=5, page_rows=7, **settings), name

    make.keyspace = shared_service.settings.courses_keyspace
    yield make
    for name in made:
        session.execute(f"DROP TABLE IF EXISTS {name}", timeout=60)
