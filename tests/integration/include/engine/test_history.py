"""What earlier merges and outages leave behind is told apart, kept and explained, on a real Cassandra."""

from __future__ import annotations

import json

import pytest

from account_merge.choices import Choices
from account_merge.cli.main import run_merge
from account_merge.errors import NeedsAttention, TransientError
from account_merge.failed_search import FailedMergeFilter
from account_merge.lifecycle import admission, merging
from account_merge.model import MergeRequest
from account_merge.sunbird.store import Store
from tests.learners import account, aggregate, enrolment, lesson, put, rows

CC, ENR, AGG = "user_content_consumption", "user_enrolments", "user_activity_agg"


@pytest.fixture
def service(shared_service):
    return shared_service


def merge(service, source, target, **options):
    merge_id = service.opening.open_merge(MergeRequest((source,), target, **options))
    answer = run_merge(service, merge_id, publish=False)
    assert answer["state"] == "completed", answer
    return merge_id


def finished(session, keyspace, user, lessons, *, counted=True):
    for name in lessons:
        put(session, keyspace, CC, lesson(user, name, status=2))
    if counted:
        put(session, keyspace, AGG, aggregate(user, aggregates={"completedCount": float(len(lessons))}))


def completed_count(session, keyspace, user):
    return rows(session, keyspace, AGG, user)[0]["aggregates"]["completedCount"]


def test_the_union_is_proved_also_when_lessons_were_merged_before_the_counts(session, keyspace, service):
    source, target = account(), account()
    finished(session, keyspace, source, ["L1", "L2"])
    finished(session, keyspace, target, ["L3"])
    merge(service, source, target, tables=(CC,))
    assert completed_count(session, keyspace, target) == 1.0
    merge(service, source, target)
    assert completed_count(session, keyspace, target) == 3.0


def test_the_union_is_proved_in_a_chain_whose_first_account_counted_nothing(session, keyspace, service):
    a, b, c = account(), account(), account()
    finished(session, keyspace, a, ["L1", "L2"], counted=False)
    finished(session, keyspace, b, ["L3"])
    finished(session, keyspace, c, ["L4"])
    merge(service, a, b)
    assert completed_count(session, keyspace, b) == 3.0  # its lessons tell, also where it has no aggregate
    merge(service, b, c)
    assert completed_count(session, keyspace, c) == 4.0


def test_a_count_that_the_platform_writes_back_meanwhile_does_not_lose_the_union(
    session, keyspace, service, monkeypatch
):
    source, target = account(), account()
    finished(session, keyspace, source, ["L1", "L2"])
    finished(session, keyspace, target, ["L3"])
    original, done = Store.write, []

    def racing(self, schema, *arguments, **named):
        original(self, schema, *arguments, **named)
        if schema.name == AGG and not done:
            done.append(1)
            session.execute(
                f"UPDATE {keyspace}.{AGG} SET aggregates['completedCount'] = 1 WHERE activity_type = 'Course' "
                "AND activity_id = %s AND user_id = %s AND context_id = %s",
                [*(aggregate(target)[c] for c in ("activity_id", "user_id", "context_id"))],
            )

    monkeypatch.setattr(Store, "write", racing)
    merge(service, source, target)
    assert done
    assert completed_count(session, keyspace, target) == 3.0


def test_a_number_in_the_older_form_is_not_hidden_by_a_lesser_one_in_the_newer(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, ENR, enrolment(source))
    put(session, keyspace, AGG, aggregate(source, agg={"completedCount": 5, "score:q": 9, "max_score:q": 10}))
    put(
        session,
        keyspace,
        AGG,
        aggregate(target, aggregates={"completedCount": 1.0, "score:q": 4.0, "max_score:q": 20.0}),
    )
    merge(service, source, target)
    found = rows(session, keyspace, AGG, target)[0]
    assert {**found["agg"], **found["aggregates"]} == {"completedCount": 5.0, "score:q": 9.0, "max_score:q": 10.0}


def test_a_deactivated_enrolment_counts_as_active_in_a_later_merge(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, ENR, enrolment(source, active=True, status=1))
    put(session, keyspace, ENR, enrolment(source, active=False) | {"courseid": "left-by-the-learner"})
    merge_id = merge(service, source, target, source_rows="deactivate")
    assert [r["active"] for r in rows(session, keyspace, ENR, source)] == [False, False]
    report = {t["table"]: t for t in service.reader.report(merge_id).to_dict()["tables"]}
    assert [(r["before"]["active"], r["after"]["active"]) for r in report[f"{ENR}/{source}"]["rows"]] == [(True, False)]
    # The target's rows are lost by another's mistake: whoever wants them back chooses the source's rows.
    session.execute(f"DELETE FROM {keyspace}.{ENR} WHERE userid = %s", [target])
    merge(service, source, target)
    assert rows(session, keyspace, ENR, target) == []
    merge(service, source, target, choices=Choices({ENR: "source"}))
    assert {r["courseid"]: r["active"] for r in rows(session, keyspace, ENR, target)} == {
        enrolment(source)["courseid"]: True, "left-by-the-learner": False,
    }  # fmt: skip


