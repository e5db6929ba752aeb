"""The kill switch on a real journal: merges stop between two entries, nothing starts, and all goes on by itself."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from account_merge.cli.main import main, run_merge
from account_merge.errors import InvalidRequest, NeedsAttention, TransientError
from account_merge.lifecycle import liveness as alive
from account_merge.merge_ids import request_id
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.sunbird.events import parse
from account_merge.sunbird.store import Store
from tests.learners import account, event, lesson, put, rows

CC = "user_content_consumption"
LESSONS = 350


@pytest.fixture
def service(own_world):
    """Empty journal, no switch on."""
    return own_world()


@pytest.fixture
def pair(session, keyspace):
    source, target = account(), account()
    for number in range(LESSONS):
        put(session, keyspace, CC, lesson(source, f"L{number:04d}", viewcount=2))
        put(session, keyspace, CC, lesson(target, f"L{number:04d}", viewcount=1))
    return source, target


def moved(session, keyspace, target):
    return sum(row["viewcount"] == 3 for row in rows(session, keyspace, CC, target))


def after_write(monkeypatch, number, act):
    """Acts once, right after the merge's own `number`th write."""
    original, calls = Store.write, []

    def write(self, *arguments, **named):
        original(self, *arguments, **named)
        calls.append(1)
        if len(calls) == number:
            act()

    monkeypatch.setattr(Store, "write", write)


def from_elsewhere(service, what, tenant="", reason="a course is being restored"):
    """Turns the switch over a connection of its own, as another process does."""
    with Service(service.settings) as other:
        return getattr(other.switch, what)(tenant, "ops", reason)


def opened(service, source, target, tenant="", **more):
    return service.opening.open_merge(MergeRequest((source,), target, tenant=tenant, **more))


def of_tenant(source, target, tenant):
    return event(source, target).replace(b'"edata": {', b'"edata": {"rootOrgId": "' + tenant.encode() + b'", ')


def test_a_running_merge_stops_at_its_next_entry_and_goes_on_where_it_stopped(
    session, keyspace, service, pair, monkeypatch
):
    source, target = pair
    merge_id = opened(service, source, target, tables=(CC,))
    assert service.admission.admit(merge_id)["proceed"]
    after_write(monkeypatch, 2, lambda: from_elsewhere(service, "pause"))
    answer = service.merging.merge_table(merge_id, CC)
    assert (answer["state"], answer["proceed"]) == ("paused", False)
    assert "ops stopped all merging" in answer["note"]
    assert "a course is being restored" in answer["note"]
    assert moved(session, keyspace, target) == 200
    merge = service.journal.need(merge_id)
    assert (merge.state, merge.note, merge.failed_event, merge.error_code) == ("paused", answer["note"], "none", None)
    assert service.journal.holder(source).merge_id == service.journal.holder(target).merge_id == merge_id
    assert service.failures.sweep(lambda run: "success") == {"sent": 0, "pending": 0}

    # While it is on nothing moves it: neither the poll nor a cleared task.
    assert service.inbox.next_runs(lambda run: None) == []
    assert service.inbox.has_work()["due"] == 0
    assert service.admission.admit(merge_id)["proceed"] is False
    assert service.merging.merge_table(merge_id, CC)["proceed"] is False
    assert service.merging.publish_sync(merge_id)["sent"] == 0
    assert service.journal.need(merge_id).state == "paused"
    assert moved(session, keyspace, target) == 200

    # Off, only `admit` of a run that the poll starts moves it on.
    from_elsewhere(service, "resume")
    assert service.merging.merge_table(merge_id, CC)["proceed"] is False
    assert service.inbox.has_work()["due"] == 1
    chosen = service.inbox.next_runs(lambda run: None)
    assert [c["trigger_run_id"] for c in chosen] == [f"merge__{merge_id}__2"]
    assert chosen[0]["conf"] == {"merge_id": str(merge_id), "source_accounts": [source], "target_account": target}
    assert service.inbox.next_runs(lambda run: None) == []
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert moved(session, keyspace, target) == LESSONS
    done = service.journal.need(merge_id)
    assert (done.note, done.resume) == (None, None)
    assert service.inbox.next_runs(lambda run: None) == []


