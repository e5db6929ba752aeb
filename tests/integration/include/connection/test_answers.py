"""What was answered is freed as soon as it is forgotten, without Python's search for cycles."""

from __future__ import annotations

import gc
import time
import weakref

import pytest
from cassandra import InvalidRequest

from account_merge.connection.answers import answer_of


@pytest.fixture
def no_search():
    """Python looks for no cycles."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_rows_are_freed_with_their_last_name(session, no_search):
    future = session.execute_async("SELECT * FROM system_schema.columns")
    rows = answer_of(future).current_rows
    assert rows
    left, until = weakref.ref(future), time.monotonic() + 10
    del future, rows
    while left() is not None and time.monotonic() < until:  # the driver's thread needs a moment
        time.sleep(0.01)
    assert left() is None


def test_what_is_refused_is_raised(session):
    with pytest.raises(InvalidRequest):
        answer_of(session.execute_async("SELECT nothing FROM system.local"))
