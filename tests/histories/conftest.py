"""Keyspaces for histories: the platform's official schema as it is, with the indexes that `check` offers, and the newer family."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tests.histories.world import PROGRAMS
from tests.keyspaces import own_keyspaces

#: What leads to an account's rows: schema family, and whether the offered indexes are there.
WAYS = {"official": ("cassandra", False), "indexed": ("cassandra", True), "spark": ("spark", False)}
_INDEXED = (("user_activity_agg", "user_id"), ("group_member", "userid"), ("program_enrollment", "user_id"))


@contextmanager
def _opened(stack, session, way):
    from account_merge.service import Service
    from account_merge.settings import Settings

    family, indexed = WAYS[way]
    with own_keyspaces(stack, session, family) as own:
        keyspace = own["ACCOUNT_MERGE_COURSES_KEYSPACE"]
        for table, column in _INDEXED if indexed else ():
            session.execute(f"CREATE INDEX ON {keyspace}.{table} ({column}) USING 'sai'", timeout=60)
        # One clock, and nobody writes while a step is done: what overlaps is what `test_active` is about.
        settings = Settings.from_env(own).replace(
            program_ids=PROGRAMS, clock_margin_seconds=0.0, platform_write_window_seconds=0.0,
            settle_after_seconds=tuple(3600.0 * number for number in range(1, 9)),
        )  # fmt: skip
        with Service(settings) as service:
            service.journal.create()
            yield service


@pytest.fixture(scope="session")
def services(stack, session):
    """Way -> the service on keyspaces of that kind, opened when first asked for."""
    opened = {}

    def service(way):
        if way not in opened:
            context = _opened(stack, session, way)
            opened[way] = context, context.__enter__()
        return opened[way][1]

    yield service
    for context, _ in opened.values():
        context.__exit__(None, None, None)
