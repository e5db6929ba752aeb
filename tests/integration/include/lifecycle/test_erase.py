"""Erasure: nothing of a person is left in the journal but hashes and the record of the act; nothing is counted twice."""

from __future__ import annotations

import io
import json
import threading
import time
import uuid

import pytest

from account_merge.cli.main import main, run_merge
from account_merge.errors import InvalidRequest
from account_merge.journal.identity import ERASED
from account_merge.model import MergeRequest
from account_merge.service import Service
from tests.integration.include.lifecycle.test_expiry import CC, ENR, TABLES, dying, merge, study, views
from tests.journal_sql import journal_text
from tests.learners import account, event, lesson, put, rows


@pytest.fixture
def service(shared_service):
    return shared_service


def merged_by_event(service, source, target):
    raw, merge_id = event(source, target, mid=f"LP.{source}"), uuid.uuid4()
    request = MergeRequest((source,), target, TABLES, origin="event", mid=f"LP.{source}", raw=raw)
    service.opening.open_merge(request, merge_id)
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    return merge_id


def test_nothing_of_a_person_is_left_and_nothing_is_counted_twice(session, keyspace, service):
    a, b, target, stranger = account(), account(), account(), account()
    study(session, keyspace, a, ["Lesson-erased-1", "Lesson-erased-2"], views=3)
    study(session, keyspace, b, ["Lesson-erased-3"], views=2)
    study(session, keyspace, target, ["Lesson-erased-3"], views=1)
    study(session, keyspace, stranger, ["Lesson-of-a-stranger"], views=1)
    one = merged_by_event(service, a, b)
    two = merge(service, b, target, reason=f"{b} called", source_rows="deactivate", requested_by=b)
    undone = merge(service, stranger, target, source_rows="deactivate")  # by mistake: another person
    service.undoing.run(undone, publish=False)
    refused = uuid.uuid4()
    service.journal.open(refused, MergeRequest((), "", origin="event", raw=event(a, "").replace(b"-", b"\\u002d")),
                         "t/0/1", "refused", InvalidRequest("EMPTY", "is empty", ""))  # fmt: skip
    service.journal.change(service.journal.need(refused), failed_event="sent")
    before = {user: views(session, keyspace, user) for user in (a, b, target)}

    preview = service.erasure.erase(a, "operator", "", dry_run=True)
    assert set(preview["account_ids"]) == {a, b, target}
    assert set(preview["merges"]) == {str(m) for m in (one, two, undone, refused)}
    assert service.journal.need(one).state == "completed"
    answer = service.erasure.erase(a, "the officer", "request 4711", dry_run=False)
    assert len(answer["merges"]) == 4

    text = journal_text(service)
    for word in (a, b, target, a.replace("-", "\\u002d"), "Lesson-erased", f"cert-{a}", f"cert-{b}", f"LP.{a}",
                 "called"):  # fmt: skip
        assert word not in text, word
    told = [item for item in service.erasure.history() if "4711" in item["note"]]
    assert [item["what"] for item in told] == ["begun", "erased"]
    assert "the officer erased 4 merges of 3 accounts" in told[1]["note"]
    for merge_id, former in ((one, "completed"), (two, "completed"), (undone, "undone"), (refused, "refused")):
        found = service.journal.need(merge_id)
        assert (found.state, found.former, found.expiry) == ("erased", former, "done")
        assert {d.kind for d in service.audit.differences(merge_id)} <= {"expired"}
    assert service.reader.report(one).to_dict()["source_accounts"][0].startswith(ERASED)
    assert {m.merge_id for m in service.journal.of_account(a)} >= {one}
    assert not service.erasure.erase(a, "the officer", "request 4711", dry_run=False)["merges"]
    assert len(service.erasure.history()) == len({(i["at"], i["what"], i["note"]) for i in service.erasure.history()})

    # The learner's rows are as they were, and repeats know what was handed on.
    assert {user: views(session, keyspace, user) for user in (a, b, target)} == before
    # Into an account of which only the hash is known nothing can be merged; into that account itself, it can.
    blocked = service.opening.open_merge(MergeRequest((a,), b, TABLES))
    assert run_merge(service, blocked, publish=False)["error"]["code"] == "ERASED"
    service.journal.change(service.journal.need(blocked), failed_event="sent")
    assert service.journal.survivor(a, (target,)) == target
    # Nobody knows any more what an erased merge brought, but what it set inactive is known to have been active.
    session.execute(f"DELETE FROM {keyspace}.{ENR} WHERE userid = %s", [target])
    merge(service, b, target)
    assert rows(session, keyspace, ENR, target)[0]["active"] is True
    put(session, keyspace, CC, lesson(b, "Lesson-erased-3", viewcount=5))
    again = merge(service, b, target)
    assert views(session, keyspace, target) == before[target] | {"Lesson-erased-3": 6}
    service.undoing.run(again, publish=False)
    assert views(session, keyspace, target) == before[target]
    put(session, keyspace, CC, lesson(a, "Lesson-erased-1", viewcount=4))
    merge(service, a, target)
    assert views(session, keyspace, target)["Lesson-erased-1"] == 4

    # What came after the erasure is erased by the next one, from any of the accounts.
    assert set(service.erasure.erase(target, "", "")["account_ids"]) >= {a, b, target}
    service.erasure.erase(target, "the officer", "request 4712", dry_run=False)
    text = journal_text(service)
    for word in (a, b, target, "Lesson-erased"):
        assert word not in text, word
    merge(service, a, target)
    assert views(session, keyspace, target)["Lesson-erased-1"] == 4


