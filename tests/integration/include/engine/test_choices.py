"""A person chose whose row stands: on a real Cassandra, undone exactly, never overruled by what mends the merge later."""

from __future__ import annotations

import itertools
import time
import uuid

import pytest

from account_merge.choices import SOURCE, TARGET, Choices, row_name
from account_merge.cli.main import run_merge
from account_merge.model import MergeRequest
from account_merge.sunbird.store import Store
from tests.integration.include.lifecycle.test_undo import everything, merge, pair, study, undo
from tests.learners import BATCH, COURSE, account, lesson, put, rows

CC, ENR, AGG = "user_content_consumption", "user_enrolments", "user_activity_agg"


@pytest.fixture
def service(shared_service):
    return shared_service


def run(service, merge_id):
    answer = run_merge(service, merge_id, publish=False)
    assert answer["state"] == "completed", answer
    return merge_id


def lesson_choice(choice, *names):
    return {row_name(CC, (COURSE, BATCH, name)): choice for name in names}


def lessons(session, keyspace, user):
    return {row["contentid"]: row for row in rows(session, keyspace, CC, user)}


def test_chosen_rows_stand_and_are_taken_back_exactly(session, keyspace, service):
    source, target = pair(session, keyspace)
    put(session, keyspace, CC, lesson(target, "L1", viewcount=9, status=1))
    before, mine = everything(session, keyspace, source, target), lessons(session, keyspace, target)
    choices = Choices({ENR: SOURCE}, lesson_choice(SOURCE, "L1") | lesson_choice(TARGET, "L2", "L3"))
    request = MergeRequest((source,), target, choices=choices)
    shown = {t["table"]: t["rows"] for t in service.previews.preview(request).to_dict()["tables"]}
    merge_id = merge(service, source, target, choices=choices)
    theirs, found = lessons(session, keyspace, source), lessons(session, keyspace, target)
    assert found["L1"] == theirs["L1"]
    assert "L2" not in found
    assert found["L3"] == mine["L3"]
    enrolled = {r["courseid"]: r for r in rows(session, keyspace, ENR, target)}
    (wanted,) = (r for r in rows(session, keyspace, ENR, source) if r["courseid"] == COURSE)
    assert {k: enrolled[COURSE][k] for k in wanted} == wanted
    assert "bare" in enrolled  # only what both accounts have was to be chosen
    report = service.reader.report(merge_id).to_dict()
    done = {t["table"]: t["rows"] for t in report["tables"]}
    assert {r["key"]["contentid"]: r["choice"] for r in done[CC] if r["key"]["courseid"] == COURSE} == {
        "L1": "source", "L2": "target", "L3": "target",
    }  # fmt: skip
    for table, there in done.items():
        assert [(r["key"], r["after"]) for r in there] == [(r["key"], r["after"]) for r in shown[table]]
    assert list(service.audit.differences(merge_id)) == []
    after = everything(session, keyspace, source, target)
    undo(service, merge_id)
    assert everything(session, keyspace, source, target) == before
    undo(service, merge_id, "redo")
    assert everything(session, keyspace, source, target) == after


def test_the_journal_knows_no_key_of_a_choice(session, keyspace, service):
    source, target = pair(session, keyspace)
    merge_id = merge(service, source, target, choices=Choices({}, lesson_choice(TARGET, "L1")))
    kept = service.journal.need(merge_id).request.choices
    assert list(kept.rows.values()) == [TARGET]
    assert COURSE not in kept.to_text()
    assert "L1" not in lessons(session, keyspace, target)


@pytest.mark.parametrize("again", ["settle", "repair"])
def test_what_mends_a_merge_keeps_to_its_choices(session, keyspace, service, again):
    source, target = pair(session, keyspace)
    choices = Choices({}, lesson_choice(SOURCE, "L3") | lesson_choice(TARGET, "L1"))
    merge_id = merge(service, source, target, choices=choices)
    put(session, keyspace, CC, lesson(source, "L3", viewcount=8))  # it had 3
    put(session, keyspace, CC, lesson(target, "L3", viewcount=4))  # after the choice it has 3
    put(session, keyspace, CC, lesson(source, "L9", viewcount=1))
    opened = service.settling._open(service.journal.need(merge_id)) if again == "settle" else _repair(service, merge_id)
    run(service, opened)
    found = lessons(session, keyspace, target)
    assert found["L3"]["viewcount"] == 4 + (8 - 3)
    assert found["L9"]["viewcount"] == 1
    assert "L1" not in found


def _repair(service, merge_id):
    return uuid.UUID(service.repairing.repair(merge_id, "test", "more came")["merge_id"])


@pytest.mark.parametrize(("first", "gone"), list(itertools.product(("chosen", "other"), repeat=2)))
def test_of_two_merges_either_is_undone_as_if_it_had_never_been(session, keyspace, service, first, gone):
    chosen, other, target, alone = (account() for _ in range(4))
    for user in (target, alone):
        study(session, keyspace, user, ["L3", "L4"], views=2, certificate="c2", score=5.0)
    study(session, keyspace, chosen, ["L1", "L3"], views=9, certificate="c1", score=7.0)
    study(session, keyspace, other, ["L2", "L3"], views=4, certificate="c3", score=6.0)
    choices = {"chosen": Choices({table: SOURCE for table in (CC, ENR, AGG)}), "other": Choices()}
    accounts = {"chosen": chosen, "other": other}
    order = (first, "other" if first == "chosen" else "chosen")
    done = {name: merge(service, accounts[name], target, choices=choices[name]) for name in order}
    undo(service, done[gone])
    stays = "other" if gone == "chosen" else "chosen"
    twin = account()
    views, certificate, score, names = (
        (9, "c1", 7.0, ["L1", "L3"]) if stays == "chosen" else (4, "c3", 6.0, ["L2", "L3"])
    )
    study(session, keyspace, twin, names, views=views, certificate=certificate, score=score)
    merge(service, twin, alone, choices=choices[stays])

    def views_of(user):
        return {name: row["viewcount"] for name, row in lessons(session, keyspace, user).items()}

    def enrolled(user):
        return [{k: v for k, v in row.items() if k != "addedby"} for row in rows(session, keyspace, ENR, user)]

    assert views_of(target) == views_of(alone)
    assert enrolled(target) == enrolled(alone)


@pytest.mark.parametrize(("theirs", "mine"), [(9, 5), (3, 5)])
def test_a_platform_write_that_had_not_seen_the_choice_goes_on_from_it(
    session, keyspace, service, monkeypatch, theirs, mine
):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=theirs, status=1))
    put(session, keyspace, CC, lesson(target, viewcount=mine, status=2))
    original, done = Store.write, []

    def straddled(self, *arguments, **named):
        original(self, *arguments, **named)
        if not done:
            done.append(1)
            stamp = int((time.time() + 0.5) * 1e6)
            put(session, keyspace, CC, lesson(target, viewcount=mine + 1), timestamp=stamp)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", straddled)
        merge_id = merge(service, source, target, choices=Choices({CC: SOURCE}))
    (row,) = lessons(session, keyspace, target).values()
    assert row["viewcount"] == theirs + 1
    undo(service, merge_id)
    (row,) = lessons(session, keyspace, target).values()
    assert row["viewcount"] == mine + 1
    assert row["status"] == 2
