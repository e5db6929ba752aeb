"""Evidence: a merge is checked against its log, and a changed or missing entry of the log is found."""

from __future__ import annotations

import io
import json

import pytest

from account_merge.cli.main import main, run_merge
from account_merge.errors import InvalidRequest
from account_merge.model import MergeRequest
from account_merge.reports.audit import read_report as read
from tests.journal_sql import sql
from tests.learners import BATCH, COURSE, account, enrolment, lesson, put

CC, ENR = "user_content_consumption", "user_enrolments"


@pytest.fixture
def merged(session, shared_service):
    """A completed merge of 250 lessons and an enrolment: (merge id, target)."""
    keyspace, source, target = shared_service.settings.courses_keyspace, account(), account()
    for number in range(250):
        put(session, keyspace, CC, lesson(source, f"L{number:03d}", viewcount=2))
    put(session, keyspace, CC, lesson(target, "L000", viewcount=1))
    put(session, keyspace, ENR, enrolment(source, contentstatus={"L1": 2}, certificates=[{"identifier": "c"}]))
    put(session, keyspace, ENR, enrolment(target, contentstatus={"L2": 2}))
    merge_id = shared_service.opening.open_merge(MergeRequest((source,), target))
    assert run_merge(shared_service, merge_id, publish=False)["state"] == "completed"
    return merge_id, target


def kinds(service, merge_id):
    return [(d.kind, d.table) for d in service.audit.differences(merge_id)]


def test_a_merge_is_as_its_log_says_also_when_it_is_undone(shared_service, merged):
    merge_id, _ = merged
    assert kinds(shared_service, merge_id) == []
    assert set(shared_service.journal.need(merge_id).digests) >= {CC, ENR}
    shared_service.undoing.run(merge_id, publish=False)
    assert kinds(shared_service, merge_id) == []
    shared_service.undoing.run(merge_id, "redo", publish=False)
    assert kinds(shared_service, merge_id) == []


def test_what_was_written_later_is_no_fault_and_what_was_lost_is(
    session, shared_service, merged, monkeypatch, shared_environment
):
    merge_id, target = merged
    keyspace = shared_service.settings.courses_keyspace
    put(session, keyspace, CC, lesson(target, "L001", viewcount=9))
    assert kinds(shared_service, merge_id) == [("later", CC)]
    session.execute(
        f"DELETE FROM {keyspace}.{CC} WHERE userid = %s AND courseid = %s AND batchid = %s AND contentid = 'L002'",
        [target, COURSE, BATCH],
    )
    for name, value in shared_environment.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    assert main(["check", str(merge_id), "--json"], out) == 1
    found = {d["key"]["contentid"]: d["kind"] for d in json.loads(out.getvalue())}
    assert found == {"L001": "later", "L002": "lost"}


@pytest.mark.parametrize("harm", ["change", "remove", "cut"])
def test_a_log_that_was_tampered_with_is_found(harm, shared_service, merged):
    merge_id, _ = merged
    log, this = "log WHERE merge_id = :merge_id AND name = :name", {"merge_id": merge_id, "name": CC}
    assert len(sql(shared_service, f"SELECT payload FROM {log} AND seq <= 1", **this)) == 2
    if harm == "change":
        other = f"(SELECT payload FROM {log} AND seq = 0)"
        sql(shared_service, f"UPDATE log SET payload = {other} {log[4:]} AND seq = 1", **this)
    else:
        which = "1" if harm == "remove" else f"(SELECT max(seq) FROM {log})"
        sql(shared_service, f"DELETE FROM {log} AND seq = {which}", **this)
    found = [d for d in shared_service.audit.differences(merge_id) if d.kind == "log"]
    assert found
    assert {d.table for d in found} == {CC}


def test_an_exported_report_is_checked_against_the_journal(
    session, shared_service, merged, monkeypatch, shared_environment, tmp_path
):
    merge_id, _ = merged
    for name, value in shared_environment.items():
        monkeypatch.setenv(name, value)
    exported, out = tmp_path / "report.json", io.StringIO()
    main(["show", str(merge_id), "--json"], out)

    def check(report):
        exported.write_text(json.dumps(report))
        answer = io.StringIO()
        status = main(["check", str(merge_id), "--report", str(exported), "--json"], answer)
        return status, [(d["kind"], d["table"], d["words"]) for d in json.loads(answer.getvalue())]

    report = json.loads(out.getvalue())
    assert check(report) == (0, [])
    shared_service.undoing.run(merge_id, publish=False)
    status, found = check(report)
    assert status == 0
    assert {kind for kind, _, _ in found} == {"later"}
    lessons = next(t for t in report["tables"] if t["table"] == CC)
    lessons["rows"][3]["after"]["viewcount"] = 77
    del lessons["rows"][200:]
    next(t for t in report["tables"] if t["table"] == ENR)["digest"] = "00"
    status, found = check({**report, "target_account": "somebody"})
    assert status == 1
    assert {(table, words.split(" is ")[0]) for kind, table, words in found if kind == "report"} == {
        ("", "target_account"),
        (CC, "row 4 of the report: after"),
        (ENR, "the log that the report was made from was another one"),
    }
    assert len([d for d in found if d[:2] == ("later", CC)]) == 50


@pytest.mark.parametrize("text", ["", "[]", '{"tables": [{}]}', '{"tables": 3}'])
def test_what_is_no_exported_report_is_refused(text, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=r"show MERGE_ID --json"):
        read(str(path))
