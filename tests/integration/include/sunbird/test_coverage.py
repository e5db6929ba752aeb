"""Tables with user ids that no rule knows are named everywhere; where the site wants it, they stop every merge."""

from __future__ import annotations

import io
import json

import pytest

from account_merge.cli import main as cli
from account_merge.cli.checks import run_checks
from account_merge.cli.main import run_merge
from account_merge.errors import NeedsAttention
from account_merge.model import MergeRequest
from account_merge.rules import TABLES
from account_merge.service import Service
from tests.learners import account, enrolment, put, rows

ENR = "user_enrolments"


@pytest.fixture
def keyspace(settings):
    return settings.courses_keyspace


@pytest.fixture
def badges(session, keyspace):
    """A table of the site's own, beside one that holds no user id."""
    session.execute(
        f"CREATE TABLE {keyspace}.site_badges (badge text, user_id text, PRIMARY KEY (badge, user_id))", timeout=60
    )
    session.execute(f"CREATE TABLE {keyspace}.site_colours (name text PRIMARY KEY)", timeout=60)
    return f"{keyspace}.site_badges"


def run(monkeypatch, environment, *arguments):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    return cli.main(arguments, out), out.getvalue()


def test_each_table_of_the_platform_is_covered_or_left_alone(service, keyspace):
    found = {t.table: (t.state, t.why) for t in service.coverage().tables}
    absent = {"user_entity_enrolments"}
    assert {table for table, (state, _) in found.items() if state == "covered"} == set(TABLES) - absent
    assert {table for table, (state, why) in found.items() if state == "ignored" and why} == {"group"}
    assert service.coverage().names("unknown") == []


@pytest.mark.parametrize("schema_family", ["spark"], indirect=True)
def test_the_newer_family_is_covered_alike(service):
    assert service.coverage().summary() == {"covered": len(TABLES) - 1, "ignored": 1, "unknown": []}


def test_an_unknown_table_is_named_by_command_check_and_reports(service, environment, badges, monkeypatch):
    status, text = run(monkeypatch, environment, "coverage", "--json")
    shown = json.loads(text)
    assert (status, shown["unknown"]) == (1, [badges])
    row = next(t for t in shown["tables"] if t["table"] == "site_badges")
    assert (row["columns"], row["state"]) == (["user_id"], "unknown")
    assert "site_colours" not in text
    status, text = run(monkeypatch, environment, "coverage")
    assert status == 1
    assert "site_badges" in text
    check = {c.name: c for c in run_checks(service)}["coverage"]
    assert check.ok
    assert badges in check.detail
    merge_id = service.opening.open_merge(MergeRequest((account(),), account()))
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert service.reader.report(merge_id).to_dict()["coverage"]["unknown"] == [badges]
    status, text = run(monkeypatch, environment, "show", str(merge_id))
    assert f"no rule knows {badges}" in text.replace("\n", " ")


def test_a_table_that_the_site_gives_a_reason_is_ignored(environment, badges, monkeypatch):
    told = environment | {"ACCOUNT_MERGE_IGNORED_TABLES": '{"site_badges": "made again every night"}'}
    status, text = run(monkeypatch, told, "coverage", "--json")
    assert status == 0
    assert {t["table"]: t["why"] for t in json.loads(text)["tables"]}["site_badges"] == "made again every night"


def test_a_table_of_another_name_is_covered_under_it(session, settings, keyspace):
    session.execute(f"DROP TABLE {keyspace}.{ENR}", timeout=60)
    session.execute(
        f"CREATE TABLE {keyspace}.enrolled (userid text, courseid text, batchid text, PRIMARY KEY (userid, courseid, batchid))",
        timeout=60,
    )
    with Service(settings) as blind, Service(settings.replace(tables={ENR: "enrolled"})) as told:
        assert blind.coverage().names("unknown") == [f"{keyspace}.enrolled"]
        assert told.coverage().names("unknown") == []


def test_where_the_site_wants_it_an_unknown_table_stops_merges_before_anything_is_written(
    session, settings, service, keyspace, badges
):
    source, target = account(), account()
    put(session, keyspace, ENR, enrolment(source, status=1))
    with Service(settings.replace(unknown_tables="block")) as strict:
        merge_id = strict.opening.open_merge(MergeRequest((source,), target))
        with pytest.raises(NeedsAttention, match="UNKNOWN_TABLES"):
            strict.admission.admit(merge_id)
        merge = strict.journal.need(merge_id)
        assert (merge.state, merge.error_code, merge.failed_event) == ("failed", "UNKNOWN_TABLES", "due")
        assert "ACCOUNT_MERGE_IGNORED_TABLES" in merge.remedy
        assert not strict.journal.known(source)
        assert rows(session, keyspace, ENR, target) == []
        assert not {c.name: c.ok for c in run_checks(strict)}["coverage"]
        with pytest.raises(NeedsAttention):
            strict.admission.admit(merge_id)
    known = settings.replace(unknown_tables="block", ignored_tables={"site_badges": "made again every night"})
    with Service(known) as strict:
        assert run_merge(strict, merge_id, publish=False)["state"] == "completed"
    assert len(rows(session, keyspace, ENR, target)) == 1


def test_a_merge_that_has_begun_is_finished(session, settings, service, keyspace, badges):
    source, target = account(), account()
    put(session, keyspace, ENR, enrolment(source, status=1))
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    service.admission.admit(merge_id)
    with Service(settings.replace(unknown_tables="block")) as strict:
        assert run_merge(strict, merge_id, publish=False)["state"] == "completed"
