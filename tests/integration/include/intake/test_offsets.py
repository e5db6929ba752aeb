"""Where claiming goes on: at our own offset; and everything is claimed where the topic was made anew or restored."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from account_merge.errors import NeedsAttention
from account_merge.service import Service
from account_merge.sunbird.events import KEPT_HEAD, KEPT_WHOLE
from local import messages
from tests.journal_sql import sql
from tests.keyspaces import drop_journal, journal_beside
from tests.learners import account, event


@pytest.fixture
def service(settings):
    """A journal, topics and a group of this test alone."""
    with Service(settings) as found:
        found.journal.create()
        yield found
    drop_journal(settings.journal_url)


def publish(service, number, *more):
    values = [event(account(), account()) for _ in range(number)] + list(more)
    producer = Producer({"bootstrap.servers": service.settings.kafka_bootstrap_servers})
    for value in values:
        producer.produce(service.settings.merge_topic, value, partition=0)
    assert producer.flush(20) == 0


def committed(service, offset):
    """Commits an offset as a mirror, or the retired job, does: without a note of ours."""
    settings = service.settings
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": settings.consumer_group})
    consumer.commit(offsets=[TopicPartition(settings.merge_topic, 0, offset)], asynchronous=False)
    consumer.close()


def made_anew(service):
    """Deletes the merge topic and creates it again; the group keeps its offsets."""
    settings = service.settings
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    kept = service.topics.standing()
    for gone in admin.delete_topics([settings.merge_topic]).values():
        gone.result(20)
    deadline = time.monotonic() + 30
    while settings.merge_topic in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline, "the topic is not gone"
        time.sleep(0.2)
    messages.create_topics(settings.kafka_bootstrap_servers, [settings.merge_topic])
    return {partition: one.committed for partition, one in kept.items()}


def test_an_offset_beyond_the_end_is_noticed_and_all_there_is_claimed(service):
    committed(service, 50)
    publish(service, 2)
    assert service.inbox.has_work()["lag"] == 2
    publish(service, 5)
    committed(service, 5)  # the topic has grown past it before anybody claimed
    assert service.inbox.claim()["claimed"] == 7
    assert service.inbox.has_work() == {"lag": 0, "due": 1}
    publish(service, 1)
    assert service.inbox.claim() == {"claimed": 1, "repeated": 0, "refused": 0, "ignored": 0}


def test_an_offset_beyond_an_empty_topic_s_end_is_put_right_before_anything_comes(service):
    committed(service, 50)
    assert service.inbox.has_work()["lag"] == 1
    assert service.inbox.claim()["claimed"] == 0
    assert service.inbox.has_work()["lag"] == 0
    publish(service, 3)
    assert service.inbox.claim()["claimed"] == 3


def test_a_topic_that_was_made_anew_is_claimed_from_its_beginning(service):
    publish(service, 3)
    assert service.inbox.claim()["claimed"] == 3
    made_anew(service)
    committed_before = service.topics.standing()[0].committed
    publish(service, 10)
    if committed_before is None:  # this broker forgets a deleted topic's offsets: they come back with a mirror's
        standing = service.topics.standing()[0]
        assert standing.lag == 10
    assert service.inbox.claim()["claimed"] == 10


def test_offsets_of_another_topic_of_that_name_do_not_count(service):
    publish(service, 4)
    service.topics.commit(
        {(service.settings.merge_topic, 0): 3}, f"account-merge {service.journal.journal_id} other-topic"
    )
    assert service.inbox.claim()["claimed"] == 4


def test_the_retired_job_s_offset_counts(service):
    publish(service, 4)
    committed(service, 3)
    assert service.inbox.claim()["claimed"] == 1


def test_a_second_journal_on_the_group_refuses(service):
    publish(service, 2)
    assert service.inbox.claim()["claimed"] == 2
    publish(service, 1)
    url = journal_beside(service.settings.journal_url, f"{service.settings.env}second")
    try:
        with Service(service.settings.replace(journal_url=url)) as second:
            second.journal.create()
            with pytest.raises(NeedsAttention, match="OTHER_JOURNAL"):
                second.inbox.claim()
            assert second.journal.all() == []
    finally:
        drop_journal(url)
    assert service.inbox.claim()["claimed"] == 1


def test_claiming_goes_on_to_the_topic_s_end(service):
    publish(service, 25)
    assert service.inbox.claim(limit=10)["claimed"] == 25


def test_events_of_one_batch_start_in_their_order(service):
    target = account()
    publish(service, 0, *(event(account(), target) for _ in range(20)))
    service.inbox.claim()
    positions = [m.merge_id for m in service.journal.all()]
    rows = sql(service, "SELECT merge_id FROM merges ORDER BY split_part(topic_position, '/', 3)::int")
    assert positions == [row.merge_id for row in rows]


def test_a_message_of_any_size_is_claimed(service):
    admin = AdminClient({"bootstrap.servers": service.settings.kafka_bootstrap_servers})
    wide = ConfigEntry("max.message.bytes", str(40_000_000), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource("topic", service.settings.merge_topic, incremental_configs=[wide])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(20)
    huge = event(account(), account())[:-1] + b', "padding": "' + b"x" * (KEPT_WHOLE + 1000) + b'"}'
    producer = Producer(
        {"bootstrap.servers": service.settings.kafka_bootstrap_servers, "message.max.bytes": 40_000_000}
    )
    producer.produce(service.settings.merge_topic, huge, partition=0)
    assert producer.flush(30) == 0
    publish(service, 1)
    assert service.inbox.claim() == {"claimed": 1, "repeated": 0, "refused": 1, "ignored": 0}
    (refused,) = service.journal.find("state", "refused")
    assert (refused.error_code, refused.request.raw) == ("EVENT_TOO_LARGE", huge[:KEPT_HEAD])
    assert str(len(huge)) in refused.request.doubt
    service.failures.sweep(lambda run: None)
    assert service.journal.need(refused.merge_id).failed_event == "sent"
