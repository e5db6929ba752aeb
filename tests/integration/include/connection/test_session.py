"""A session knows which hosts have a partition of our keyspaces, and reads no schema for it."""

from __future__ import annotations

from account_merge.connection.session import connect


def test_a_session_knows_where_partitions_are_and_no_table(settings, session):
    cluster, opened = connect(settings)
    try:
        known = cluster.metadata.keyspaces
        assert set(known) == {settings.courses_keyspace}  # the others are not there
        assert not known[settings.courses_keyspace].tables
        assert cluster.metadata.get_replicas(settings.courses_keyspace, b"an account")
        # A change of the schema by anybody is not read either.
        session.execute(f"CREATE TABLE {settings.courses_keyspace}.more (id text PRIMARY KEY)", timeout=60)
        assert opened.execute(f"SELECT * FROM {settings.courses_keyspace}.more").one() is None
        assert not known[settings.courses_keyspace].tables
    finally:
        cluster.shutdown()
