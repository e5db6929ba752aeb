"""One pair of keyspaces for all tests here, dropped at the end: accounts are new in each test, so they never meet."""

from __future__ import annotations

import uuid

import pytest

from local import messages, provision


@pytest.fixture(scope="session")
def shared_environment(stack, session):
    name = "s" + uuid.uuid4().hex[:10]
    own = stack.core_settings() | {
        "ACCOUNT_MERGE_ENV": name,
        **provision.keyspace_settings(f"{name}_courses"),
        "ACCOUNT_MERGE_JOURNAL_KEYSPACE": f"{name}_journal",
    }
    messages.create_topics(own["KAFKA_BOOTSTRAP_SERVERS"], provision.topics(own))
    provision.create_tables(session, "cassandra", f"{name}_courses")
    yield own
    for keyspace in (f"{name}_courses", f"{name}_journal"):  # a stack that is kept would fill up with them
        session.execute(f"DROP KEYSPACE IF EXISTS {keyspace}", timeout=60)
    messages.delete_topics(own["KAFKA_BOOTSTRAP_SERVERS"], provision.topics(own))


@pytest.fixture(scope="module")
def own_environment(stack, session):
    """A module's own keyspaces and topics."""
    name = "m" + uuid.uuid4().hex[:10]
    own = stack.core_settings() | {
        "ACCOUNT_MERGE_ENV": name,
        **provision.keyspace_settings(f"{name}_courses"),
        "ACCOUNT_MERGE_JOURNAL_KEYSPACE": f"{name}_journal",
    }
    messages.create_topics(own["KAFKA_BOOTSTRAP_SERVERS"], provision.topics(own))
    provision.create_tables(session, "cassandra", f"{name}_courses")
    yield own
    for keyspace in (f"{name}_courses", f"{name}_journal"):
        session.execute(f"DROP KEYSPACE IF EXISTS {keyspace}", timeout=60)
    messages.delete_topics(own["KAFKA_BOOTSTRAP_SERVERS"], provision.topics(own))


@pytest.fixture(scope="module")
def own_world(own_environment, session):
    """Answers, at each call, the service on them with an empty journal."""
    from account_merge.service import Service
    from account_merge.settings import Settings

    with Service(Settings.from_env(own_environment)) as service:
        service.create_journal()

        def emptied():
            for table in ("merges", "accounts", "log"):
                session.execute(f"TRUNCATE {service.settings.journal_keyspace}.{table}", timeout=60)
            return service

        yield emptied


@pytest.fixture(scope="session")
def shared_service(shared_environment):
    from account_merge.service import Service
    from account_merge.settings import Settings

    with Service(Settings.from_env(shared_environment)) as found:
        found.create_journal()
        yield found