def test_nothing_is_started_while_events_are_still_claimed(service):
    by_hand = opened(service, account(), account())
    opened(service, account(), account(), tenant="org-1")
    assert from_elsewhere(service, "pause")["changed"]
    source, target = account(), account()
    service.publisher.publish([(service.settings.merge_topic, None, event(source, target, "m1"))])
    assert service.inbox.claim()["claimed"] == 1
    assert service.inbox.has_work() == {"lag": 0, "due": 0}
    assert service.inbox.next_runs(lambda run: None) == []
    answer = run_merge(service, by_hand, publish=False)
    assert answer["state"] == "requested"
    assert "stopped all merging" in answer["note"]
    assert not service.journal.known(source)
    from_elsewhere(service, "resume")
    assert len(service.inbox.next_runs(lambda run: None)) == 3


def test_a_run_that_was_queued_when_the_switch_was_turned_gives_its_merge_back(service):
    merge_id = opened(service, account(), account())
    service.inbox.next_runs(lambda run: None)
    from_elsewhere(service, "pause")
    answer = service.admission.admit(merge_id, f"merge__{merge_id}__1")
    assert (answer["proceed"], answer["state"]) == (False, "requested")
    from_elsewhere(service, "resume")
    assert service.inbox.next_runs(lambda run: "success")[0]["trigger_run_id"] == f"merge__{merge_id}__2"


def test_a_tenant_s_switch_stops_that_tenant_s_merges_only(session, keyspace, service):
    merges = {}
    for tenant in ("org-1", "org-2", ""):
        source, target = account(), account()
        put(session, keyspace, CC, lesson(source, viewcount=2))
        raw = of_tenant(source, target, tenant) if tenant else event(source, target)
        assert parse(raw, service.settings).tenant == tenant
        service.publisher.publish([(service.settings.merge_topic, None, raw)])
        service.inbox.claim()
        merges[tenant] = service.journal.find("accounts", source)[0]
        assert merges[tenant].request.tenant == tenant
    from_elsewhere(service, "pause", "org-1")
    assert service.inbox.has_work()["due"] == 1
    started = {c["merge_id"] for c in service.inbox.next_runs(lambda run: None)}
    assert started == {str(merges["org-2"].merge_id), str(merges[""].merge_id)}
    for tenant, state in (("org-1", "requested"), ("org-2", "completed"), ("", "completed")):
        assert run_merge(service, merges[tenant].merge_id, publish=False)["state"] == state
    # The switch for all is another one.
    assert from_elsewhere(service, "resume")["changed"] is False
    assert service.inbox.next_runs(lambda run: None) == []
    assert from_elsewhere(service, "resume", "org-1")["changed"]
    assert [c["merge_id"] for c in service.inbox.next_runs(lambda run: None)] == [str(merges["org-1"].merge_id)]


def test_a_stopped_tenant_s_backlog_does_not_hide_the_others(service):
    for _ in range(5):
        opened(service, account(), account(), tenant="org-1")
    other = opened(service, account(), account(), tenant="org-2")
    assert {m.merge_id for m in service.journal.find("state", "requested", limit=1, but={"org-1"})} == {other}


def test_sync_events_wait_too(session, keyspace, service, pair):
    merge_id = opened(service, *pair, tables=(CC,))
    service.admission.admit(merge_id)
    service.merging.merge_table(merge_id, CC)
    from_elsewhere(service, "pause")
    answer = service.merging.publish_sync(merge_id)
    assert (answer["state"], answer["sent"], answer["proceed"]) == ("paused", 0, False)
    from_elsewhere(service, "resume")
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"


def test_a_completed_merge_may_be_cleared_while_the_switch_is_on(session, keyspace, service, pair):
    merge_id = opened(service, *pair, tables=(CC,))
    run_merge(service, merge_id, publish=False)
    from_elsewhere(service, "pause")
    assert service.admission.admit(merge_id)["state"] == "completed"
    assert service.merging.merge_table(merge_id, CC)["changed"] == LESSONS
    assert service.journal.need(merge_id).state == "completed"


