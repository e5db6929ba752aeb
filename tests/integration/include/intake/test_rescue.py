"""What the retired job spoiled is mended, and adds nothing twice; what it never did is found. On a real Cassandra."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from account_merge.cli.main import main, run_merge
from account_merge.failed_search import FailedMergeFilter
from account_merge.intake.rescue import RescueOptions
from account_merge.journal.merges import Merges
from account_merge.model import MergeRequest
from account_merge.planning.seeding import WORDS
from account_merge.service import Service
from account_merge.sunbird.events import merge_id_for
from local import cql
from tests.learners import BATCH, COURSE, account, aggregate, enrolment, lesson, moment, put, rows
from tests.old_job import old_job

CC, ENR, AGG, ATT = "user_content_consumption", "user_enrolments", "user_activity_agg", "assessment_aggregator"
BEFORE, ASKED, DONE, LATER = (
    int(moment(f"2022-0{n}-01T00:00:00Z").replace(tzinfo=UTC).timestamp()) for n in (1, 3, 4, 5)
)
CUTOVER = datetime(2023, 1, 1, tzinfo=UTC)
UNITS = ("U1", "U2")


@pytest.fixture
def service(shared_service, tmp_path):
    """A site that has cut over, and whose units are found by a list."""
    parts = tmp_path / "hierarchy.json"
    parts.write_text(json.dumps({course: [f"{course}-{u}" for u in UNITS] for course in (COURSE, "C2", "C3")}))
    with Service(shared_service.settings.replace(cutover=CUTOVER, course_hierarchy=str(parts))) as found:
        yield found


def event(source, target, ets=ASKED * 1000, mid=None):
    edata = {"action": "merge-user-courses-and-cert", "fromAccountId": source, "toAccountId": target}
    return {"eid": "BE_JOB_REQUEST", "ets": ets, "mid": mid or f"{ets}.{uuid.uuid4()}", "edata": edata}


def rescue(service, *lines, dry_run=False, **options):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    told = []
    answer = service.rescue.run(
        io.BytesIO(text.encode()), told=told.append, options=RescueOptions(dry_run=dry_run, by="ops", **options)
    )
    assert sum(answer["codes"].values()) >= len(told)
    return told, answer


def rescued(service, line, **options):
    """One line rescued to its end."""
    (item,), _ = rescue(service, line, **options)
    assert item["code"] == "OPENED"
    merge_id = uuid.UUID(item["merge_id"])
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    return merge_id


def attempt(user, content, name, score, out_of=10.0, course=COURSE):
    return {"course_id": course, "batch_id": BATCH, "user_id": user, "content_id": content, "attempt_id": name,
            "total_score": score, "total_max_score": out_of, "last_attempted_on": moment("2021-12-01T00:00:00Z")}  # fmt: skip


def study(session, keyspace, user, course, finished, began, scores, cert=None, unit=None, views=None):
    """An account's rows of one course, sound as the platform leaves them."""

    def add(table, row):
        put(session, keyspace, table, row, BEFORE * 1_000_000)

    views = views or {}
    for content in (*finished, *began):
        done = content in finished
        add(CC, lesson(user, content, status=2 if done else 1, progress=100 if done else 40,
                       viewcount=views.get(content, 2), completedcount=int(done)) | {"courseid": course})  # fmt: skip
    numbers = {"completedCount": float(len(finished))}
    for content, results in scores.items():
        for number, score in enumerate(results):
            add(ATT, attempt(user, content, f"{user}-{content}-{number}", score, course=course))
        numbers |= {f"score:{content}": max(results), f"max_score:{content}": 10.0,
                    f"attempts_count:{content}": float(len(results))}  # fmt: skip
    add(AGG, aggregate(user, aggregates=numbers) | {"activity_id": course})
    for name, count in (unit or {}).items():
        add(AGG, aggregate(user, aggregates={"completedCount": float(count)}) | {"activity_id": f"{course}-{name}"})
    status = dict.fromkeys(finished, 2) | dict.fromkeys(began, 1)
    certificates = (
        {"issued_certificates": [{"identifier": cert, "name": "c", "lastIssuedOn": "2021-12-02"}]} if cert else {}
    )
    add(ENR, enrolment(user, status=2 if cert else 1, progress=len(finished), contentstatus=status, active=True,
                       enrolled_date=moment("2021-11-01T00:00:00Z"), **certificates) | {"courseid": course})  # fmt: skip


