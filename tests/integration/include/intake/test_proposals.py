"""Approval by a second person on a real Cassandra: what was proposed is what is done, or it says which rows changed."""

from __future__ import annotations

import io
import json
import uuid

import pytest

from account_merge.choices import Choices, row_name
from account_merge.cli.main import main, run_merge
from account_merge.errors import InvalidRequest, NeedsAttention
from account_merge.model import MergeRequest
from tests.integration.include.lifecycle.test_expiry import CC, ENR, TABLES, old, study, views
from tests.journal_sql import journal_text, sql
from tests.learners import BATCH, COURSE, account, lesson, put


@pytest.fixture
def service(shared_service):
    return shared_service


@pytest.fixture
def pair(session, keyspace):
    """A source with two lessons, of which the target has one."""
    source, target = account(), account()
    study(session, keyspace, source, ["L1", "L2"], views=3)
    study(session, keyspace, target, ["L2"], views=1)
    return source, target


def request(pair, by="ann", **more):
    return MergeRequest((pair[0],), pair[1], **{"tables": TABLES, "requested_by": by, "reason": "one person"} | more)


def propose(service, pair, **more):
    merge_id = uuid.uuid4()
    return merge_id, service.proposals.propose(request(pair, **more), merge_id)


def refusal(call, *args, **more):
    with pytest.raises(InvalidRequest) as refused:
        call(*args, **more)
    assert refused.value.remedy
    return refused.value.code


def changed(call, *args, **more):
    with pytest.raises(NeedsAttention) as found:
        call(*args, **more)
    assert found.value.code == "PLAN_CHANGED"
    return found.value


def plan_rows(service, merge_id):
    return sql(service, "SELECT * FROM plans WHERE merge_id = :id ORDER BY table_name, seq", id=merge_id)


def holds_nothing(service, pair):
    return all(service.journal.holder(one) is None for one in pair)


def test_what_is_approved_by_another_person_is_done(session, keyspace, service, pair):
    merge_id, answer = propose(service, pair)
    assert (answer["state"], answer["proceed"]) == ("proposed", True)
    assert answer["tables"][CC] == {"created": 1, "changed": 1}
    assert holds_nothing(service, pair)
    assert service.opening.start(service.journal.need(merge_id)) is None
    assert run_merge(service, merge_id, publish=False)["state"] == "proposed"  # nothing else starts it
    assert views(session, keyspace, pair[1]) == {"L2": 1}

    approved = service.proposals.approve(merge_id, "bob", "seen", answer["plan"])
    assert (approved["state"], approved["note"]) == ("requested", "approved by bob: seen")
    assert service.proposals.approve(merge_id, "bob", "seen", answer["plan"])["state"] == "requested"
    assert refusal(service.proposals.approve, merge_id, "eve") == "NOT_PROPOSED"
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert views(session, keyspace, pair[1]) == {"L1": 3, "L2": 4}
    done = service.journal.need(merge_id)
    assert (done.plan, done.approved_by, done.note) == (None, "bob", "approved by bob: seen")
    assert plan_rows(service, merge_id) == []
    assert service.reader.report(merge_id).head()["approved_by"] == "bob"
    service.undoing.run(merge_id, publish=False)
    assert views(session, keyspace, pair[1]) == {"L2": 1}


@pytest.mark.parametrize("options", [{"on_conflict": "skip"}, {"source_rows": "deactivate"}, {"tables": ()},
                                     {"choices": Choices({ENR: "target"}, {row_name(CC, (COURSE, BATCH, "L2")): "source"})}])  # fmt: skip
def test_every_kind_of_request_is_done_as_it_was_planned(session, keyspace, service, pair, options):
    merge_id, _ = propose(service, pair, **options)
    service.proposals.approve(merge_id, "bob")
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"


def test_two_proposals_of_one_source_after_an_earlier_merge(session, keyspace, service, pair):
    """The plan is the same before and under the leases, also when the accounts have a history."""
    first, _ = propose(service, pair)
    service.proposals.approve(first, "bob")
    assert run_merge(service, first, publish=False)["state"] == "completed"
    put(session, keyspace, CC, lesson(pair[0], "L2", status=2, progress=100, viewcount=7, completedcount=1))
    again, _ = propose(service, pair)
    service.proposals.approve(again, "bob")
    assert run_merge(service, again, publish=False)["state"] == "completed"
    assert views(session, keyspace, pair[1]) == {"L1": 3, "L2": 8}