def test_a_failed_merge_that_is_cleared_while_the_switch_is_on_goes_on_afterwards(service):
    merge_id = opened(service, account(), account())
    service.inbox.next_runs(lambda run: None)
    service.failures.fail(merge_id, f"merge__{merge_id}__1", "killed")
    from_elsewhere(service, "pause")
    assert service.merging.merge_table(merge_id, CC)["proceed"] is False
    assert service.journal.need(merge_id).state == "failed"
    from_elsewhere(service, "resume")
    assert [c["trigger_run_id"] for c in service.inbox.next_runs(lambda run: "failed")] == [f"merge__{merge_id}__2"]


def paused(service, pair):
    merge_id = opened(service, *pair, tables=(CC,))
    service.admission.admit(merge_id, "by-hand")
    from_elsewhere(service, "pause")
    service.merging.merge_table(merge_id, CC)
    from_elsewhere(service, "resume")
    assert service.journal.need(merge_id).state == "paused"
    return merge_id


def test_a_resuming_run_that_vanished_is_started_again(service, pair, monkeypatch):
    merge_id = paused(service, pair)
    run = service.inbox.next_runs(lambda run: None)[0]["trigger_run_id"]
    assert service.inbox.next_runs(lambda run: None) == []  # it may still be on its way
    monkeypatch.setitem(alive.GRACE, "started", timedelta(0))
    assert service.inbox.next_runs(lambda run: "queued") == []
    again = service.inbox.next_runs(lambda run: None)[0]["trigger_run_id"]
    assert (run, again) == (f"merge__{merge_id}__2", f"merge__{merge_id}__3")


def test_a_resuming_run_that_fails_before_admission_has_its_failed_event(service, pair):
    merge_id = paused(service, pair)
    run = service.inbox.next_runs(lambda run: None)[0]["trigger_run_id"]
    assert service.failures.fail(merge_id, "by-hand", "an older run")["failed_event"] == "none"
    assert service.failures.sweep(lambda name: "failed" if name == run else "success") == {"sent": 1, "pending": 0}
    merge = service.journal.need(merge_id)
    assert (merge.state, merge.error_code, merge.failed_number, merge.resume) == ("failed", "RUN_FAILED", 1, None)
    assert service.inbox.next_runs(lambda run: "failed") == []  # a failed merge waits for a person


def test_who_overtakes_a_merge_that_resumes_waits_for_it(service, pair):
    source, target = pair
    merge_id = paused(service, pair)
    service.inbox.next_runs(lambda run: None)
    second = opened(service, account(), target)
    assert service.inbox.next_runs(lambda run: "queued") == []
    assert service.journal.need(second).state == "waiting"
    (waits,) = service.queries.status()["waiting"]
    assert waits.pop("since")
    assert waits == {"merge_id": str(second), "account": target, "holder": str(merge_id), "holder_state": "paused"}


def test_status_and_history_tell_who_stopped_what(service):
    with pytest.raises(InvalidRequest, match="NO_REASON"):
        service.switch.pause("", "ops", "  ")
    assert service.switch.pause("", "ops", "restore")["changed"] is True
    assert service.switch.pause("", "ops", "restore")["changed"] is False  # an outcome that was unknown may be repeated
    assert service.switch.pause("org-1", "ops", "audit")["changed"] is True
    opened(service, account(), account())
    status = service.queries.status()
    assert [(s["tenant"], s["by"], s["reason"]) for s in status["switches"]] == [
        ("", "ops", "restore"), ("org-1", "ops", "audit")]  # fmt: skip
    assert status["states"] == {"requested": 1}
    service.switch.resume("", "chief")
    assert [s["tenant"] for s in service.queries.status()["switches"]] == ["org-1"]
    assert [(h["what"], h["note"].split(" ")[0]) for h in service.switch.history()] == [
        ("on", "ops"), ("on", "ops"), ("off", "chief")]  # fmt: skip


