"""A journal that was restored from a backup has forgotten the merges since; what they moved is not moved a second time."""

from __future__ import annotations

import subprocess
import time
import uuid
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from confluent_kafka import Producer

from account_merge.cli.main import run_merge
from account_merge.failed_search import FailedMergeFilter
from account_merge.merge_ids import request_id
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.settings import Settings
from local import tools
from tests.journal_sql import sql
from tests.keyspaces import drop_journal
from tests.learners import account, enrolment, event, lesson, put, rows

CC, ENR = "user_content_consumption", "user_enrolments"
#: s; what is written later than that after an entry was appended is dated behind it: margin, and the way to the next mark.
APART = 1.0
LONG_AGO = 1_700_000_000_000_000  # µs; what was written just now is written over at its own time, which is no mark


@pytest.fixture
def settings(environment):
    """Entries of one second are told apart."""
    return Settings.from_env(environment | {"ACCOUNT_MERGE_CLOCK_MARGIN_SECONDS": "0.2"})


@pytest.fixture
def backup(settings, tmp_path):
    """Dumps the journal; what it returns restores the dump, as an operator does."""
    made = tmp_path / "journal.dump"
    there = urlsplit(settings.journal_url)
    server, name = there._replace(scheme="postgresql", path="/postgres").geturl(), there.path[1:]

    def tool(program, *arguments):
        subprocess.run([tools.postgres() / program, *arguments], check=True, capture_output=True, timeout=120)

    def dump():
        tool("pg_dump", "--format=custom", f"--file={made}", there._replace(scheme="postgresql").geturl())

        def restore():
            drop_journal(settings.journal_url)
            tool("psql", "--quiet", "--dbname", server, "--command", f'CREATE DATABASE "{name}"')
            tool("pg_restore", "--dbname", there._replace(scheme="postgresql").geturl(), str(made))

        return restore

    return dump


@contextmanager
def anew(settings):
    """The core as the next process has it."""
    with Service(settings) as found:
        yield found


def learner(session, settings, lessons, views):
    """An account that is enrolled and has seen these lessons."""
    user = account()
    for name in lessons:
        put(session, settings.courses_keyspace, CC, lesson(user, name, viewcount=views, status=1), LONG_AGO)
    put(session, settings.courses_keyspace, ENR, enrolment(user, active=True, progress=0), LONG_AGO)
    return user


def views(session, settings, user):
    return {row["contentid"]: row["viewcount"] for row in rows(session, settings.courses_keyspace, CC, user)}


def merged(service, source, target, name="first"):
    merge_id = service.opening.open_merge(MergeRequest((source,), target, reason=name))
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    return merge_id


def opened(service, source, target):
    request = MergeRequest((source,), target)
    return service.opening.open_merge(request, request_id(f"again {source}", (source,), target))


def stopped(service, merge_id):
    """Does a merge, which must not go through."""
    assert run_merge(service, merge_id, publish=False)["state"] == "needs_attention"
    merge = service.journal.need(merge_id)
    assert merge.error_code == "JOURNAL_BEHIND"
    assert "restored from a backup" in merge.error


def test_a_merge_that_the_journal_has_forgotten_is_not_done_twice(service, settings, session, backup):
    known, forgotten, target = (learner(session, settings, ("L1", "L2", "L3"), n) for n in (1, 10, 100))
    merged(service, known, target)
    restore = backup()
    time.sleep(APART)
    merged(service, forgotten, target)
    after = views(session, settings, target)
    assert after == dict.fromkeys(("L1", "L2", "L3"), 111)
    restore()
    with anew(settings) as later:
        merge_id = opened(later, forgotten, target)
        stopped(later, merge_id)
        assert views(session, settings, target) == after
        written = "SELECT seq FROM log WHERE merge_id = :merge AND kind = 'changes' AND name = :name"
        assert sql(later, written, merge=merge_id, name=CC) == []