@pytest.mark.parametrize("by", ["ann", " Ann ", "", " "])
def test_nobody_approves_what_they_asked_for(service, pair, by):
    merge_id, answer = propose(service, pair)
    code = refusal(service.proposals.approve, merge_id, by)
    assert code == ("SAME_PERSON" if by.strip() else "NO_PERSON")
    assert service.journal.need(merge_id).state == "proposed"
    service.proposals.approve(merge_id, "bob", plan=answer["plan"])


def test_a_proposal_of_nobody_or_of_bad_accounts_leaves_nothing_behind(service, pair):
    merge_id = uuid.uuid4()
    assert refusal(service.proposals.propose, request(pair, by=" "), merge_id) == "NO_PERSON"
    assert refusal(service.proposals.propose, request((pair[0], pair[0])), merge_id) == "SAME_ACCOUNT"
    assert service.journal.get(merge_id) is None


def test_a_proposal_that_cannot_be_a_merge_any_more_is_rejected_when_it_is_proposed_anew(session, service, pair):
    merge_id, _ = propose(service, pair)
    elsewhere = service.opening.open_merge(request((pair[0], account())))
    assert run_merge(service, elsewhere, publish=False)["state"] == "completed"
    assert refusal(service.proposals.approve, merge_id, "bob") == "ALREADY_MERGED"
    assert service.journal.need(merge_id).state == "proposed"
    assert refusal(service.proposals.propose, request(pair), merge_id, renew=True) == "ALREADY_MERGED"
    assert (service.journal.need(merge_id).state, plan_rows(service, merge_id)) == ("rejected", [])


def test_proposed_twice_is_proposed_once(session, service, pair):
    merge_id, answer = propose(service, pair)
    written = plan_rows(service, merge_id)
    assert service.proposals.propose(request(pair), merge_id) == answer
    assert plan_rows(service, merge_id) == written
    other = (account(), pair[1])
    assert refusal(service.proposals.propose, request(other), merge_id) == "OTHER_ACCOUNTS"
    service.proposals.approve(merge_id, "bob")
    again = service.proposals.propose(request(pair), merge_id)
    assert (again["state"], again["proceed"]) == ("requested", False)


def test_a_plan_that_was_not_written_to_its_end_is_not_approved_and_written_anew(session, service, pair, monkeypatch):
    from account_merge.journal.plans import PlanDigests

    merge_id, written = uuid.uuid4(), []
    append = PlanDigests._append

    def killed(self, *args):
        written.append(args)
        if len(written) == 3:
            raise KeyboardInterrupt
        return append(self, *args)

    monkeypatch.setattr(PlanDigests, "_append", killed)
    with pytest.raises(KeyboardInterrupt):
        service.proposals.propose(request(pair), merge_id)
    monkeypatch.setattr(PlanDigests, "_append", append)
    assert refusal(service.proposals.approve, merge_id, "bob") == "NO_PLAN"
    answer = service.proposals.propose(request(pair), merge_id)
    assert answer["tables"][CC] == {"created": 1, "changed": 1}
    assert service.proposals.approve(merge_id, "bob")["state"] == "requested"