def numbers(session, keyspace, user, activity=COURSE):
    """The numbers that the platform reads of one activity."""
    found = [r for r in rows(session, keyspace, AGG, user) if r["activity_id"] == activity]
    return found[0]["aggregates"] if found else None


def views(session, keyspace, user):
    return {
        (r["courseid"], r["contentid"]): (r["viewcount"], r["completedcount"])
        for r in rows(session, keyspace, CC, user)
    }


def spoiled(session, keyspace):
    """A pair after the retired job: both in one course, the source alone in another."""
    source, target = account(), account()
    study(session, keyspace, source, COURSE, ["L1", "L2"], ["L4"], {"Q": [8.0, 3.0]}, "cert-s", {"U1": 2, "U2": 3})
    study(session, keyspace, source, "C2", ["M1"], [], {"P": [6.0]}, "cert-2", {"U1": 1})
    study(session, keyspace, target, COURSE, ["L3"], ["L1"], {"Q": [5.0], "R": [7.0]}, "cert-t", {"U2": 1}, {"L1": 5})
    study(session, keyspace, target, "C3", ["N1"], [], {"O": [4.0]})
    old_job(session, keyspace, source, target, DONE * 1_000_000)
    assert numbers(session, keyspace, target) == {"completedCount": 2.0}
    assert views(session, keyspace, target)[COURSE, "L1"] == (7, 1)
    return source, target


def certificates(session, keyspace, user):
    return {
        r["courseid"]: {c["identifier"] for c in r.get("issued_certificates", [])}
        for r in rows(session, keyspace, ENR, user)
    }


def test_what_the_retired_job_lost_is_mended_and_its_totals_stay(session, keyspace, service):
    source, target = spoiled(session, keyspace)
    untouched = {table: rows(session, keyspace, table, source) for table in (CC, ENR, AGG, ATT)}
    spoilt = {table: rows(session, keyspace, table, target) for table in (CC, ENR, AGG, ATT)}
    totals = views(session, keyspace, target)
    merge_id = rescued(service, event(source, target))

    assert views(session, keyspace, target) == totals
    assert numbers(session, keyspace, target) == {
        "completedCount": 3.0, "score:Q": 8.0, "max_score:Q": 10.0, "attempts_count:Q": 3.0,
        "score:R": 7.0, "max_score:R": 10.0, "attempts_count:R": 1.0,
    }  # fmt: skip
    assert numbers(session, keyspace, target, "C2")["score:P"] == 6.0
    assert numbers(session, keyspace, target, f"{COURSE}-U1") == {"completedCount": 2.0}
    assert numbers(session, keyspace, target, f"{COURSE}-U2") == {"completedCount": 3.0}
    assert numbers(session, keyspace, target, "C2-U1") == {"completedCount": 1.0}
    assert certificates(session, keyspace, target) == {COURSE: {"cert-s", "cert-t"}, "C2": {"cert-2"}, "C3": set()}
    (both,) = [r for r in rows(session, keyspace, ENR, target) if r["courseid"] == COURSE]
    assert (both["status"], both["progress"]) == (2, 3)
    assert len(rows(session, keyspace, ATT, target)) == 6
    assert {table: rows(session, keyspace, table, source) for table in untouched} == untouched

    head = service.reader.report(merge_id).head()
    assert (head["seeded"], head["dated"], head["origin"]) == (True, "2022-03-01T00:00:00.000Z", "rescue")
    assert list(service.audit.differences(merge_id)) == []
    mended = {table: rows(session, keyspace, table, target) for table in spoilt}
    # Once more is nothing, and what comes later to the source moves alone.
    assert (
        rescue(service, event(source, target, mid=service.journal.need(merge_id).request.mid))[0][0]["code"]
        == "ALREADY_KNOWN"
    )
    again = uuid.UUID(service.repairing.repair(merge_id, "ops", "")["merge_id"])
    assert run_merge(service, again, publish=False)["state"] == "completed"
    assert {table: rows(session, keyspace, table, target) for table in mended} == mended

    assert service.undoing.run(again, publish=False)["state"] == "undone"
    assert service.undoing.run(merge_id, publish=False)["state"] == "undone"
    assert {table: rows(session, keyspace, table, target) for table in spoilt} == spoilt
    service.undoing.run(merge_id, "redo", publish=False)
    assert {table: rows(session, keyspace, table, target) for table in mended} == mended


