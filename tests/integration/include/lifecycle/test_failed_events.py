"""n failures are n failed events, each once: also when one is owed while the next comes, or an acknowledgement is lost."""

from __future__ import annotations

import json

import pytest

from account_merge.errors import MergeError, TransientError
from account_merge.model import MergeRequest
from account_merge.sunbird.publishing import Publisher
from tests.journal_sql import sql
from tests.learners import account


@pytest.fixture
def service(own_world):
    return own_world()


@pytest.fixture
def merge_id(service):
    found = service.opening.open_merge(MergeRequest((account(),), account()))
    service.admission.admit(found)
    return found


def fails(service, merge_id, code):
    merge = service.journal.need(merge_id)
    service.failures.record(merge, MergeError(code, f"it failed: {code}", "look"), "failed")


def goes_on(service, merge_id):
    assert service.admission.admit(merge_id)["state"] == "running"


def sent(service, merge_id):
    """(id in the event, id in the header, code) of each failed event of the merge, in order."""
    found = []
    for message in service.topics.read(service.settings.failed_topic):
        info = json.loads(message.value)["failInfo"]
        if info["mergeId"] == str(merge_id):
            found.append((info["failedId"], dict(message.headers)["failedId"].decode(), info["code"]))
    return found


def wanted(merge_id, *codes):
    return [(f"{merge_id}.{n}", f"{merge_id}.{n}", code) for n, code in enumerate(codes, 1)]


def test_a_failure_that_comes_before_the_last_one_s_event_is_out_has_its_own(service, merge_id):
    for code in ("FIRST", "SECOND", "THIRD"):
        fails(service, merge_id, code)
        if code != "THIRD":
            goes_on(service, merge_id)
    assert service.failures.sweep(lambda run: "running") == {"sent": 1, "pending": 0}
    assert sent(service, merge_id) == wanted(merge_id, "FIRST", "SECOND", "THIRD")
    assert service.failures.sweep(lambda run: "running") == {"sent": 0, "pending": 0}
    assert service.inbox.has_work()["due"] == 0


@pytest.mark.parametrize("delivered", [True, False])
def test_an_event_whose_acknowledgement_is_lost_is_there_once(service, merge_id, delivered, monkeypatch):
    publish = Publisher.publish

    def lost(publisher, *arguments):
        if delivered:
            publish(publisher, *arguments)
        raise TransientError("KAFKA_AWAY", "the answer is lost")

    fails(service, merge_id, "FIRST")
    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "publish", lost)
        with pytest.raises(TransientError):
            service.failures.sweep(lambda run: "running")
    assert service.failures.sweep(lambda run: "running") == {"sent": 0, "pending": 1}  # it may still be on its way
    goes_on(service, merge_id)
    fails(service, merge_id, "SECOND")
    sql(service, "UPDATE failed_events SET sent_at = sent_at - interval '1 hour'")
    assert service.inbox.has_work()["due"] == 1
    service.failures.sweep(lambda run: "running")
    assert sorted(sent(service, merge_id)) == wanted(merge_id, "FIRST", "SECOND")
