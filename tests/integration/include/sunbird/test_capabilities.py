"""What the server can do is found out by asking it, and what an older one lacks weakens nothing silently."""

from __future__ import annotations

import pytest

from account_merge.cli.checks import run_checks
from account_merge.cli.main import run_merge
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.sunbird.catalogue import capabilities_of, described
from account_merge.sunbird.schema import Capabilities
from tests.learners import account, enrolment, lesson, put, rows

CC, ENR = "user_content_consumption", "user_enrolments"


def test_this_server_has_all_that_is_used(session):
    found = capabilities_of(session)
    assert found.server.startswith("5.")
    assert found.collection_write_times


def test_the_check_names_server_and_what_it_lacks(shared_service):
    found = {check.name: check for check in run_checks(shared_service)}
    assert all(check.ok for check in found.values()), found
    assert "it has all that is used" in found["capabilities"].detail
    with Service(shared_service.settings) as older:
        older.__dict__["capabilities"] = Capabilities("4.0.1", collection_write_times=False)
        detail = {check.name: check.detail for check in run_checks(older)}["capabilities"]
    assert "4.0.1" in detail
    assert "write times of collections" in detail


def test_a_server_without_write_times_of_collections_merges_alike(session, shared_service):
    keyspace = shared_service.settings.courses_keyspace
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    put(session, keyspace, CC, lesson(target, viewcount=2))
    put(session, keyspace, ENR, enrolment(source, contentstatus={"a": 2}, issued_certificates=[{"identifier": "c1"}]))
    put(session, keyspace, ENR, enrolment(target, contentstatus={"a": 1, "b": 2}))
    with Service(shared_service.settings) as older:
        older.__dict__["capabilities"] = Capabilities("4.0.1", collection_write_times=False)
        columns = older.tables.schemas[ENR].columns
        assert (columns["contentstatus"].write_time, columns["status"].write_time) == ("", "WRITETIME")
        merge_id = older.opening.open_merge(MergeRequest((source,), target))
        assert run_merge(older, merge_id, publish=False)["state"] == "completed"
    assert rows(session, keyspace, CC, target)[0]["viewcount"] == 5
    enrolled = rows(session, keyspace, ENR, target)[0]
    assert enrolled["contentstatus"] == {"a": 2, "b": 2}
    assert enrolled["issued_certificates"] == [{"identifier": "c1"}]


def test_a_table_that_the_cluster_lacks_is_not_described(session, shared_service):
    keyspace = shared_service.settings.courses_keyspace
    wanted = [(keyspace, CC), (keyspace, "no_such_table"), ("no_such_keyspace", CC)]
    assert described(session, wanted).keys() == {(keyspace, CC)}


@pytest.mark.parametrize("name", [CC, ENR])
def test_every_column_has_a_write_time_here(shared_service, name):
    columns = shared_service.tables.schemas[name].columns.values()
    expected = {"map": "WRITETIME", "set": "WRITETIME", "list": "MAXWRITETIME", "scalar": "MAXWRITETIME"}
    assert {c.kind: c.write_time for c in columns}.items() <= expected.items()
