"""Publishing on a real broker: what counts as sent, and what is said of what does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from account_merge.errors import MergeError, TransientError
from account_merge.settings import Settings
from account_merge.sunbird.kafka import Topics
from account_merge.sunbird.publishing import Publisher


def test_publish_counts_what_brokers_acknowledged_also_past_the_clients_queue(
    topics: Topics, settings: Settings
) -> None:
    small = settings.replace(kafka_config={"queue.buffering.max.messages": 100})
    with Publisher(small) as publisher:
        assert publisher.publish([]) == 0
        assert publisher.publish((settings.sync_topic, b"user", b"%d" % n) for n in range(3000)) == 3000
    found = topics.read(settings.sync_topic)
    assert [int(m.value or b"") for m in found] == list(range(3000))
    assert {m.key for m in found} == {b"user"}


def test_publish_fails_in_time_when_no_broker_answers(away: Settings) -> None:
    begin = time.monotonic()
    with Publisher(away) as publisher, pytest.raises(TransientError) as failed:
        publisher.publish([(away.sync_topic, None, b"1")])
    assert time.monotonic() - begin < 8
    assert failed.value.code == "KAFKA_AWAY"
    assert f"Publishing to {away.sync_topic} could not begin" in failed.value.message


def test_publish_says_how_many_came_through_when_the_broker_dies_under_it(
    fresh_stack: Callable[..., Any], settings: Settings
) -> None:
    broker = fresh_stack("kafka")
    own = settings.replace(kafka_bootstrap_servers=f"127.0.0.1:{broker.ports()['kafka']}", delivery_timeout_seconds=2.0)
    admin = AdminClient({"bootstrap.servers": own.kafka_bootstrap_servers})
    for made in admin.create_topics([NewTopic(own.sync_topic, 1, 1)]).values():
        made.result(20)
    with Publisher(own) as publisher:
        assert publisher.publish([(own.sync_topic, None, b"1")]) == 1
        broker.down(["kafka"])
        with pytest.raises(TransientError, match="0 of at least 2 messages"):
            publisher.publish([(own.sync_topic, None, b"2"), (own.sync_topic, None, b"3")])


def test_publish_refuses_a_topic_that_does_not_exist_and_makes_none(
    publisher: Publisher, topics: Topics, settings: Settings
) -> None:
    name = f"{settings.env}.typo"
    with pytest.raises(MergeError) as failed:
        publisher.publish([(name, None, b"1")])
    assert failed.value.code == "TOPIC_MISSING"
    assert not isinstance(failed.value, TransientError)
    with pytest.raises(MergeError, match="TOPIC_MISSING"):
        topics.read(name)


def test_publish_says_how_many_came_through_when_one_is_too_large(
    publisher: Publisher, topics: Topics, settings: Settings
) -> None:
    with pytest.raises(MergeError) as failed:
        publisher.publish([(settings.sync_topic, None, value) for value in (b"1", b"2", b"x" * 1_100_000, b"4")])
    assert failed.value.code == "KAFKA_REFUSED"
    assert "2 of at least 3" in failed.value.message
    assert not isinstance(failed.value, TransientError)
    assert publisher.publish([(settings.sync_topic, None, b"5")]) == 1
    assert sorted(m.value for m in topics.read(settings.sync_topic) if m.value) == [b"1", b"2", b"5"]
