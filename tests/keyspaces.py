"""Keyspaces, topics and a group of their own for tests, dropped at the end: a stack that is kept would fill up."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from local import cql, messages, provision

if TYPE_CHECKING:
    from cassandra.cluster import Session

    from local.stack import Stack


@contextmanager
def own_keyspaces(
    stack: Stack, session: Session, family: str = "cassandra", users: bool = False
) -> Iterator[dict[str, str]]:
    """The variables that lead the core to them; `family` is how the learners' tables name their columns.

    :param users: the platform's users are there as well.
    """
    name = "t" + uuid.uuid4().hex[:10]
    own = stack.core_settings() | {
        "ACCOUNT_MERGE_ENV": name,
        **provision.keyspace_settings(f"{name}_courses"),
        "ACCOUNT_MERGE_JOURNAL_KEYSPACE": f"{name}_journal",
        "ACCOUNT_MERGE_USERS_KEYSPACE": f"{name}_users",
    }
    messages.create_topics(own["KAFKA_BOOTSTRAP_SERVERS"], provision.topics(own))
    provision.create_tables(session, family, f"{name}_courses")
    for statement in cql.users(f"{name}_users") if users else ():
        session.execute(statement, timeout=60)
    yield own
    for keyspace in (f"{name}_courses", f"{name}_journal", f"{name}_users"):
        session.execute(f"DROP KEYSPACE IF EXISTS {keyspace}", timeout=60)
    messages.delete_topics(own["KAFKA_BOOTSTRAP_SERVERS"], provision.topics(own))
