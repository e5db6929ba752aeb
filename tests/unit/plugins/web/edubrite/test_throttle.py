"""The limit of sign-ins, without a server."""

from __future__ import annotations

import time

import pytest

from account_merge_airflow.web.edubrite.throttle import Throttle


def test_a_key_may_try_so_often_in_a_minute_and_others_do_not_count(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    throttle = Throttle(3)
    for _ in range(3):
        assert throttle.wait("a") == 0
        throttle.count("a")
        now[0] += 1
    assert throttle.wait("a") == pytest.approx(57)
    assert throttle.wait("b") == 0
    now[0] += 57
    assert throttle.wait("a") == 0
    throttle.count("a")
    assert throttle.wait("a") == pytest.approx(1)


def test_many_keys_take_no_more_room(monkeypatch):
    monkeypatch.setattr("account_merge_airflow.web.edubrite.throttle._MOST_KEYS", 100)
    throttle = Throttle(1)
    for number in range(1000):
        throttle.count(f"address {number}")
    assert len(throttle._seen) == 100
    assert throttle.wait("address 999") > 0
