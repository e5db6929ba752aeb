"""The handshake's cookies, without a server."""

from __future__ import annotations

import time

import pytest

from account_merge_airflow.web.edubrite.sessions import Sessions

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
            # The last character of base64 has spare bits: some changes of it change no byte.
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