def test_what_comes_to_the_source_after_the_rescue_moves_by_its_difference(session, keyspace, service):
    source, target = spoiled(session, keyspace)
    merge_id = rescued(service, event(source, target))
    totals = views(session, keyspace, target)
    put(session, keyspace, CC, lesson(source, "L1", status=2, viewcount=5, completedcount=2))
    put(session, keyspace, CC, lesson(source, "L9", status=1, viewcount=4, completedcount=0))
    again = uuid.UUID(service.repairing.repair(merge_id, "ops", "")["merge_id"])
    assert service.journal.need(again).request.seeded is False
    assert run_merge(service, again, publish=False)["state"] == "completed"
    assert views(session, keyspace, target) == totals | {(COURSE, "L1"): (10, 2), (COURSE, "L9"): (4, 0)}


@pytest.mark.parametrize("seed", [1, 3])
def test_the_mended_rows_are_those_of_a_merge_that_was_never_spoiled(seed, session, keyspace, service):
    chance = random.Random(seed)
    source, twin, spoilt, sound = account(), account(), account(), account()

    def both(course, contents):
        done = chance.sample(contents, chance.randint(0, len(contents)))
        began = [c for c in contents if c not in done and chance.random() < 0.5]
        scores = {
            c: [float(chance.randint(0, 10)) for _ in range(chance.randint(1, 3))]
            for c in done
            if chance.random() < 0.6
        }
        views = {c: chance.randint(1, 9) for c in contents}
        return done, began, scores, chance.choice([None, f"cert-{course}"]), {"U1": chance.randint(0, 3)}, views

    for course, whose in ((COURSE, "st"), ("C2", "s"), ("C3", chance.choice(["s", "t", "st"]))):
        for side in whose:
            shown = both(course, [f"{course}-{n}" for n in range(5)])
            for user in [source, twin] if side == "s" else [spoilt, sound]:
                study(session, keyspace, user, course, *shown)
    old_job(session, keyspace, source, spoilt, DONE * 1_000_000)
    rescued(service, f"from,to,merged_at\n{source},{spoilt},2022-03-01T00:00:00Z")
    mended = {t: _shown(rows(session, keyspace, t, spoilt), source, spoilt) for t in (CC, ENR, AGG, ATT)}
    merge_id = service.opening.open_merge(MergeRequest((twin,), sound))
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert mended == {t: _shown(rows(session, keyspace, t, sound), twin, sound) for t in mended}


def _shown(found, source, target):
    return sorted(json.loads(json.dumps(found).replace(source, "SOURCE").replace(target, "TARGET")), key=str)


def merged_again(service, source, target, table):
    """A merge of one table that the retired job had done."""
    request = MergeRequest((source,), target, (table,), dated=ASKED * 1000, seeded=True)
    merge_id = service.opening.open_merge(request)
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    return merge_id