def test_rows_that_changed_before_the_approval_are_named_and_need_a_new_one(session, keyspace, service, pair):
    merge_id, answer = propose(service, pair)
    put(session, keyspace, CC, lesson(pair[1], "L2", viewcount=2))
    put(session, keyspace, CC, lesson(pair[0], "L3", viewcount=1))
    session.execute(f"DELETE FROM {keyspace}.{CC} WHERE userid=%s AND courseid=%s AND batchid=%s AND contentid='L1'",
                    [pair[0], COURSE, BATCH])  # fmt: skip
    error = changed(service.proposals.approve, merge_id, "bob")
    assert f"{CC}: 1 appeared, 1 changed, 1 vanished" in error.message
    assert "L2" not in error.message
    merge = service.journal.need(merge_id)
    assert (merge.state, merge.error_code, merge.error) == ("proposed", "PLAN_CHANGED", error.message)
    found = service.proposals.changes(merge_id)
    assert found["tables"] == {CC: {"appeared": 1, "changed": 1, "vanished": 1}}
    key = {"courseid": COURSE, "batchid": BATCH}
    assert sorted(found["rows"], key=str) == [
        {"table": CC, "what": what, "account": pair[1], "key": {**key, "contentid": name}}
        for what, name in (("appeared", "L3"), ("changed", "L2"))
    ]

    renewed = service.proposals.propose(request(pair), merge_id)
    assert renewed["plan"] != answer["plan"]
    assert service.journal.need(merge_id).error_code is None
    assert refusal(service.proposals.approve, merge_id, "bob", plan=answer["plan"]) == "OTHER_PLAN"
    assert refusal(service.proposals.reject, merge_id, "bob", plan=answer["plan"]) == "OTHER_PLAN"
    assert service.proposals.expire(merge_id, answer["plan"])["state"] == "proposed"
    service.proposals.approve(merge_id, "bob", plan=renewed["plan"])
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"


def test_rows_that_changed_after_the_approval_bring_it_back_to_a_person(session, keyspace, service, pair):
    merge_id, answer = propose(service, pair)
    service.proposals.approve(merge_id, "bob")
    put(session, keyspace, CC, lesson(pair[0], "L2", viewcount=9))
    result = run_merge(service, merge_id, publish=False)
    assert (result["state"], result["error"]) == ("proposed", None)
    assert f"{CC}: 1 changed" in result["note"]
    merge = service.journal.need(merge_id)
    assert (merge.error_code, merge.failed_event, merge.approved_by, merge.rules_hash) == (
        "PLAN_CHANGED", "none", None, None,
    )  # fmt: skip
    assert holds_nothing(service, pair)
    assert views(session, keyspace, pair[1]) == {"L2": 1}
    assert service.proposals.changes(merge_id)["tables"] == {CC: {"changed": 1}}
    assert run_merge(service, merge_id, publish=False)["state"] == "proposed"

    service.proposals.propose(request(pair), merge_id)
    service.proposals.approve(merge_id, "bob")
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert views(session, keyspace, pair[1]) == {"L1": 3, "L2": 10}


def test_what_the_platform_writes_after_the_admission_is_combined_as_always(session, keyspace, service, pair):
    merge_id, _ = propose(service, pair)
    service.proposals.approve(merge_id, "bob")
    assert service.admission.admit(merge_id)["proceed"]
    put(session, keyspace, CC, lesson(pair[0], "L2", viewcount=9))
    assert service.admission.admit(merge_id)["proceed"]  # a cleared task looks at no plan any more
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert views(session, keyspace, pair[1])["L2"] == 10


def test_a_run_that_failed_before_the_admission_compares_as_well(session, keyspace, service, pair):
    merge_id, _ = propose(service, pair)
    service.proposals.approve(merge_id, "bob")
    service.journal.move(service.journal.need(merge_id), "started", attempt=1, run_ids=["r1"])
    service.failures.record(service.journal.need(merge_id), NeedsAttention("RUN_FAILED", "killed", "clear"), "failed")
    put(session, keyspace, CC, lesson(pair[0], "L2", viewcount=9))
    assert service.admission.admit(merge_id, "r1")["state"] == "proposed"
    assert holds_nothing(service, pair)


def test_rejected_and_expired_proposals_keep_nothing_of_the_plan(session, service, pair):
    rejected, answer = propose(service, pair)
    assert service.proposals.reject(rejected, "ann", "my mistake")["state"] == "rejected"
    assert service.proposals.reject(rejected, "ann", "my mistake")["note"] == "rejected by ann: my mistake"
    expired, _ = propose(service, pair)
    assert service.proposals.expire(expired)["state"] == "expired"
    assert service.proposals.expire(expired)["state"] == "expired"
    for merge_id in (rejected, expired):
        assert plan_rows(service, merge_id) == []
        assert service.journal.need(merge_id).plan is None
        assert refusal(service.proposals.approve, merge_id, "bob") == "NOT_PROPOSED"
        assert run_merge(service, merge_id, publish=False)["state"] in ("rejected", "expired")
    assert refusal(service.proposals.reject, expired, "ann") == "NOT_PROPOSED"
    old(session, service, rejected, expired)
    assert service.retention.run()["expired"] >= 2
    assert service.journal.need(rejected).note is None


