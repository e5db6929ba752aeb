"""Rows that no partition holds together are found by an index, a configured list or a scan; what is not found is named."""

from __future__ import annotations

import json

import pytest

from account_merge.cli.checks import run_checks
from account_merge.cli.main import run_merge
from account_merge.errors import NeedsAttention
from account_merge.model import MergeRequest
from account_merge.rules import rule_for
from account_merge.sunbird.row_finder import RowFinder
from tests.learners import COURSE, account, aggregate, enrolment, put, rows

ENR, AGG = "user_enrolments", "user_activity_agg"
RULE = rule_for(AGG)


@pytest.fixture
def keyspace(shared_service):
    return shared_service.settings.courses_keyspace


@pytest.fixture
def hierarchy(tmp_path):
    def write(units, name="units.json"):
        path = tmp_path / name
        path.write_text(json.dumps(units))
        return str(path)

    return write


def learner(session, keyspace, done, units=("unit-1",), course=COURSE):
    """An account with progress in a course and in some of its units."""
    user = account()
    put(session, keyspace, ENR, enrolment(user, progress=done) | {"courseid": course})
    for activity in (course, *units):
        put(
            session,
            keyspace,
            AGG,
            aggregate(user, aggregates={"completedCount": float(done)}) | {"activity_id": activity},
        )
    return user


def merge(service, source, target):
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    return merge_id


def counts(session, keyspace, user):
    return {r["activity_id"]: r["aggregates"]["completedCount"] for r in rows(session, keyspace, AGG, user)}


def note_of(report, table=AGG):
    return {t["table"]: t["note"] for t in report.to_dict()["tables"]}[table]


def test_a_course_hierarchy_leads_to_the_rows_of_units(session, keyspace, with_settings, hierarchy):
    service = with_settings(course_hierarchy=hierarchy({COURSE: ["unit-2", "unit-1"], "other": ["unit-3"]}))
    source = learner(session, keyspace, 3, ("unit-1", "unit-2", "unit-3"))
    target = learner(session, keyspace, 1, ("unit-1",))
    merge_id = merge(service, source, target)
    assert counts(session, keyspace, target) == {COURSE: 3.0, "unit-1": 3.0, "unit-2": 3.0}
    assert note_of(service.reader.report(merge_id)) == ""


def test_units_of_a_course_that_the_hierarchy_lacks_are_named(session, keyspace, with_settings, hierarchy):
    service = with_settings(course_hierarchy=hierarchy({COURSE: []}))
    source, target = learner(session, keyspace, 3, course="do_unlisted"), account()
    merge_id = merge(service, source, target)
    assert counts(session, keyspace, target) == {"do_unlisted": 3.0}
    assert "units (courses that units.json does not name: 1)" in note_of(service.reader.report(merge_id))


def test_without_leave_units_stay_and_every_place_says_so(session, keyspace, shared_service):
    service = shared_service
    source, target = learner(session, keyspace, 3), account()
    previewed = note_of(service.previews.preview(MergeRequest((source,), target)))
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    service.admission.admit(merge_id)
    answered = service.merging.merge_table(merge_id, AGG)["note"]
    reported = note_of(service.reader.report(merge_id))
    checked = {c.name: c.detail for c in run_checks(service)}["finding rows"]
    assert counts(session, keyspace, target) == {COURSE: 3.0}
    for words in (previewed, answered, reported, checked):
        assert "not looked for: progress of units" in words
        assert "ACCOUNT_MERGE_COURSE_HIERARCHY" in words
        assert "ACCOUNT_MERGE_SCAN_TABLES" in words
    assert f'CREATE INDEX ON "{keyspace}"."{AGG}" (user_id)' in checked


def test_what_was_not_looked_for_is_told_later_as_it_was_then(session, keyspace, shared_service, with_settings):
    source, target = learner(session, keyspace, 3), account()
    merge_id = merge(shared_service, source, target)
    assert "progress of units" in note_of(with_settings(scan_tables=(AGG,)).reader.report(merge_id))


def test_with_leave_a_scan_finds_the_rows_of_these_accounts_only(session, keyspace, with_settings):
    service = with_settings(scan_tables=(AGG,))
    source, target = learner(session, keyspace, 3, ("unit-1", "unit-9")), learner(session, keyspace, 1)
    stranger = learner(session, keyspace, 9, ("unit-1", "unit-8"))
    merge_id = merge(service, source, target)
    assert counts(session, keyspace, target) == {COURSE: 3.0, "unit-1": 3.0, "unit-9": 3.0}
    assert counts(session, keyspace, stranger) == {COURSE: 9.0, "unit-1": 9.0, "unit-8": 9.0}
    assert note_of(service.reader.report(merge_id)) == ""


def test_each_way_gives_the_same_rows_in_key_order(session, keyspace, shared_service, with_settings, hierarchy):
    units = [f"unit-{n}" for n in range(30)]
    user = learner(session, keyspace, 2, units)
    listed = with_settings(course_hierarchy=hierarchy({COURSE: units}), page_rows=7)
    scanned = with_settings(scan_tables=(AGG,), page_rows=7)
    found = {}
    for way, service in (("keys", listed), ("scan", scanned)):
        sources = RowFinder(service.store, service.tables, service.settings, (user,))
        assert sources.access_path(RULE) == way
        found[way] = [(row.key, row.values) for row in sources.rows(RULE, user)]
    assert found["keys"] == found["scan"] == sorted(found["keys"])
    assert len(found["keys"]) == 31


@pytest.mark.parametrize("text", ["{", "[]", '{"do_1": "unit"}', '{"do_1": [1]}', None])
def test_a_hierarchy_that_cannot_be_read_stops_the_merge_with_a_remedy(
    text, session, keyspace, with_settings, tmp_path
):
    path = tmp_path / "units.json"
    if text is not None:
        path.write_text(text)
    service = with_settings(course_hierarchy=str(path))
    merge_id = service.opening.open_merge(MergeRequest((account(),), account()))
    service.admission.admit(merge_id)
    with pytest.raises(NeedsAttention, match="BAD_HIERARCHY.*ACCOUNT_MERGE_COURSE_HIERARCHY"):
        service.merging.merge_table(merge_id, AGG)
    assert service.journal.need(merge_id).state == "needs_attention"
    assert {c.name: c.ok for c in run_checks(service)}["finding rows"] is False