def test_a_row_and_a_total_that_the_retired_job_never_moved_move_whole(session, keyspace, service):
    source, target = account(), account()
    for content, columns in (
        ("gone", {"viewcount": 3}),
        ("half", {"viewcount": 4, "completedcount": 2}),
        ("moved", {"viewcount": 5}),
    ):
        put(session, keyspace, CC, lesson(source, content, **columns), BEFORE * 1_000_000)
    put(session, keyspace, CC, lesson(target, "half", viewcount=9), DONE * 1_000_000)
    put(session, keyspace, CC, lesson(target, "moved", viewcount=6), DONE * 1_000_000)
    before = rows(session, keyspace, CC, target)
    merge_id = merged_again(service, source, target, CC)
    found = {r["contentid"]: (r["viewcount"], r.get("completedcount")) for r in rows(session, keyspace, CC, target)}
    assert found == {"gone": (3, None), "half": (9, 2), "moved": (6, None)}
    service.undoing.run(merge_id, publish=False)
    assert rows(session, keyspace, CC, target) == before


def test_who_left_a_course_after_the_merge_is_not_enrolled_again(session, keyspace, service):
    source, target = account(), account()
    for course, at in (("before", BEFORE), ("after", LATER)):
        put(session, keyspace, ENR, enrolment(source, active=True, status=1) | {"courseid": course}, BEFORE * 1_000_000)
        put(session, keyspace, ENR, enrolment(target, active=False, status=1) | {"courseid": course}, at * 1_000_000)
    merge_id = merged_again(service, source, target, ENR)
    active = lambda: {r["courseid"]: r["active"] for r in rows(session, keyspace, ENR, target)}  # noqa: E731
    assert active() == {"before": True, "after": False}
    service.undoing.run(merge_id, publish=False)
    assert active() == {"before": False, "after": False}
    service.undoing.run(merge_id, "redo", publish=False)
    assert active() == {"before": True, "after": False}


def test_both_readings_are_named_where_the_data_leaves_them_open(session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, "L1", viewcount=7), LATER * 1_000_000)
    put(session, keyspace, CC, lesson(target, "L1", viewcount=3), DONE * 1_000_000)
    put(session, keyspace, ENR, enrolment(source, active=True), BEFORE * 1_000_000)
    put(session, keyspace, ENR, enrolment(target, active=False), BEFORE * 1_000_000)
    (item,), _ = rescue(service, event(source, target), dry_run=True)
    assert item["counts"][CC] == {"same": 1, "ambiguous": 1}
    report = service.previews.preview(MergeRequest((source,), target, seeded=True)).to_dict()
    notes = {t["table"]: [n for r in t["rows"] for n in r["notes"]] for t in report["tables"]}
    assert "off" in notes[ENR][0]
    merge_id = rescued(service, event(source, target))
    found = [n for t in service.reader.report(merge_id).to_dict()["tables"] for r in t["rows"] for n in r["notes"]]
    assert len(found) == 1
    assert "up to 7 of source" in found[0]
    assert views_of(session, keyspace, target) == [3]


def views_of(session, keyspace, user):
    return [r["viewcount"] for r in rows(session, keyspace, CC, user)]


