"""What leaves a process for Kafka: the calls into librdkafka, whose own threads have the socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import Producer

from account_merge.sunbird import publishing
from tests.outgoing.patches import Put

#: (kind, call, let it reach the brokers) -> what `call` returns.
Around = Callable[[str, Callable[[], Any], Callable[[], Any]], Any]


def hook(around: Around, put: Put) -> None:
    """Have `around` called with each `produce` and `flush` of this process."""

    class Counted(Producer):
        """A producer whose calls are counted; `flush` is part of the same way out."""

        def produce(self, topic: str, *arguments: Any, **named: Any) -> Any:
            return around(
                "produce " + topic.split(".", 1)[-1],
                lambda: super(Counted, self).produce(topic, *arguments, **named),
                lambda: super(Counted, self).flush(10),
            )

        def flush(self, *arguments: Any) -> Any:
            return around("flush", lambda: super(Counted, self).flush(*arguments), lambda: None)

    put(publishing, "Producer", Counted)
