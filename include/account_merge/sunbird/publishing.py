"""Writing to Kafka: nothing counts as sent before the brokers have acknowledged it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from account_merge.settings import Settings
from account_merge.sunbird.kafka_client import KafkaCalls, producer_options
from account_merge.sunbird.kafka_errors import PERMANENT, topic_missing


class Publisher:
    """Publishes on the platform's topics; a context manager that connects when first asked and closes what it opened."""

    def __init__(self, settings: Settings, log: logging.Logger | None = None) -> None:
        self._settings, self._log = settings, log or logging.getLogger(__name__)
        self._calls = KafkaCalls(settings, self._log)
        self._producer: Producer | None = None
        self._topics: set[str] = set()
        self._one = threading.Lock()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; `publish` has already reported what was not acknowledged."""
        self._producer = None

    def publish(
        self, messages: Iterable[tuple[str, bytes | None, bytes]], headers: Mapping[str, bytes] | None = None
    ) -> int:
        """Publish all and return their number once the brokers acknowledged each one; else raise, saying how many were.

        What could not be told delivered may be there all the same: publish the whole again, the bytes are the same.
        """
        with self._one:  # a producer that failed is replaced: what another thread sent by it would never be told
            return self._publish(messages, headers)

    def _publish(self, messages: Iterable[tuple[str, bytes | None, bytes]], headers: Mapping[str, bytes] | None) -> int:
        delivered, sent, failures = 0, 0, list[KafkaError]()

        def on_delivery(error: KafkaError | None, _: KafkaMessage) -> None:
            nonlocal delivered
            if error is None:
                delivered += 1
            else:
                failures.append(error)

        try:
            for topic, key, value in messages:
                self._ensure_topic(topic)
                self._produce(topic, key, value, headers, on_delivery)
                sent += 1
                if failures:
                    break
        except KafkaException as error:
            failures.insert(0, error.args[0])
        except BufferError:
            self._log.info("The queue to the brokers stayed full for %s s", self._settings.delivery_timeout_seconds)
        # The client itself gives a message up at the deadline; the second more lets that answer come through.
        left = self._producing().flush(self._settings.delivery_timeout_seconds + 1.0) if sent else 0
        if failures or left:
            self._producer = None  # an idempotent producer that lost a message may be unable to go on
            first = next((e for e in failures if e.name() in PERMANENT), failures[0] if failures else None)
            doing = f"Publishing stopped: {delivered} of at least {max(sent, delivered + 1)} messages were delivered"
            if first is None:
                raise self._calls.away(doing)
            self._calls.fail(first, doing)
        return delivered

    def _produce(
        self, topic: str, key: bytes | None, value: bytes, headers: Mapping[str, bytes] | None, on_delivery: Any
    ) -> None:
        producer, deadline = self._producing(), time.monotonic() + self._settings.delivery_timeout_seconds
        while True:
            try:
                producer.produce(topic, value=value, key=key, headers=dict(headers or {}), on_delivery=on_delivery)
                producer.poll(0)
                return
            except BufferError:
                if time.monotonic() > deadline:
                    raise
                producer.poll(0.1)

    def _ensure_topic(self, topic: str) -> None:
        # The client would wait half a minute for an unknown topic, or have the broker create one with a typing error.
        if topic in self._topics:
            return
        with self._calls.doing(f"Publishing to {topic} could not begin; nothing went there"):
            self._topics = set(self._producing().list_topics(timeout=self._calls.patience).topics)
        if topic not in self._topics:
            raise topic_missing([topic], "Publishing stopped; nothing went to that topic.")

    def _producing(self) -> Producer:
        if self._producer is None:
            self._producer = self._calls.open(Producer, producer_options(self._settings))
        return self._producer