# --- lines -----------------------------------------------------------------------------------------------------------
def test_a_preview_writes_nothing_and_each_line_has_its_answer(session, keyspace, service):
    source, target = spoiled(session, keyspace)
    before = {table: rows(session, keyspace, table, target) for table in (CC, ENR, AGG)}
    lines = ["from,to,merged_at,reason", f"{source},{target},2022-03-01T00:00:00Z,ticket", f"{source},{target},2022-03-01T00:00:00Z",
             f"{source},{source},2022-03-01T00:00:00Z", f"{account()},{account()}"]  # fmt: skip
    told, answer = rescue(service, *lines, dry_run=True)
    assert [(item["line"], item["code"]) for item in told] == [
        (2, "WOULD_OPEN"),
        (3, "TWICE"),
        (4, "SAME_ACCOUNT"),
        (5, "NO_DATE"),
    ]
    assert told[0]["seeded"] is True
    assert told[0]["note"] == WORDS
    assert set(told[0]["counts"]) == {CC, ENR, AGG, ATT}
    assert told[0]["counts"][CC].get("changed") is None
    assert (answer["bad"], answer["codes"]["WOULD_OPEN"], answer["dry_run"]) == (2, 1, True)
    assert answer["rows"]["created"] > 0
    assert source not in json.dumps(answer)
    assert all(item["remedy"] for item in told[2:])
    assert service.journal.find("accounts", source) == []
    assert {table: rows(session, keyspace, table, target) for table in before} == before

    told, answer = rescue(service, *lines, reason="campaign")
    assert [item["code"] for item in told] == ["OPENED", "TWICE", "SAME_ACCOUNT", "NO_DATE"]
    (merge,) = service.journal.find("accounts", source)
    assert (merge.state, merge.request.origin, merge.request.seeded) == ("requested", "rescue", True)
    assert (merge.request.reason, merge.request.requested_by) == ("campaign; ticket", "ops")
    assert rescue(service, *lines[:2])[0][0]["code"] == "ALREADY_KNOWN"
    # The pair is known, whatever the line says of it, unless it names a later merge.
    assert rescue(service, "from,to", f"{source},{target}", seeded="yes")[0][0]["code"] == "ALREADY_KNOWN"
    assert (
        rescue(service, "from,to,merged_at", f"{source},{target},2022-02-01T00:00:00Z")[0][0]["code"] == "ALREADY_KNOWN"
    )
    assert (
        rescue(service, "from,to,merged_at", f"{source},{target},2025-01-01T00:00:00Z", dry_run=True)[0][0]["seeded"]
        is False
    )


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, "none"])
def test_an_event_of_today_is_never_taken_for_one_that_the_retired_job_did(unit, session, keyspace, service):
    """Whatever unit its producer stamps it in; a time that cannot be is not believed, and the merge's note says so."""
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, status=2, viewcount=3))
    put(session, keyspace, CC, lesson(target, status=1, viewcount=4))
    raw = json.dumps(event(source, target, ets=7 if unit == "none" else int(time.time() * unit))).encode()
    service.publisher.publish([(service.settings.merge_topic, None, raw)])
    assert service.inbox.claim()["claimed"] == 1
    merge = service.journal.find("accounts", source)[0]
    assert not merge.request.seeded
    assert abs(merge.request.dated - time.time() * 1000) < 600_000
    assert run_merge(service, merge.merge_id, publish=False)["state"] == "completed"
    assert [r["viewcount"] for r in rows(session, keyspace, CC, target)] == [7]
    note = service.journal.need(merge.merge_id).note or ""
    assert ("the event's ets is a time that cannot be" in note) == (unit == "none")


def test_what_the_topic_brought_is_known_and_obeys_the_same_cutover(service):
    old, late = (event(account(), account(), ets) for ets in (ASKED * 1000, 1700000000000))
    undated = {k: v for k, v in event(account(), account()).items() if k not in ("mid", "ets")}
    raw = [json.dumps(e).encode() for e in (old, late, undated)]
    service.publisher.publish([(service.settings.merge_topic, None, value) for value in raw])
    assert service.inbox.claim()["claimed"] == 3
    found = [service.journal.find("accounts", e["edata"]["fromAccountId"])[0] for e in (old, late, undated)]
    # Without a time of its own the message's counts: it came today.
    assert [m.request.seeded for m in found] == [True, False, False]
    assert found[2].request.dated > CUTOVER.timestamp() * 1000
    told, _ = rescue(service, *(value.decode() for value in raw), seeded="yes")
    assert [item["code"] for item in told] == ["ALREADY_KNOWN"] * 3
    assert [item["merge_id"] for item in told] == [str(m.merge_id) for m in found]
    listed = io.StringIO()
    from account_merge.cli.output import print_list

    print_list(found, False, listed)
    assert listed.getvalue().count("seeded") == 1


