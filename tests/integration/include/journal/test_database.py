"""The journal's database as an operator meets it: not made yet, of another version, restarted, closed to this user."""

from __future__ import annotations

import os
import re
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from sqlalchemy import make_url, text

from account_merge.cli.checks import run_checks
from account_merge.errors import MergeError, NeedsAttention, TransientError
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.settings import Settings
from local import airflow_parts
from local.stack import Stack
from tests.journal_sql import sql
from tests.keyspaces import drop_journal, journal_beside
from tests.learners import account
from tests.proxy import Proxy


@pytest.fixture
def own(settings):
    """A journal of this test alone."""
    with Service(settings) as service:
        service.journal.create()
        yield service
    drop_journal(settings.journal_url)


def code_of(call):
    with pytest.raises(MergeError) as refused:
        call()
    assert refused.value.remedy
    return refused.value.code


def journal_check(service):
    return next(found for found in run_checks(service) if found.name == "journal")


def test_a_journal_that_was_not_made_is_told_so_and_made_by_the_command(settings):
    url = journal_beside(settings.journal_url, f"t{uuid.uuid4().hex[:8]}")
    try:
        with Service(settings.replace(journal_url=url)) as service:
            assert code_of(service.journal.all) == "NO_JOURNAL"
            service.journal.create()
            assert service.journal.all() == []
            first = service.journal.journal_id
            service.journal.create()  # changes nothing that is there
        with Service(settings.replace(journal_url=url)) as again:
            assert again.journal.journal_id == first
    finally:
        drop_journal(url)


def test_threads_of_one_process_make_journals_at_the_same_time(settings):
    urls = [journal_beside(settings.journal_url, f"t{uuid.uuid4().hex[:8]}") for _ in range(4)]
    begin = Barrier(2 * len(urls))

    def make(url):
        with Service(settings.replace(journal_url=url)) as service:
            begin.wait(30)
            service.journal.create()
            service.journal.check_version()
            return url, service.journal.journal_id

    try:
        with ThreadPoolExecutor(begin.parties) as pool:
            made = list(pool.map(make, urls * 2))  # each journal by two threads
    finally:
        for url in urls:
            drop_journal(url)
    assert len(set(made)) == len(urls)


@pytest.mark.parametrize(("version", "code"), [("0000", "JOURNAL_AHEAD"), (None, "NO_JOURNAL")])
def test_a_journal_of_another_version_is_named(own, version, code):
    own.journal.check_version()
    sql(own, "DELETE FROM alembic_version" if version is None else "UPDATE alembic_version SET version_num = '0000'")
    assert code_of(own.journal.check_version) == code
    found = journal_check(own)
    assert (found.ok, code in found.detail) == (False, True)


def test_without_an_address_the_remedy_names_the_setting(settings):
    with Service(settings.replace(journal_url="")) as service:
        assert code_of(service.journal.all) == "NO_JOURNAL_URL"


def test_a_user_whom_the_server_does_not_know_is_no_outage(settings):
    stranger = make_url(settings.journal_url).set(username="nobody_here").render_as_string(hide_password=False)
    with Service(settings.replace(journal_url=stranger)) as service:
        assert code_of(service.journal.all) == "JOURNAL_SIGN_IN"


def test_a_user_without_rights_is_told_so(own):
    name = f"r{uuid.uuid4().hex[:8]}"
    sql(own, f"CREATE ROLE {name} LOGIN")
    weak = make_url(own.settings.journal_url).set(username=name).render_as_string(hide_password=False)
    try:
        with Service(own.settings.replace(journal_url=weak)) as service:
            assert code_of(service.journal.all) == "JOURNAL_NO_GRANT"
    finally:
        sql(own, f"DROP ROLE {name}")


def test_the_check_warns_of_a_server_that_may_forget(own):
    found = journal_check(own)
    assert found.ok
    assert "fsync is off" in found.detail  # the tests' server may lose its data with the machine's power
    assert "synchronous_commit" not in found.detail  # our sessions set it


def test_sessions_that_others_open_wait_for_the_disk_too(own):
    import psycopg

    with psycopg.connect(own.settings.journal_url.replace("+psycopg", "")) as plain:
        assert plain.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_words_that_postgresql_cannot_hold_are_kept_readable(own):
    merge_id = own.opening.open_merge(MergeRequest((account(),), account(), reason="a\0b\ud800c"))
    assert own.journal.need(merge_id).request.reason == "a\ufffdb?c"


def test_an_error_inside_a_transaction_takes_all_of_it_back(own):
    merge_id = own.opening.open_merge(MergeRequest((account(),), account()))
    merge = own.journal.need(merge_id)

    def stops():
        with own.journal.transaction():
            assert own.journal.move(merge, "started")
            raise NeedsAttention("STOP", "here", "go on")

    assert code_of(stops) == "STOP"
    assert own.journal.need(merge_id).state == "requested"
    assert len(own.journal.history(merge_id)) == 1


def away(ask, seconds=20):
    """The error of a server that is gone: one of its processes may answer once more before it sees that its master is dead."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            ask()
        except TransientError as error:
            return error.code
        time.sleep(0.1)
    return None


def pooled(data):
    """What a pooler makes of an answer: the key for cancelling is its own, and names no process of the server."""
    return re.sub(rb"(K\0\0\0\x0c).{4}", lambda key: key[1] + b"\0\0\0\1", data, count=1, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("instead", "prepares"), [(lambda data: data, True), (pooled, False)], ids=["server", "pooler"]
)
def test_statements_are_prepared_in_the_servers_own_sessions_only(own, instead, prepares):
    url = make_url(own.settings.journal_url)
    merge_id = own.opening.open_merge(MergeRequest((account(),), account()))
    with Proxy(url.port, instead=instead) as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        with Service(own.settings.replace(journal_url=through)) as service:
            for _ in range(10):
                assert service.journal.need(merge_id).state == "requested"
            prepared = service.journal.value(text("SELECT count(*) FROM pg_prepared_statements"))
            assert (prepared > 0) == prepares


def test_connections_survive_a_restart_of_the_server(fresh_stack):
    stack = fresh_stack("postgres")
    port = stack.ports()["postgres"]
    settings = Settings(journal_url=airflow_parts.journal_url(port))
    with Service(settings) as service:
        service.journal.create()
        merge_id = service.opening.open_merge(MergeRequest((account(),), account()))
        entry = stack.state.load()["postgres"]
        os.kill(entry["pid"], signal.SIGKILL)
        assert away(lambda: service.journal.need(merge_id)) == "JOURNAL_UNAVAILABLE"
        Stack(replace(stack.config, ports={**stack.config.ports, "postgres": port})).up(["postgres"])
        assert service.journal.need(merge_id).state == "requested"
        assert service.journal.move(service.journal.need(merge_id), "started")