def test_certificates_of_one_name_stay_both_and_are_remarked(session, keyspace, service):
    source, target = account(), account()
    for user in (source, target):
        put(session, keyspace, ENR, enrolment(user, issued_certificates=[{"identifier": user, "name": "Completion"}]))
    merge_id = merge(service, source, target)
    assert len(rows(session, keyspace, ENR, target)[0]["issued_certificates"]) == 2
    notes = [n for t in service.reader.report(merge_id).to_dict()["tables"] for r in t["rows"] for n in r["notes"]]
    assert [note for note in notes if "2 named 'Completion'" in note], notes


def test_a_merge_that_went_on_to_a_survivor_is_found_by_the_survivor(session, keyspace, service):
    a, b, c = account(), account(), account()
    merge(service, b, c)
    later = merge(service, a, b)
    assert service.journal.need(later).survivor == c
    for one in (a, b, c):
        assert later in {m.merge_id for m in service.journal.find("accounts", one)}


def test_the_failed_event_names_the_cause_that_a_task_met(session, keyspace, service, monkeypatch):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    service.admission.admit(merge_id, "manual__1")

    def slow(self, *arguments, **named):
        raise TransientError("CASSANDRA_UNAVAILABLE", "Cassandra did not acknowledge a write", "Look at Cassandra.")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", slow)
        with pytest.raises(TransientError):
            service.merging.merge_table(merge_id, CC)
    assert service.reader.report(merge_id).head()["error"]["code"] == "CASSANDRA_UNAVAILABLE"
    assert service.reader.report(merge_id).head()["state"] == "running"  # the task is tried again
    service.failures.fail(merge_id, "manual__1", "task_failure")
    sent = [json.loads(m.value) for m in service.topics.read(service.settings.failed_topic)]
    mine = [event["failInfo"] for event in sent if event["failInfo"]["mergeId"] == str(merge_id)]
    assert [(i["code"], i["remedy"]) for i in mine] == [("CASSANDRA_UNAVAILABLE", "Look at Cassandra.")]
    # It goes on, and what is over is not told any more.
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert service.reader.report(merge_id).head()["error"] is None


def test_other_rules_finish_what_is_logged_and_plan_nothing(session, keyspace, service, monkeypatch):
    source, target = account(), account()
    for number in range(300):
        put(session, keyspace, CC, lesson(source, f"L{number:03d}", viewcount=2))
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    service.admission.admit(merge_id)

    def dies(self, *arguments, **named):
        raise RuntimeError("the process ends here, after the entry was logged")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", dies)
        with pytest.raises(RuntimeError):
            service.merging.merge_table(merge_id, CC)
    assert service.reader.report(merge_id).head()["error"]["code"] == "UNEXPECTED"
    monkeypatch.setattr(merging, "rules_hash", lambda: "another")
    with pytest.raises(NeedsAttention, match="RULES_CHANGED"):
        service.merging.merge_table(merge_id, CC)
    assert len(rows(session, keyspace, CC, target)) == service.settings.entry_rows
    assert service.reader.report(merge_id).head()["state"] == "needs_attention"
    monkeypatch.undo()
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert len(rows(session, keyspace, CC, target)) == 300


@pytest.mark.parametrize("way", ["go on", "undo", "abandon"])
def test_a_merge_that_was_begun_with_other_rules_has_three_ways(way, session, keyspace, service, monkeypatch):
    source, target = account(), account()
    for number in range(250):
        put(session, keyspace, CC, lesson(source, f"L{number:03d}", viewcount=2))
    put(session, keyspace, CC, lesson(target, "L000", viewcount=1))
    before = rows(session, keyspace, CC, target)
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    write, written = Store.write, []

    def dies(self, *arguments, **named):
        written.append(write(self, *arguments, **named))
        if len(written) == 2:
            raise RuntimeError("the process ends here")

    with monkeypatch.context() as patch:
        patch.setattr(admission, "rules_hash", lambda: "of another program")
        service.admission.admit(merge_id)
        patch.setattr(merging, "rules_hash", lambda: "of another program")
        patch.setattr(Store, "write", dies)
        with pytest.raises(RuntimeError):
            service.merging.merge_table(merge_id, CC)
    with pytest.raises(NeedsAttention, match="RULES_CHANGED"):
        service.merging.merge_table(merge_id, CC)
    service.failures.sweep(lambda run: "failed")
    if way == "go on":
        replayed = [service.replays.replay(search, "ops", "looked at", dry_run=False)["items"][0]["code"] for search in (
            FailedMergeFilter.of(account=source), FailedMergeFilter.of(merge_ids=[merge_id]))]  # fmt: skip
        assert replayed == ["RULES_CHANGED", "RESUMED"]  # a person names it: that is the yes
        assert run_merge(service, merge_id, publish=False)["state"] == "completed"
        assert {row["contentid"]: row["viewcount"] for row in rows(session, keyspace, CC, target)} == {
            f"L{number:03d}": 3 if number == 0 else 2 for number in range(250)
        }
    elif way == "undo":
        assert service.undoing.run(merge_id, publish=False)["state"] == "undone"
        assert rows(session, keyspace, CC, target) == before
    else:
        assert service.undoing.abandon(merge_id, "not wanted")["state"] == "abandoned"
        again = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
        assert run_merge(service, again, publish=False)["state"] == "completed"
        assert rows(session, keyspace, CC, target)[0]["viewcount"] == 3