def test_an_event_that_was_refused_obeys_the_cutover_when_it_is_opened(service):
    raw = json.dumps(event(account(), account())).encode()
    with Service(service.settings.replace(max_id_length=10)) as narrow:
        narrow.publisher.publish([(narrow.settings.merge_topic, None, raw)])
        assert narrow.inbox.claim()["refused"] == 1
        narrow.failures.sweep(lambda run: "success")
    (refused,) = [m for m in service.journal.find("state", "refused") if m.request.raw == raw]
    assert refused.request.dated > CUTOVER.timestamp() * 1000  # the message's time: its own was not read
    service.replays.replay(FailedMergeFilter.of(merge_ids=[refused.merge_id]), "ops", dry_run=False)
    opened = service.journal.need(refused.merge_id)
    assert (opened.state, opened.request.dated, opened.request.seeded) == ("requested", ASKED * 1000, True)


def test_a_merge_away_of_the_target_is_followed_and_a_circle_is_one_line_s_trouble(session, keyspace, service):
    a, b, c = account(), account(), account()
    put(session, keyspace, CC, lesson(a, viewcount=3), BEFORE * 1_000_000)
    rescued(service, event(b, c))
    told, _ = rescue(service, event(c, b), event(a, b), event(b, a), dry_run=True)
    assert [item["code"] for item in told] == ["INTO_ITSELF", "WOULD_OPEN", "ALREADY_MERGED"]
    rescued(service, event(a, b))
    assert views_of(session, keyspace, c) == [3]


def run_cli(environment, *arguments, **more):
    env = os.environ | environment | {"PYTHONPATH": "include"} | more
    return [sys.executable, "-m", "account_merge", *arguments], env


@pytest.fixture
def command(shared_environment, monkeypatch):
    """The command line, in this process: exit status and output."""
    for name, value in shared_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ACCOUNT_MERGE_CUTOVER", CUTOVER.isoformat())

    def call(*arguments):
        out = io.StringIO()
        return main(list(arguments), out), out.getvalue()

    return call


def test_the_command_line_previews_until_it_is_told_to_go(command, tmp_path, session, keyspace, service):
    source, target = spoiled(session, keyspace)
    file = tmp_path / "userorg.log"
    one = event(source, target)
    file.write_text(f"starting\nINFO Kafka producer topic::{json.dumps(one)}\nstopping\n")
    status, words = command("rescue", str(file), "--format", "log")
    assert status == 0
    assert "line 2 WOULD_OPEN" in words
    assert WORDS in words
    assert "Nothing was written" in words
    merge_id = merge_id_for((source,), target, one["mid"], None)
    assert service.journal.get(merge_id) is None
    status, text = command("rescue", str(file), "--go", "--json")
    assert status == 1  # auto: a line of a log that holds no event is one to look at
    answers = [json.loads(line) for line in text.splitlines()]
    assert [item["code"] for item in answers[:3]] == ["NO_EVENT", "OPENED", "NO_EVENT"]
    assert service.journal.need(merge_id).request.seeded
    assert "seeded" in command("show", str(merge_id))[1]
    assert command("rescue", str(tmp_path / "nothing"))[0] == 2


def test_events_by_the_command_line_obey_the_cutover(command, tmp_path, session, keyspace):
    source, target = spoiled(session, keyspace)
    totals = views(session, keyspace, target)
    file = tmp_path / "events.jsonl"
    file.write_text(json.dumps(event(source, target)))
    assert command("merge", "--events", str(file), "--no-publish")[0] == 0
    assert views(session, keyspace, target) == totals


