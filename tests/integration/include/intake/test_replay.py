"""Failed merges and refused events again, from a real journal: each kind, once only, with an answer for each."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta

import pytest

from account_merge.cli.main import main, run_merge
from account_merge.errors import InvalidRequest, NeedsAttention, TransientError
from account_merge.failed_search import FailedMergeFilter
from account_merge.journal import now
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.sunbird.events import parse
from tests.learners import account, event, lesson, put, rows

CC = "user_content_consumption"
FAILED = ["refused", "failed", "needs_attention"]


@pytest.fixture
def service(own_world):
    """Empty journal."""
    return own_world()


def replay(service, *merge_ids, dry_run=False, corrected=None, reason="the cause is repaired", **search):
    answer = service.replays.replay(
        FailedMergeFilter.of(merge_ids=merge_ids, **search), "ops", reason, dry_run, corrected
    )
    assert answer["replayed"] + answer["left_alone"] == len(answer["items"])
    for item in answer["items"]:
        assert set(item) == {"merge_id", "before", "after", "code", "note"}
    return answer["items"]


def one(service, merge_id, **options):
    (item,) = replay(service, merge_id, **options)
    assert item["merge_id"] == str(merge_id)
    return item["code"], item["before"], item["after"]


def claim(service, *events):
    service.publisher.publish([(service.settings.merge_topic, None, raw) for raw in events])
    return service.inbox.claim()


def report(service, sent=1):
    assert service.failures.sweep(lambda run: "success") == {"sent": sent, "pending": 0}


def refused(service, *events):
    """Claims events that a narrow limit refuses, with their failed events out; answers the merges, oldest first."""
    with Service(service.settings.replace(max_id_length=10)) as narrow:
        claim(narrow, *events)
    report(service, len(events))
    found = service.journal.find("state", "refused")
    assert {m.error_code for m in found} == {"ID_TOO_LONG"}
    return found


def failed(service, source=None, target=None):
    """A merge whose first run failed, its failed event out."""
    merge_id = service.opening.open_merge(MergeRequest((source or account(),), target or account()))
    run = next(
        c["trigger_run_id"] for c in service.inbox.next_runs(lambda run: "running") if c["merge_id"] == str(merge_id)
    )
    assert service.failures.fail(merge_id, run, "killed")["failed_event"] == "sent"
    assert service.journal.need(merge_id).state == "failed"
    return merge_id


def started(service):
    return [c["trigger_run_id"] for c in service.inbox.next_runs(lambda run: "running")]


def failed_ids(service):
    read = service.topics.read(service.settings.failed_topic)
    return [json.loads(m.value)["failInfo"]["failedId"] for m in read]


def test_a_refused_event_that_is_valid_by_now_becomes_its_merge(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    raw = event(source, target, "m1").replace(b'"edata": {', b'"edata": {"rootOrgId": "org-1", ')
    (merge,) = refused(service, raw)
    assert one(service, merge.merge_id, dry_run=True) == ("REOPENED", "refused", "requested")
    assert service.journal.need(merge.merge_id) == merge
    assert one(service, merge.merge_id) == ("REOPENED", "refused", "requested")
    opened = service.journal.need(merge.merge_id)
    assert (opened.request.sources, opened.request.target, opened.request.mid) == ((source,), target, "m1")
    assert (opened.request.tenant, opened.request.raw, opened.error_code) == ("org-1", raw, None)
    assert opened.note == "replayed by ops: the cause is repaired"
    assert [m.merge_id for m in service.journal.find("accounts", source)] == [merge.merge_id]
    assert one(service, merge.merge_id) == ("NOT_FAILED", "requested", "requested")
    assert started(service) == [f"merge__{merge.merge_id}__1"]
    assert run_merge(service, merge.merge_id, publish=False)["state"] == "completed"
    assert rows(session, keyspace, CC, target)[0]["viewcount"] == 3
    assert one(service, merge.merge_id) == ("NOT_FAILED", "completed", "completed")


def test_a_refused_event_that_is_still_wrong_stays_refused(service):
    claim(service, b"{not json", event("a", "a"))
    report(service, 2)
    before = service.journal.find("state", "refused")
    assert sorted(item["code"] for item in replay(service, kinds=["refused"])) == ["EVENT_NOT_JSON", "SAME_ACCOUNT"]
    assert service.journal.find("state", "refused") == before


def test_a_replay_waits_until_the_failed_event_is_out(service):
    claim(service, b"{not json")
    (merge,) = service.journal.find("state", "refused")
    assert one(service, merge.merge_id)[0] == "FAILED_EVENT_OWED"


def test_copies_of_one_event_are_replayed_once(service):
    raw = event(account(), account(), "m1")
    refused(service, raw, raw, raw)
    assert sorted(item["code"] for item in replay(service)) == ["REOPENED", "REPLAYED_BEFORE", "REPLAYED_BEFORE"]
    assert len(started(service)) == 1
    assert service.replays.find(FailedMergeFilter()) == []


def test_an_event_that_came_again_and_was_merged_is_not_replayed(service):
    raw = event(account(), account(), "m1")
    (merge,) = refused(service, raw)
    assert claim(service, raw)["claimed"] == 1
    assert one(service, merge.merge_id)[0] == "REPLAYED_BEFORE"
    assert len(started(service)) == 1


def test_a_merge_that_would_go_in_a_circle_stays_refused(service):
    a, b = account(), account()
    run_merge(service, service.opening.open_merge(MergeRequest((a,), b)), publish=False)
    circle = service.opening.open_merge(MergeRequest((b,), a))
    assert run_merge(service, circle, publish=False)["state"] == "refused"
    report(service)
    assert one(service, circle, dry_run=True) == ("INTO_ITSELF", "refused", "refused")
    assert one(service, circle) == ("INTO_ITSELF", "refused", "refused")


def test_a_reopened_event_that_is_refused_again_has_its_next_failed_event(service):
    a, b = account(), account()
    (merge,) = refused(service, event(b, a, "m1"))
    assert one(service, merge.merge_id)[0] == "REOPENED"
    run_merge(service, service.opening.open_merge(MergeRequest((a,), b)), publish=False)
    assert run_merge(service, merge.merge_id, publish=False)["state"] == "refused"
    report(service)
    assert [i for i in failed_ids(service) if str(merge.merge_id) in i] == [f"{merge.merge_id}.{n}" for n in (1, 2)]


def test_a_failed_merge_goes_on_in_its_next_run(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    merge_id = failed(service, source, target)
    before = service.journal.need(merge_id)
    assert started(service) == []  # nobody asked yet
    assert one(service, merge_id, dry_run=True) == ("RESUMED", "failed", "failed")
    assert service.journal.need(merge_id) == before
    assert one(service, merge_id) == ("RESUMED", "failed", "failed")
    assert one(service, merge_id)[0] == "RESUMED_BEFORE"
    assert service.inbox.has_work()["due"] == 1
    assert started(service) == [f"merge__{merge_id}__2"]
    assert one(service, merge_id)[0] == "RESUMED_BEFORE"
    assert service.admission.admit(merge_id, f"merge__{merge_id}__2")["proceed"]
    assert one(service, merge_id) == ("NOT_FAILED", "running", "running")
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert rows(session, keyspace, CC, target)[0]["viewcount"] == 3
    assert one(service, merge_id) == ("NOT_FAILED", "completed", "completed")


def test_each_failure_of_a_replayed_merge_has_its_event(service):
    merge_id = failed(service)
    for number in (2, 3):
        assert one(service, merge_id)[0] == "RESUMED"
        (run,) = started(service)
        if number == 2:  # fails behind admission, then before it
            service.admission.admit(merge_id, run)
        service.failures.fail(merge_id, run, "killed again")
    merge = service.journal.need(merge_id)
    assert (merge.state, merge.failed_number, merge.resume) == ("failed", 3, None)
    assert [i for i in failed_ids(service) if str(merge_id) in i] == [f"{merge_id}.{number}" for number in (1, 2, 3)]


def test_what_needed_attention_goes_on_too(service):
    merge_id = service.opening.open_merge(MergeRequest((account(),), account()))
    (run,) = started(service)
    service.admission.admit(merge_id, run)
    error = NeedsAttention("KEEPS_CHANGING", "a value keeps winning", "look for the writer")
    service.failures.record(service.journal.need(merge_id), error, "needs_attention")
    report(service)
    assert one(service, merge_id) == ("RESUMED", "needs_attention", "needs_attention")
    assert started(service) == [f"merge__{merge_id}__2"]
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"


def test_of_tasks_that_fail_at_once_the_first_cause_is_recorded(service):
    merge_id = service.opening.open_merge(MergeRequest((account(),), account()))
    (run,) = started(service)
    service.admission.admit(merge_id, run)
    seen = service.journal.need(merge_id)
    # Somebody writes between a task's look and its record.
    assert service.journal.change(seen, attempt=seen.attempt + 1)
    service.failures.record(seen, NeedsAttention("RULES_CHANGED", "first", "look"), "needs_attention")
    service.failures.record(seen, NeedsAttention("NOT_RUNNING", "second", "look"), "failed")
    merge = service.journal.need(merge_id)
    assert (merge.state, merge.error_code, merge.failed_event) == ("needs_attention", "RULES_CHANGED", "due")


def test_an_undeliverable_failed_event_is_armed_again(service):
    merge_id = failed(service)
    service.journal.change(service.journal.need(merge_id), failed_event="undeliverable")
    assert one(service, merge_id, kinds=["undeliverable"], dry_run=True)[0] == "REARMED"
    before = failed_ids(service)
    (item,) = replay(service, kinds=["undeliverable"])
    assert item["code"] == "REARMED"
    assert one(service, merge_id)[0] == "FAILED_EVENT_OWED"
    report(service)
    assert failed_ids(service)[len(before) :] == [f"{merge_id}.1"]
    assert one(service, merge_id)[0] == "RESUMED"


def test_a_merge_with_an_undeliverable_event_goes_on_and_owes_the_next_one(service):
    merge_id = failed(service)
    service.journal.change(service.journal.need(merge_id), failed_event="undeliverable")
    assert one(service, merge_id)[0] == "RESUMED"
    (run,) = started(service)
    service.admission.admit(merge_id, run)
    assert service.failures.fail(merge_id, run, "killed")["failed_event"] == "sent"
    assert service.journal.need(merge_id).failed_number == 2


def test_a_corrected_event_is_a_merge_of_its_own_and_the_refused_one_names_it(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    claim(service, event(" ", target, "m1"))
    report(service)
    (bad,) = service.journal.find("state", "refused")
    right = json.loads(event(source, target, "m1"))
    (item,) = replay(service, corrected={str(bad.merge_id): right}, dry_run=True)
    assert item["code"] == "CORRECTED"
    assert service.journal.need(bad.merge_id) == bad
    assert started(service) == []
    (item,) = replay(service, corrected={str(bad.merge_id): right})
    assert (item["code"], item["before"], item["after"]) == ("CORRECTED", "refused", "refused")
    kept = service.journal.need(bad.merge_id)
    new = service.journal.need(kept.replayed_as)
    assert str(new.merge_id) in item["note"]
    assert str(new.merge_id) in kept.note
    assert (new.request.sources, new.request.target, new.request.mid) == ((source,), target, "m1")
    assert str(bad.merge_id) in new.request.reason
    # The same id as if the producer had sent it: should it come after all, it is the same merge.
    assert claim(service, event(source, target, "m1"))["repeated"] == 1
    assert run_merge(service, new.merge_id, publish=False)["state"] == "completed"
    assert rows(session, keyspace, CC, target)[0]["viewcount"] == 3
    for again in ({}, {"corrected": {str(bad.merge_id): right}}):
        assert one(service, bad.merge_id, **again)[0] == "REPLAYED_BEFORE"
    assert service.replays.find(FailedMergeFilter()) == []


def test_a_corrected_event_without_a_mid_is_one_merge_however_often_it_is_given(service):
    claim(service, b"{not json")
    report(service)
    (bad,) = service.journal.find("state", "refused")
    right = event(account(), account()).decode()
    (item,) = replay(service, corrected={str(bad.merge_id): right})
    new = service.journal.need(bad.merge_id).replayed_as
    # Stopped between its two writes: the refused event does not name the merge yet.
    service.journal.change(service.journal.need(bad.merge_id), replayed_as=None)
    (item,) = replay(service, corrected={str(bad.merge_id): right})
    assert item["code"] == "CORRECTED"
    assert service.journal.need(bad.merge_id).replayed_as == new
    assert len(started(service)) == 1


@pytest.mark.parametrize(("corrected", "code"), [
    ({"edata": {"fromAccountId": "a"}}, "ID_MISSING"), ("{", "EVENT_NOT_JSON"), (["a"], "EVENT_NOT_AN_OBJECT"),
    ({"edata": {"action": "other", "fromAccountId": "a", "toAccountId": "b"}}, "OTHER_ACTION"),
])  # fmt: skip
def test_a_correction_that_is_wrong_too_changes_nothing(service, corrected, code):
    claim(service, b"{not json")
    report(service)
    (bad,) = service.journal.find("state", "refused")
    (item,) = replay(service, corrected={str(bad.merge_id): corrected})
    assert (item["code"], item["after"]) == (code, "refused")
    assert service.journal.need(bad.merge_id) == bad


def test_only_a_refused_event_is_corrected(service):
    merge_id = failed(service)
    (item,) = replay(service, corrected={str(merge_id): json.loads(event("a", "b"))})
    assert item["code"] == "NOT_REFUSED"
    assert started(service) == []


def test_what_did_not_fail_is_left_alone_and_says_why(service):
    requested = service.opening.open_merge(MergeRequest((account(),), account()))
    running = service.opening.open_merge(MergeRequest((account(),), account()))
    service.admission.admit(running)
    waiting = service.opening.open_merge(MergeRequest((account(),), service.journal.need(running).request.target))
    service.admission.admit(waiting)
    stopped = service.opening.open_merge(MergeRequest((account(),), account()))
    service.admission.admit(stopped)
    service.switch.pause("", "ops", "test")
    service.merging.merge_table(stopped, CC)
    service.switch.resume("", "ops")
    nobody = uuid.uuid4()
    items = replay(service, requested, running, waiting, stopped, nobody, requested)
    assert [(i["code"], i["before"]) for i in items] == [
        ("NOT_FAILED", "requested"), ("NOT_FAILED", "running"), ("NOT_FAILED", "waiting"), ("RESUMED_BEFORE", "paused"),
        ("UNKNOWN_MERGE", None)]  # fmt: skip
    assert all(item["note"] and item["before"] == item["after"] for item in items)


def test_failed_merges_of_one_account_go_on_one_after_another(service):
    """They failed before they had their accounts: whoever overtakes would make the other fail again."""
    target = account()
    ids = [failed(service, target=target) for _ in range(3)]
    assert [item["code"] for item in replay(service)] == ["RESUMED"] * 3
    for number, merge_id in enumerate(ids):
        assert started(service) == [f"merge__{merge_id}__2"], number
        late = service.opening.open_merge(MergeRequest((account(),), target)) if number == 2 else None
        assert started(service) == []
        assert service.admission.admit(merge_id, f"merge__{merge_id}__2")["proceed"]
        assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert started(service) == [f"merge__{late}__1"]


def test_a_replayed_merge_waits_for_the_account_that_another_took_meanwhile(service):
    target = account()
    merge_id = failed(service, target=target)
    other = service.opening.open_merge(MergeRequest((account(),), target))
    service.admission.admit(other, "by-hand")
    assert one(service, merge_id)[0] == "RESUMED"
    assert started(service) == []
    service.failures.fail(other, "by-hand", "killed")  # it keeps its accounts
    assert started(service) == []
    assert run_merge(service, other, publish=False)["state"] == "completed"
    assert started(service) == [f"merge__{merge_id}__2"]


def test_the_end_of_an_older_run_does_not_fail_a_merge_that_goes_on(service):
    merge_id = failed(service)
    assert one(service, merge_id)[0] == "RESUMED"
    (run,) = started(service)
    service.admission.admit(merge_id, run)
    service.failures.fail(merge_id, f"merge__{merge_id}__1", "a task of the first run timed out")
    assert service.journal.need(merge_id).state == "running"
    with pytest.raises(InvalidRequest, match="RUN_REPLACED"):  # cleared, it does not come between
        service.admission.admit(merge_id, f"merge__{merge_id}__1")
    # Once the newer one has failed, the older run is the one that counts again.
    service.failures.fail(merge_id, run, "killed")
    service.admission.admit(merge_id, f"merge__{merge_id}__1")
    service.failures.fail(merge_id, run, "its last task ended late")
    assert service.journal.need(merge_id).state == "running"
    service.failures.fail(merge_id, f"merge__{merge_id}__1", "killed")
    assert service.journal.need(merge_id).state == "failed"


def test_a_search_finds_by_code_account_and_time_oldest_first(service):
    claim(service, b"{not json")
    report(service)
    source = account()
    ids = [service.journal.find("state", "refused")[0].merge_id, failed(service, source=source), failed(service)]

    def found(**search):
        return [m.merge_id for m in service.replays.find(FailedMergeFilter.of(**search))]

    assert found() == ids
    assert found(limit=2) == ids[:2]
    assert found(kinds=["refused"]) == ids[:1]
    assert found(kinds=["undeliverable"]) == []
    assert found(codes=["EVENT_NOT_JSON", "OTHER"]) == ids[:1]
    assert found(codes=["RUN_FAILED"]) == ids[1:]
    assert found(account=source) == ids[1:2]
    second = service.journal.need(ids[1]).state_at
    assert found(since=second.isoformat() + "Z") == ids[1:]
    assert found(until=second.isoformat() + "Z") == ids[:1]
    assert found(since=(now() + timedelta(hours=1)).isoformat() + "+00:00") == []
    replay(service, ids[1])
    assert found() == [ids[0], ids[2]]  # what goes on by itself needs nobody


@pytest.mark.parametrize("search", [{"kinds": ["completed"]}, {"limit": 1001}, {"limit": -1}, {"since": "yesterday"},
                                    {"merge_ids": ["x"]}])  # fmt: skip
def test_a_search_that_cannot_be_read_is_refused(search):
    with pytest.raises(InvalidRequest, match="BAD_"):
        FailedMergeFilter.of(**search)


def foreign(raw):
    """The failed event of another job or of another installation."""
    return json.dumps(json.loads(raw) | {"jobName": "user-account-merger", "failInfo": {"error": "died"}}).encode()


def test_a_failed_event_on_the_merge_topic_is_a_merge_event_like_any(service):
    raw = event(account(), account(), "m1")
    assert claim(service, foreign(raw)) == {"claimed": 1, "repeated": 0, "refused": 0, "ignored": 0}
    # One of ours names a merge that is known: replaying it is what moves it.
    assert claim(service, raw)["repeated"] == 1


def test_a_failed_event_merges_by_command_line(
    session, keyspace, service, own_environment, monkeypatch, capsys, tmp_path
):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    for name, value in own_environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "failed.jsonl").write_bytes(foreign(event(source, target, "m1")) + b"\n")
    assert main(["merge", "--events", str(tmp_path / "failed.jsonl"), "--no-publish"]) == 0
    assert rows(session, keyspace, CC, target)[0]["viewcount"] == 3


def test_the_commands_list_and_replay(service, own_environment, monkeypatch, capsys, tmp_path):
    for name, value in (own_environment | {"USER": "ops"}).items():
        monkeypatch.setenv(name, value)

    def command(*words):
        status = main(words)
        return status, capsys.readouterr()

    claim(service, b"{not json")
    report(service)
    (bad,) = service.journal.find("state", "refused")
    merge_id = failed(service)
    status, shown = command("failed", "--json")
    assert status == 0
    assert [json.loads(line)["merge_id"] for line in shown.out.splitlines()] == [str(bad.merge_id), str(merge_id)]
    words = command("failed", "--state", "refused")[1].out
    assert f"{bad.merge_id} refused EVENT_NOT_JSON" in words
    assert bad.remedy in words
    assert command("replay")[0] == 2  # everything is never replayed by a slip
    assert command("replay", "--state", "failed", "--dry-run")[0] == 0
    assert service.journal.need(merge_id).resume is None
    status, shown = command("replay", str(merge_id), "--reason", "repaired")
    assert status == 0
    assert f"{merge_id} failed RESUMED: the next poll starts run 2" in shown.out
    assert service.journal.need(merge_id).resume == "wanted"
    status, shown = command("replay", str(merge_id), "--json")
    assert (status, json.loads(shown.out)["items"][0]["code"]) == (1, "RESUMED_BEFORE")
    corrected = tmp_path / "corrected.json"
    corrected.write_text(json.dumps({str(bad.merge_id): json.loads(event(account(), account(), "m1"))}))
    assert command("replay", "--corrected", str(corrected))[0] == 0
    assert len(started(service)) == 2
    assert command("replay", "--corrected", str(tmp_path / "absent.json"))[0] == 2


def test_a_server_that_is_away_is_no_answer(service):
    away = service.settings.replace(journal_url="postgresql://postgres@127.0.0.1:1/nowhere")
    with Service(away) as other, pytest.raises(TransientError):
        replay(other, uuid.uuid4())


def test_the_tenant_of_a_corrected_event_counts(service):
    claim(service, b"{not json")
    report(service)
    (bad,) = service.journal.find("state", "refused")
    right = event(account(), account()).replace(b'"edata": {', b'"edata": {"rootOrgId": "org-1", ')
    assert parse(right, service.settings).tenant == "org-1"
    service.switch.pause("org-1", "ops", "test")
    replay(service, corrected={str(bad.merge_id): right.decode()})
    assert started(service) == []
    service.switch.resume("org-1", "ops")
    assert len(started(service)) == 1
