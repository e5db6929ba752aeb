"""Keyspaces, a journal, topics and a group of their own for tests, dropped at the end: a kept stack would fill up."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from local import cql, messages, provision

if TYPE_CHECKING:
    from cassandra.cluster import Session

    from local.stack import Stack


def journal_beside(url: str, name: str) -> str:
    """The address of a journal of its own, on the server of the journal at `url`."""
    return urlsplit(url)._replace(path=f"/{name}_journal").geturl()


def drop_journal(url: str) -> None:
    """Drop the journal's database, whoever is still connected to it."""
    there = urlsplit(url)
    server = there._replace(scheme="postgresql", path="/postgres").geturl()
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(there.path[1:]))
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(drop)


@contextmanager
def own_keyspaces(
    stack: Stack, session: Session, family: str = "cassandra", users: bool = False
) -> Iterator[dict[str, str]]:
    """The variables that lead the core to them; `family` is how the learners' tables name their columns.

    :param users: the platform's users are there as well.
    """
    name = "t" + uuid.uuid4().hex[:10]
    given = stack.core_settings()
    own = given | {
        "ACCOUNT_MERGE_ENV": name,
        **provision.keyspace_settings(f"{name}_courses"),
        "ACCOUNT_MERGE_JOURNAL_URL": journal_beside(given["ACCOUNT_MERGE_JOURNAL_URL"], name),
        "ACCOUNT_MERGE_USERS_KEYSPACE": f"{name}_users",
    }
    messages.create_topics(own["KAFKA_BOOTSTRAP_SERVERS"], provision.topics(own))
    provision.create_tables(session, family, f"{name}_courses")
    for statement in cql.users(f"{name}_users") if users else ():
        session.execute(statement, timeout=60)
    yield own
    for keyspace in (f"{name}_courses", f"{name}_users"):
        session.execute(f"DROP KEYSPACE IF EXISTS {keyspace}", timeout=60)
    drop_journal(own["ACCOUNT_MERGE_JOURNAL_URL"])
    messages.delete_topics(own["KAFKA_BOOTSTRAP_SERVERS"], provision.topics(own))