# --- stranded accounts -------------------------------------------------------------------------------------------------
@pytest.fixture
def users(session, shared_environment):
    """A table of accounts of its own; answers how to add one."""
    name = f"{shared_environment['ACCOUNT_MERGE_COURSES_KEYSPACE']}_u{uuid.uuid4().hex[:6]}"
    for statement in cql.users(name):
        session.execute(statement, timeout=60)

    def add(**columns):
        user = account()
        put(session, name, "user", {"id": user, "updateddate": "2022-03-01 10:15:30:123+0530", **columns})
        return user

    add.keyspace = name
    yield add
    session.execute(f"DROP KEYSPACE {name}", timeout=60)


def test_the_search_survives_a_kill_and_finds_each_stranded_account_once(
    session, users, service, keyspace, shared_environment, command, monkeypatch
):
    gone = {"status": 0, "isdeleted": True}
    stranded = [users(**gone) for _ in range(8)] + [users(status=0), users(isdeleted=True)]
    for user in stranded:
        put(session, keyspace, ENR, enrolment(user, status=1))
    put(session, keyspace, CC, lesson(stranded[0], viewcount=1))
    [users(status=1, isdeleted=False) for _ in range(20)]
    for other in (users(status=1), users(status=2, isdeleted=True), users()):
        put(session, keyspace, ENR, enrolment(other, status=1))
    users(**gone)  # owns nothing
    merged, refused = users(**gone), users(**gone)
    for user in (merged, refused):
        put(session, keyspace, ENR, enrolment(user, status=1))
    service.opening.open_merge(MergeRequest((merged,), account()))
    Merges.open(service.journal, uuid.uuid4(), MergeRequest((refused,), account()), state="refused")
    stranded.append(refused)

    environment = shared_environment | {"ACCOUNT_MERGE_USERS_KEYSPACE": users.keyspace}
    arguments, env = run_cli(environment, "stranded", "--restart", "--page", "3", "--pause", "0.2", "--every", "1")
    worker = subprocess.Popen(arguments, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                              cwd=Path(__file__).parents[4])  # fmt: skip
    told = [worker.stderr.readline() for _ in range(3)]
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    assert "accounts read" in told[-1], told

    monkeypatch.setenv("ACCOUNT_MERGE_USERS_KEYSPACE", users.keyspace)
    assert command("stranded", "--seconds", "0.001", "--pause", "0", "--page", "1")[0] == 3
    so_far = len(command("stranded", "--list")[1].splitlines()) - 1
    assert so_far < len(stranded)
    with Service(service.settings.replace(users_keyspace=users.keyspace)) as one:
        state = one.stranded._log.last()[1]
        assert 9 <= state["scanned"] < 36
    status, text = command("stranded", "--page", "5", "--pause", "0")
    assert status == 0
    found = list(csv.DictReader(io.StringIO(text)))
    assert sorted(row["account_id"] for row in found) == sorted(stranded)
    assert {row["deactivated_on"] for row in found} == {"2022-03-01 10:15:30:123+0530"}
    tables = {row["account_id"]: row["tables"].split() for row in found}
    assert tables[stranded[0]] == [ENR, CC]
    assert tables[stranded[1]] == [ENR]
    with Service(service.settings.replace(users_keyspace=users.keyspace)) as one:
        state = one.stranded._log.last()[1]
        assert (state["scanned"], state["stranded"], state["done"]) == (36, len(stranded), True)
    # The end is the end; anew, it finds what is stranded by then.
    assert command("stranded")[1] == text
    service.opening.open_merge(MergeRequest((stranded[3],), account()))
    status, text = command("stranded", "--restart", "--pause", "0", "--json")
    assert status == 0
    assert {json.loads(line)["account_id"] for line in text.splitlines()} == set(stranded) - {stranded[3]}


@pytest.mark.usefixtures("shared_service")
def test_a_missing_table_of_accounts_is_said_with_the_remedy(command, capsys, monkeypatch):
    monkeypatch.setenv("ACCOUNT_MERGE_USERS_KEYSPACE", "nowhere")
    assert command("stranded")[0] == 1
    assert "ACCOUNT_MERGE_USERS_KEYSPACE" in capsys.readouterr().err
