"""Topics from the outside, as the platform and its other jobs see them: for the demo and the tests.

The product has a module of its own for Kafka. This one shares no code with it, so each checks the other's messages.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from local.config import StackError

PARTITIONS = 2


class Message(NamedTuple):
    """One message as it was read back."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


def create_topics(bootstrap: str, topics: Iterable[str], seconds: float = 60) -> None:
    """Create these topics, and return when each can be written to."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})
    wanted = list(topics)
    answers = admin.create_topics([NewTopic(t, num_partitions=PARTITIONS, replication_factor=1) for t in wanted])
    for answer in answers.values():
        try:
            answer.result(timeout=seconds)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise StackError(f"The topics could not be created at {bootstrap}: {error}") from error
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        known = admin.list_topics(timeout=seconds).topics
        if all(t in known and all(p.leader >= 0 for p in known[t].partitions.values()) for t in wanted):
            return
        time.sleep(0.1)
    raise StackError(f"The topics {', '.join(wanted)} got no leader within {seconds:.0f} s. See the broker's log.")


def delete_topics(bootstrap: str, topics: Iterable[str], seconds: float = 60) -> None:
    """Delete these topics; one that is gone already is not an error."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})
    for answer in admin.delete_topics(list(topics)).values():
        try:
            answer.result(timeout=seconds)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise StackError(f"The topics could not be deleted at {bootstrap}: {error}") from error


def publish(bootstrap: str, topic: str, values: Iterable[bytes], key: bytes | None = None, seconds: float = 30) -> None:
    """Publish these values in order; return once the broker has them all."""
    failures: list[str] = []
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 3})
    for value in values:
        producer.produce(topic, value, key, on_delivery=lambda error, _: failures.append(str(error)) if error else None)
    left = producer.flush(seconds)
    if left or failures:
        raise StackError(f"{topic}: {left + len(failures)} messages were not delivered. {'; '.join(failures)}")


def read(bootstrap: str, topic: str, since_ms: int = 0, seconds: float = 20) -> list[Message]:
    """Return the topic's messages from this time on, up to its end at the moment of the call, oldest first."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "reader-without-membership", "enable.auto.commit": False,
        "log_level": 3,
    })  # fmt: skip
    found: list[Message] = []
    deadline = time.monotonic() + seconds
    try:
        partitions = consumer.list_topics(topic, timeout=seconds).topics[topic].partitions
        starts = consumer.offsets_for_times([TopicPartition(topic, p, since_ms) for p in partitions], timeout=seconds)
        ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=seconds)[1] for p in partitions}
        open_ones = [TopicPartition(topic, s.partition, s.offset) for s in starts if 0 <= s.offset < ends[s.partition]]
        consumer.assign(open_ones)
        unfinished = {part.partition for part in open_ones}
        while unfinished:
            if time.monotonic() > deadline:
                raise StackError(f"{topic} could not be read to its end within {seconds:.0f} s.")
            message = consumer.poll(0.2)
            if message is not None and not message.error():
                found.append(Message(topic, message.partition(), message.offset(), message.timestamp()[1],
                                     message.key(), message.value()))  # fmt: skip
            for part in consumer.position(open_ones):
                if part.offset >= ends[part.partition]:
                    unfinished.discard(part.partition)
    finally:
        consumer.close()
    before_the_end = (message for message in found if message.offset < ends[message.partition])
    return sorted(before_the_end, key=lambda m: (m.timestamp_ms, m.partition, m.offset))
