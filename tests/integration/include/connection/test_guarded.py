"""A Cassandra that asks who signs in and allows what was granted, and one that shows several data centres."""

from __future__ import annotations

import contextlib
import time
import uuid

import pytest

from account_merge.cli.checks import run_checks
from account_merge.cli.main import run_merge
from account_merge.connection.session import connect
from account_merge.errors import NeedsAttention
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.settings import Settings
from local import airflow_parts, provision
from tests.learners import account, enrolment, lesson, put, rows

CC, ENR = "user_content_consumption", "user_enrolments"
FIRST = "cassandra"  # the user that a new Cassandra has, and its password


def once_the_first_user_is_there(settings):
    """A new Cassandra makes its first user a moment after it answers."""
    until = time.monotonic() + 120
    while True:
        try:
            return connect(settings)
        except NeedsAttention:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


@pytest.fixture(scope="module")
def guarded(guarded_stack):
    """The settings of a user who may do all, with keyspaces and a journal."""
    environment = {
        "CASSANDRA_CONTACT_POINTS": "127.0.0.1", "CASSANDRA_PORT": str(guarded_stack.ports()["cassandra"]),
        "CASSANDRA_USERNAME": FIRST, "CASSANDRA_PASSWORD": FIRST, **provision.keyspace_settings("g_courses"),
        "ACCOUNT_MERGE_JOURNAL_URL": airflow_parts.journal_url(guarded_stack.ports()["postgres"]),
    }  # fmt: skip
    settings = Settings.from_env(environment)
    cluster, session = once_the_first_user_is_there(settings)
    provision.create_tables(session, keyspace="g_courses")
    with Service(settings) as service:
        service.journal.create()
    yield settings
    cluster.shutdown()


@pytest.fixture
def session(guarded):
    cluster, found = connect(guarded)
    yield found
    cluster.shutdown()


@pytest.fixture
def merger(guarded, session):
    """Answers the settings of a new user who has only these grants."""
    made = []

    def make(*grants):
        name = "u" + uuid.uuid4().hex[:8]
        session.execute(f"CREATE ROLE {name} WITH PASSWORD = 'word' AND LOGIN = true")
        for grant in grants:
            session.execute(f"GRANT {grant} TO {name}")
        made.append(name)
        return guarded.replace(cassandra_username=name, cassandra_password="word")

    yield make
    for name in made:
        session.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize("user", [(FIRST, "wrong"), ("nobody", FIRST), ("", "")], ids=["password", "user", "none"])
def test_who_cannot_sign_in_is_told_so_and_not_that_cassandra_is_away(guarded, user):
    settings = guarded.replace(cassandra_username=user[0], cassandra_password=user[1])
    with pytest.raises(NeedsAttention) as refused:
        connect(settings)
    assert refused.value.code == "CASSANDRA_SIGN_IN"
    assert "CASSANDRA_PASSWORD" in refused.value.remedy
    assert not {"wrong", "nobody"} & set(str(refused.value).split())
    with Service(settings) as service:
        found = {check.name: check for check in run_checks(service)}["Cassandra"]
    assert (found.ok, found.detail.split(":")[0]) == (False, "CASSANDRA_SIGN_IN")


def test_a_grant_that_is_missing_is_named_and_once_given_the_merge_goes_on(guarded, session, merger):
    source, target = account(), account()
    put(session, "g_courses", ENR, enrolment(source, status=2, progress=3, active=True))
    put(session, "g_courses", CC, lesson(source, viewcount=3))
    settings = merger("SELECT ON KEYSPACE g_courses", f"MODIFY ON g_courses.{CC}")
    with Service(settings) as service:
        merge_id = service.opening.open_merge(MergeRequest((source,), target))
        answer = run_merge(service, merge_id, publish=False)
        assert (answer["state"], answer["error"]["code"]) == ("needs_attention", "NO_GRANT")
        assert f"MODIFY on table g_courses.{ENR}" in answer["error"]["message"]
        assert not rows(session, "g_courses", ENR, target)
    session.execute(f"GRANT MODIFY ON g_courses.{ENR} TO {settings.cassandra_username}")
    with Service(settings) as service:
        assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert rows(session, "g_courses", CC, target)[0]["viewcount"] == 3


def test_a_materialised_view_is_refused(guarded, session):
    view = "CREATE MATERIALIZED VIEW IF NOT EXISTS g_courses.seen AS SELECT * FROM g_courses.user_content_consumption "
    session.execute(
        view + "WHERE userid IS NOT NULL AND courseid IS NOT NULL AND batchid IS NOT NULL AND contentid IS NOT NULL "
        "PRIMARY KEY (userid, courseid, batchid, contentid)", timeout=60
    )  # fmt: skip
    with Service(guarded.replace(tables={CC: "seen"})) as service, pytest.raises(NeedsAttention) as refused:
        service.previews.preview(MergeRequest((account(),), account()))
    assert refused.value.code == "NOT_A_TABLE"
    assert "materialised view" in refused.value.message
    session.execute("DROP MATERIALIZED VIEW g_courses.seen", timeout=60)


def test_reading_without_the_grant_is_told_so(merger):
    with Service(merger()) as service, pytest.raises(NeedsAttention) as refused:
        service.previews.preview(MergeRequest((account(),), account()))
    assert refused.value.code == "NO_GRANT"
    assert "g_courses" in refused.value.message


@contextlib.contextmanager
def peer_in(session, data_centre):
    """The node believes in another one, which is in this data centre."""
    session.execute(
        "INSERT INTO system.peers_v2 (peer, peer_port, data_center, rack, host_id, native_address, native_port, "
        "release_version, schema_version, tokens) VALUES ('127.0.0.9', 7000, %s, 'r', uuid(), '127.0.0.9', 9, '5.0.0', "
        "uuid(), {'1'})",
        [data_centre],
    )
    try:
        yield
    finally:
        session.execute("DELETE FROM system.peers_v2 WHERE peer = '127.0.0.9' AND peer_port = 7000")


def test_of_several_data_centres_one_is_named_and_only_that_is_spoken_to(guarded, session):
    with peer_in(session, "dc2"):
        with pytest.raises(NeedsAttention) as refused:
            connect(guarded)
        assert refused.value.code == "DATA_CENTRE"
        assert "datacenter1, dc2" in refused.value.message
        assert "CASSANDRA_LOCAL_DC" in refused.value.remedy
        cluster, own = connect(guarded.replace(cassandra_local_dc="datacenter1"))
        statement = own.prepare("SELECT release_version FROM system.local")
        plan = cluster.profile_manager.default.load_balancing_policy.make_query_plan(None, statement.bind(()))
        assert {host.datacenter for host in plan} == {"datacenter1"}
        assert {host.datacenter for host in own.get_pool_state()} == {"datacenter1"}
        cluster.shutdown()


def test_the_only_data_centre_needs_no_name(guarded):
    cluster, session = connect(guarded)
    assert {host.datacenter for host in session.get_pool_state()} == {"datacenter1"}
    cluster.shutdown()


@pytest.mark.parametrize("others", [(), ("dc2",)], ids=str)
def test_a_data_centre_that_does_not_exist_is_refused_with_those_that_do(guarded, session, others):
    with peer_in(session, others[0]) if others else contextlib.nullcontext(), pytest.raises(NeedsAttention) as refused:
        connect(guarded.replace(cassandra_local_dc="west"))
    assert refused.value.code == "DATA_CENTRE"
    assert f"no data centre west; there are {', '.join(('datacenter1', *others))}" in refused.value.message