def command(capsys, *words):
    """Runs a command as its user does; answers its exit status and what it printed."""
    status = main(words)
    return status, capsys.readouterr().out


def test_the_commands_stop_show_and_let_go(service, own_environment, monkeypatch, capsys, pair):
    for name, value in (own_environment | {"USER": "ops"}).items():
        monkeypatch.setenv(name, value)
    merge_id = opened(service, *pair)
    assert command(capsys, "pause", "--reason", "restore")[0] == 0
    status, shown = command(capsys, "status")
    assert status == 0
    assert "ops stopped all merging" in shown
    assert "1 requested" in shown
    assert command(capsys, "merge", "--go-on", str(merge_id), "--no-publish", "--json")[0] == 3
    assert json.loads(command(capsys, "pause", "--reason", "restore", "--json")[1])["changed"] is False
    assert "no merging is stopped" in command(capsys, "resume")[1]
    assert "nothing of the kind" in command(capsys, "resume", "--tenant", "org-1")[1]
    assert command(capsys, "merge", "--go-on", str(merge_id), "--no-publish", "--json")[0] == 0
    assert json.loads(command(capsys, "status", "--json")[1])["states"] == {"completed": 1}


def test_two_operators_at_once_lose_no_switch(service):
    from concurrent.futures import ThreadPoolExecutor

    tenants = [f"org-{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda tenant: service.switch.pause(tenant, "ops", "test")["changed"], tenants))
    assert sorted(service.switch.active()) == tenants


def test_a_merge_that_is_not_running_for_another_reason_still_says_so(service, pair, monkeypatch):
    """Only the switch ends a task quietly."""
    merge_id = opened(service, *pair, tables=(CC,))
    service.admission.admit(merge_id)

    def fail_it():
        merge = service.journal.need(merge_id)
        service.journal.move(merge, "failed")

    after_write(monkeypatch, 1, fail_it)
    with pytest.raises(NeedsAttention, match="NOT_RUNNING"):
        service.merging.merge_table(merge_id, CC)


def test_a_redo_merges_so_the_switch_stops_it_and_an_undo_stays_allowed(session, keyspace, service, pair, monkeypatch):
    source, target = pair
    merge_id = opened(service, source, target, tables=(CC,))
    run_merge(service, merge_id, publish=False)
    from_elsewhere(service, "pause")
    assert service.undoing.run(merge_id, publish=False)["state"] == "undone"
    with pytest.raises(InvalidRequest, match="STOPPED.*a course is being restored"):
        service.undoing.run(merge_id, "redo", publish=False)
    assert (service.journal.need(merge_id).state, moved(session, keyspace, target)) == ("undone", 0)
    from_elsewhere(service, "resume")
    with monkeypatch.context() as patch:
        after_write(patch, 2, lambda: from_elsewhere(service, "pause"))
        with pytest.raises(TransientError, match="STOPPED"):  # before the next entry, as a merge does
            service.undoing.run(merge_id, "redo", publish=False)
    assert moved(session, keyspace, target) == 200
    assert service.inbox.next_runs(lambda run: None) == []
    from_elsewhere(service, "resume")
    assert service.undoing.run(merge_id, "redo", publish=False)["state"] == "completed"
    assert moved(session, keyspace, target) == LESSONS


def test_settles_and_repairs_and_what_was_approved_wait_for_the_switch(session, keyspace, service, pair):
    source, target = pair
    merge_id = opened(service, source, target, tables=(CC,))
    run_merge(service, merge_id, publish=False)
    due = service.journal.need(merge_id)
    service.journal.change(due, settle_at=due.created_at)
    put(session, keyspace, CC, lesson(source, "L0000", viewcount=5))
    from_elsewhere(service, "pause")
    assert service.settling.run()["held"] == 1
    service.repairing.repair(merge_id, "ops", "views are missing")
    request = MergeRequest((account(),), account(), requested_by="one")
    proposed = request_id("run", request.sources, request.target)
    service.proposals.propose(request, proposed)
    service.proposals.approve(proposed, "two")
    assert service.inbox.next_runs(lambda run: None) == []
    assert moved(session, keyspace, target) == LESSONS
