"""Options of the Kafka client that "nothing lost, nothing twice" hangs on; the operator's own come first and lose."""

from __future__ import annotations

from typing import Any

from account_merge.settings import Settings


def common(settings: Settings) -> dict[str, Any]:
    """Return options of every client."""
    fixed = {"bootstrap.servers": settings.kafka_bootstrap_servers}
    return {"client.id": "account-merge", **settings.kafka_config, **fixed}


def consumer(settings: Settings) -> dict[str, Any]:
    """Return the options of a consumer: we alone commit offsets, read no aborted transaction and hear of each partition's end."""
    # We read to the end and stop: the broker need not wait there for more (its client's default is half a second).
    return (
        {"fetch.wait.max.ms": 20}
        | common(settings)
        | {
            "group.id": settings.consumer_group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )


def producer(settings: Settings) -> dict[str, Any]:
    """Every message is acknowledged by all replicas in sync, in order and once, or given up at the deadline."""
    timeout = int(settings.delivery_timeout_seconds * 1000)
    return common(settings) | {"enable.idempotence": True, "message.timeout.ms": timeout}
