"""Draining: nothing new starts, what is under way comes to its end, and somebody is told when it has."""

from __future__ import annotations

import io
import json
import threading
from datetime import timedelta

import pytest

from account_merge.cli.main import main
from account_merge.errors import InvalidRequest
from account_merge.journal import now
from account_merge.model import MergeRequest
from tests.journal_sql import sql
from tests.learners import account


@pytest.fixture
def service(own_world):
    return own_world()


def started(service):
    return [run["merge_id"] for run in service.inbox.next_runs(lambda run: "running")]


def opened(service):
    return service.opening.open_merge(MergeRequest((account(),), account()))


def test_nothing_new_starts_and_what_is_under_way_goes_on(service):
    first = opened(service)
    assert started(service) == [str(first)]
    answer = service.draining.begin("ops", "release 2")
    assert (answer["draining"], answer["under_way"]) == (True, 1)
    assert "ops drains since" in answer["note"]
    second = opened(service)
    assert started(service) == []
    assert service.opening.start(service.journal.need(second)) is None
    assert service.inbox.has_work()["due"] == 0
    assert service.admission.admit(first)["proceed"]  # nothing is paused
    long_ago = now() - timedelta(hours=1)
    sql(service, "UPDATE merges SET updated_at = :at WHERE merge_id = :id", at=long_ago, id=first)
    sql(service, "UPDATE log SET created_at = :at WHERE merge_id = :id", at=long_ago, id=first)
    assert [run["merge_id"] for run in service.inbox.next_runs(lambda run: None)] == [str(first)]  # its run was lost
    service.undoing.abandon(first, "not wanted")
    assert service.draining.look()["under_way"] == 0
    assert service.queries.status()["draining"] == answer["note"]
    assert service.draining.end() == {"draining": False, "note": "", "under_way": 0}
    assert started(service) == [str(second)]


def test_it_waits_until_nothing_is_under_way(service):
    merge_id = opened(service)
    assert started(service) == [str(merge_id)]
    ends = threading.Timer(1.5, lambda: service.journal.move(service.journal.need(merge_id), "abandoned"))
    ends.start()
    assert service.draining.begin("ops", "release 2", wait=30)["under_way"] == 0
    ends.join()


def test_settles_wait_for_its_end(service):
    merge_id = opened(service)
    sql(service, "UPDATE merges SET state = 'completed', settle_at = now() WHERE merge_id = :id", id=merge_id)
    service.draining.begin("ops", "release 2")
    assert service.settling.run() == {"settled": 0, "moved": 0, "failed": 0, "held": 0}
    service.draining.end()
    assert service.settling.run()["settled"] == 1


def test_the_command_says_how_it_stands(service, own_environment, monkeypatch):
    for name, value in own_environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidRequest):
        service.draining.begin("ops", " ")
    opened(service)
    started(service)
    out = io.StringIO()
    assert main(["drain", "--reason", "release 2", "--wait", "0", "--json"], out) == 3
    assert json.loads(out.getvalue())["under_way"] == 1
    assert main(["drain", "--end"], out) == 0
    assert "merges start as usual" in out.getvalue()