def test_an_open_merge_is_put_right_first(session, keyspace, service):
    a, b, target = account(), account(), account()
    study(session, keyspace, a, ["L1"])
    merge_id = merge(service, a, target)
    waits = service.opening.open_merge(MergeRequest((b,), target, TABLES))
    with pytest.raises(InvalidRequest, match="STILL_OPEN") as refused:
        service.erasure.erase(a, "", "why", dry_run=False)
    assert str(waits) in refused.value.message
    assert "abandon" in refused.value.remedy
    assert service.journal.need(merge_id).expiry is None
    service.undoing.abandon(waits, "no")
    with pytest.raises(InvalidRequest, match="NO_REASON"):
        service.erasure.erase(a, "", " ", dry_run=False)
    service.erasure.erase(a, "", "why", dry_run=False)
    # It joined no accounts, since it never began; but it named one of them.
    assert (service.journal.need(waits).former, service.journal.known(b)) == ("abandoned", False)
    text = journal_text(service)
    assert b not in text


def test_what_is_asked_for_while_a_person_is_erased_is_not_left(session, keyspace, service, monkeypatch):
    source, target = account(), account()
    study(session, keyspace, source, ["L1"])
    merge_id = merge(service, source, target)
    expire, late = service.retention.expire, []

    def asking(found):
        expire(found)
        late.append(uuid.UUID(service.repairing.repair(merge_id, "operator", "more came")["merge_id"]))

    with monkeypatch.context() as patch:
        patch.setattr(service.retention, "expire", asking)
        with pytest.raises(InvalidRequest, match="STILL_OPEN") as refused:
            service.erasure.erase(source, "", "why", dry_run=False)
    assert str(late[0]) in refused.value.message
    run_merge(service, late[0], publish=False)
    service.erasure.erase(source, "", "why", dry_run=False)
    text = journal_text(service)
    assert source not in text
    assert target not in text
    with pytest.raises(InvalidRequest, match="CANNOT_REPAIR"):
        service.repairing.repair(merge_id, "operator", "more came")


def test_an_erasure_that_dies_at_any_request_is_finished_by_the_same_call(session, keyspace, service, monkeypatch):
    def learner():
        a, b, target = account(), account(), account()
        study(session, keyspace, a, [f"Lesson-{a}"], views=3)
        merge(service, a, b, source_rows="deactivate", tables=(ENR, CC))
        merge(service, b, target, tables=(CC,))
        return a, b, target

    a, *_ = learner()
    with monkeypatch.context() as patch:
        sent = dying(patch, 0, False)
        service.erasure.erase(a, "operator", "counted", dry_run=False)
        requests = len(sent)
    for number in (requests // 3, requests * 3 // 4, requests - 1):
        a, b, target = learner()
        with monkeypatch.context() as patch:
            dying(patch, number, after=number % 2 == 0)
            with pytest.raises(KeyboardInterrupt):
                service.erasure.erase(a, "operator", f"dies {number} {a[:8]}", dry_run=False)
        assert service.journal.survivor(a, (b, target)) == target
        service.erasure.erase(a, "operator", f"dies {number} {a[:8]}", dry_run=False)
        text = journal_text(service)
        for word in (a, b, target):
            assert word not in text, (number, word)
        kinds = [i["what"] for i in service.erasure.history() if a[:8] in i["note"]]
        assert kinds[-1] == "erased"
        merge(service, a, target, tables=(CC,))
        assert views(session, keyspace, target) == {f"Lesson-{a}": 3}


def test_a_merge_that_comes_while_an_account_is_erased_loses_nothing(service, monkeypatch):
    source, target = account(), account()
    merge_id, other = merge(service, source, target), account()
    journal = service.journal
    later = service.opening.open_merge(MergeRequest((target,), other, TABLES))
    known, ran = type(journal).known, []

    def run() -> None:
        with Service(service.settings) as second:
            ran.append(run_merge(second, later, publish=False)["state"])

    def waits_for_the_erasure(self, name):
        """The erasure has the account's row by now: the merge begins, and gets the row when the erasure ends."""
        if not ran and not threads:
            threads.append(threading.Thread(target=run))
            threads[0].start()
            time.sleep(0.5)
            assert not ran
        return known(self, name)

    threads = []
    with monkeypatch.context() as patch:
        patch.setattr(type(journal), "known", waits_for_the_erasure)
        assert journal.erase_account(target) is None
        threads[0].join(60)
    assert ran == ["completed"]
    assert not journal.known(target)
    assert (journal.merges_into(target), journal.gave(target)) == ((merge_id,), {later})
    assert journal.survivor(target, (other,)) == other


def test_the_command_shows_first_and_keeps_the_record(session, keyspace, service, shared_environment, monkeypatch):
    source, target = account(), account()
    study(session, keyspace, source, ["L1"])
    merge_id = merge(service, source, target)
    for name, value in shared_environment.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    assert main(["erase", source, "--dry-run"], out) == 0
    assert f"account {target}" in out.getvalue()
    assert main(["erase", source], out) == 2
    assert main(["erase", source, "--by", "officer", "--reason", "case 7", "--json"], out) == 0
    assert json.loads(out.getvalue().splitlines()[-1])["merges"] == [str(merge_id)]
    out = io.StringIO()
    assert main(["erase"], out) == 0
    assert "officer erased 1 merges of 2 accounts: case 7" in out.getvalue()
    assert main(["show", str(merge_id)], out) == 0
    assert "erased; it was completed" in out.getvalue()
    assert main(["list", "--account", source, "--json"], out) == 0
    assert str(merge_id) in out.getvalue().splitlines()[-1]