def test_the_plan_keeps_nothing_of_a_learner_and_goes_with_an_erasure(session, keyspace, service, pair):
    source, target = pair
    study(session, keyspace, source, ["Lesson-planned"], views=4)
    merge_id, _ = propose(service, pair)
    rows = plan_rows(service, merge_id)
    assert {row.counts is None for row in rows} == {False}  # so few rows: one row of the plan a table, which ends it
    plan = "\n".join(str(row) for row in rows)
    text = journal_text(service, merge_id)
    for word in ("Lesson-planned", f"cert-{source}", COURSE, BATCH):
        assert word not in text, word
    assert source not in plan
    # The same rows under another salt have other digests.
    other, _ = propose(service, pair)
    digests, others = ({row.digests for row in found if row.digests} for found in (rows, plan_rows(service, other)))
    assert digests
    assert not digests & others

    assert refusal(service.erasure.erase, source, "officer", "asked", dry_run=False) == "STILL_OPEN"
    for one in (merge_id, other):
        service.proposals.reject(one, source)
    service.erasure.erase(source, "officer", "asked", dry_run=False)
    assert source not in journal_text(service, merge_id, other)
    assert plan_rows(service, merge_id) == []


def test_another_merge_is_not_held_up_by_a_proposal(service, pair):
    propose(service, pair)
    other = service.opening.open_merge(request(pair))
    assert service.opening.start(service.journal.need(other)) is not None
    assert run_merge(service, other, publish=False)["state"] == "completed"


def test_the_commands_propose_approve_and_reject(service, pair, shared_environment, monkeypatch, capsys):
    for name, value in shared_environment.items():
        monkeypatch.setenv(name, value)

    def told(*words):
        out = io.StringIO()
        assert main([*words, "--json"], out) == 0
        return json.loads(out.getvalue())

    asked = ["propose", "--source", pair[0], "--target", pair[1], "--by", "ann", "--reason", "one person"]
    one, two = told(*asked)["merge_id"], told(*asked)["merge_id"]
    assert main(["approve", one, "--by", "ann"]) == 2
    assert "SAME_PERSON" in capsys.readouterr().err
    assert told("approve", one, "--by", "bob")["state"] == "requested"
    assert told("reject", two, "--by", "bob", "--reason", "two persons")["state"] == "rejected"


@pytest.mark.parametrize("rows", [9000])
def test_a_plan_of_many_rows_is_kept_in_entries_and_compared_exactly(session, keyspace, service, rows, monkeypatch):
    from account_merge.journal import plans

    monkeypatch.setattr(plans, "CHUNK", 64)  # 141 entries: more than a partition
    source, target = account(), account()
    statement = session.prepare(
        f"INSERT INTO {keyspace}.{CC} (userid, courseid, batchid, contentid, viewcount) VALUES (?, ?, ?, ?, 1)"
    )
    pending = []
    for number in range(rows):
        pending.append(session.execute_async(statement, [source, COURSE, BATCH, f"L{number:05}"]))
        if len(pending) == 200:
            pending = [future.result() for future in pending][:0]
    for future in pending:
        future.result()
    merge_id, answer = propose(service, (source, target), tables=(CC, ENR))
    assert answer["tables"] == {CC: {"created": rows}}
    assert len(plan_rows(service, merge_id)) > 141
    assert service.proposals.changes(merge_id)["tables"] == {}
    put(session, keyspace, CC, lesson(source, "L04500", viewcount=2))
    put(session, keyspace, CC, lesson(source, "L00000x", viewcount=2))
    found = service.proposals.changes(merge_id)
    assert found["tables"] == {CC: {"changed": 1, "appeared": 1}}
    assert {(row["what"], row["key"]["contentid"]) for row in found["rows"]} == {
        ("changed", "L04500"), ("appeared", "L00000x"),
    }  # fmt: skip
    service.proposals.reject(merge_id, "bob")
    assert plan_rows(service, merge_id) == []