def test_a_person_s_yes_moves_what_is_missing_and_counts_the_rest_as_moved(service, settings, session, backup):
    source, target = learner(session, settings, ("L1", "L2", "L3"), 10), learner(session, settings, ("L1", "L2"), 100)
    restore = backup()
    merged(service, source, target)
    restore()
    put(session, settings.courses_keyspace, CC, lesson(source, "L4", viewcount=7, status=2))  # came late
    with anew(settings) as later:
        merge_id = opened(later, source, target)
        stopped(later, merge_id)
        later.failures.sweep(lambda run: "failed")
        unnamed = later.replays.replay(FailedMergeFilter.of(account=source), "operator", dry_run=False)
        assert [one["code"] for one in unnamed["items"]] == ["JOURNAL_BEHIND"]
        named = later.replays.replay(FailedMergeFilter.of(merge_ids=[merge_id]), "operator", dry_run=False)
        assert [one["code"] for one in named["items"]] == ["RESUMED"]
        assert run_merge(later, merge_id, publish=False)["state"] == "completed"
    assert views(session, settings, target) == {"L1": 110, "L2": 110, "L3": 10, "L4": 7}


def test_a_forgotten_merge_into_the_source_stops_its_merge_on_as_well(service, settings, session, backup):
    first, second, third = (learner(session, settings, ("L1", "L2"), n) for n in (1, 10, 100))
    restore = backup()
    merged(service, first, second)
    restore()
    with anew(settings) as later:
        merge_id = opened(later, second, third)
        stopped(later, merge_id)
    assert views(session, settings, third) == {"L1": 100, "L2": 100}


def test_a_merge_that_was_undone_after_the_backup_stops_its_repair(service, settings, session, backup):
    source, target = learner(session, settings, ("L1", "L2", "L3"), 10), learner(session, settings, ("L1", "L2"), 100)
    merge_id = merged(service, source, target)
    restore = backup()
    time.sleep(APART)
    assert service.undoing.run(merge_id, publish=False)["state"] == "undone"
    assert views(session, settings, target) == {"L1": 100, "L2": 100}
    restore()
    with anew(settings) as later:
        answer = later.repairing.repair(merge_id, "operator", "look again")
        stopped(later, uuid.UUID(answer["merge_id"]))


def test_accounts_that_no_forgotten_merge_touched_are_merged_as_ever(service, settings, session, backup):
    known, source, target, other = (learner(session, settings, ("L1", "L2"), n) for n in (1, 10, 100, 1000))
    merged(service, known, target)
    restore = backup()
    merged(service, other, learner(session, settings, ("L1",), 5))
    restore()
    with anew(settings) as later:
        merge_id = opened(later, source, target)
        assert run_merge(later, merge_id, publish=False)["state"] == "completed"
    assert views(session, settings, target) == {"L1": 111, "L2": 111}


def test_what_was_claimed_after_the_backup_is_claimed_again(service, settings, backup):
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})

    def publish(number):
        for _ in range(number):
            producer.produce(settings.merge_topic, event(account(), account()), partition=0)
        assert producer.flush(20) == 0

    publish(3)
    assert service.inbox.claim()["claimed"] == 3
    restore = backup()
    publish(4)
    assert service.inbox.claim()["claimed"] == 4
    restore()
    publish(1)
    with anew(settings) as later:
        assert later.inbox.has_work()["lag"] == 5
        assert later.inbox.claim() == {"claimed": 5, "repeated": 0, "refused": 0, "ignored": 0}
        assert later.inbox.has_work()["lag"] == 0
        publish(2)
        assert later.inbox.claim()["claimed"] == 2


def test_a_backup_from_before_the_first_claim_has_all_that_is_there_claimed(service, settings, backup):
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
    restore = backup()
    for _ in range(3):
        producer.produce(settings.merge_topic, event(account(), account()), partition=0)
    assert producer.flush(20) == 0
    assert service.inbox.claim()["claimed"] == 3
    restore()
    with anew(settings) as later:
        assert later.inbox.claim()["claimed"] == 3
