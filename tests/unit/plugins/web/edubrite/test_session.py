"""The handshake's cookies and its limit, without a server."""

from __future__ import annotations

import time

import pytest

from account_merge_airflow.web.edubrite.session import Sessions, Throttle

TOKEN = "header.payload.signature"


@pytest.fixture
def sessions() -> Sessions:
    return Sessions("the server's secret", 60)


def test_what_one_process_makes_another_one_opens(sessions):
    session_id = sessions.new_id()
    info = sessions.seal(session_id, TOKEN)
    assert Sessions("the server's secret", 60).open(session_id, info) == TOKEN
    assert TOKEN not in info
    assert sessions.seal(session_id, TOKEN) != info


def test_another_secret_opens_nothing(sessions):
    session_id = sessions.new_id()
    info = sessions.seal(session_id, TOKEN)
    other = Sessions("another secret", 60)
    assert not other.valid_id(session_id)
    assert other.open(session_id, info) == ""


def test_every_changed_character_closes_the_session(sessions):
    session_id = sessions.new_id()
    info = sessions.seal(session_id, TOKEN)
    for cookie, opened in (
        (session_id, lambda c: sessions.open(c, info)),
        (info, lambda c: sessions.open(session_id, c)),
    ):
        for at in range(len(cookie)):
            changed = cookie[:at] + ("A" if cookie[at] != "A" else "B") + cookie[at + 1 :]
            # The last character of base64 has spare bits: some changes of it are none.
            assert opened(changed) == "" or (cookie is info and at == len(cookie) - 1), at


@pytest.mark.parametrize("junk", ["", ".", "..", "a.b.c", "é.1.é", "x" * 5000, "9" * 400])
def test_junk_is_no_session(sessions, junk):
    session_id = sessions.new_id()
    assert not sessions.valid_id(junk)
    assert sessions.open(junk, sessions.seal(session_id, TOKEN)) == ""
    assert sessions.open(session_id, junk) == ""


def test_both_cookies_expire(monkeypatch, sessions):
    session_id = sessions.new_id()
    info = sessions.seal(session_id, TOKEN)
    longer = Sessions("the server's secret", 600)
    long_id = longer.new_id()
    short_info = sessions.seal(long_id, TOKEN)
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert not sessions.valid_id(session_id)
    assert sessions.open(session_id, info) == ""
    assert longer.valid_id(long_id)
    assert longer.open(long_id, short_info) == ""


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
    monkeypatch.setattr("account_merge_airflow.web.edubrite.session._MOST_KEYS", 100)
    throttle = Throttle(1)
    for number in range(1000):
        throttle.count(f"address {number}")
    assert len(throttle._seen) == 100
    assert throttle.wait("address 999") > 0
