"""The time of a merge's sync events is the same on every machine."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import datetime

import pytest

from account_merge.engine.skipped import opened_ms
from account_merge.model import Merge, MergeRequest


@pytest.fixture
def in_kolkata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_kolkata")
def test_the_journal_s_time_is_utc_whatever_the_worker_s_zone_is() -> None:
    request = MergeRequest(("a",), "b")
    opened = datetime(2022, 3, 1)
    merge = Merge(
        uuid.uuid4(), "running", 1, request, None, None, None, None, None, None, "none", 1, None, {}, (), None, None, opened, None
    )  # fmt: skip
    assert time.timezone == -19800
    assert opened_ms(merge) == 1646092800000
