"""Counts what leaves a process for PostgreSQL, Cassandra and Kafka, says of what kind it is, and interrupts around one.

Counted where a request leaves: in the driver before its socket, at the call into librdkafka, whose own threads have the
socket. The code under test is not asked. The driver's own talk (handshake, heartbeat, control connection) does not count.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cassandra.cluster import Session
from cassandra.connection import Connection
from cassandra.protocol import BatchMessage, ExecuteMessage, PrepareMessage, QueryMessage
from confluent_kafka import Producer

from account_merge.sunbird import publishing
from tests.crash import statements

#: s; lets a request reach Cassandra before its sender dies or stops. PostgreSQL's answer is waited for instead.
REACHES = 0.03
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
#: These leave nothing behind: what is done before one is what is done before the next.
READS = ("SELECT", "prepare", "BEGIN", "ROLLBACK")
_TABLE = re.compile(r'(?:FROM|INTO|UPDATE)\s+("?\w+"?)\.("?\w+"?)', re.IGNORECASE)


@dataclass
class Leaving:
    """Counts from `start` on; interrupts the process before or after the request `at` (0: never).

    :param action: `kill`, `stop`, or `cut`: PostgreSQL does what was asked, and its answer is lost with the connection.
    """

    at: int = 0
    after: bool = False
    action: str = "kill"

    def __post_init__(self) -> None:
        self.kinds: list[str] = []
        self._texts: dict[bytes, str] = {}
        self._counting = False
        self._hook_driver()
        self._hook_kafka()
        statements.hook(self._around)

    def start(self) -> None:
        """Counts from here on: the process is what it is when its work begins."""
        self._counting = True

    def stop(self) -> None:
        """Counts no further: the work is done."""
        self._counting = False

    def _around(
        self, kind: str, send: Callable[[], Any], reach: Callable[[], Any], lose: Callable[[], Any] | None = None
    ) -> Any:
        if not self._counting:
            return send()
        self.kinds.append(kind)
        here = len(self.kinds) == self.at
        if here and not self.after:
            os.kill(os.getpid(), SIGNALS[self.action])
        result = send()
        if here and self.after:
            reach()
            if self.action == "cut":
                assert lose
                lose()
                return result
            os.kill(os.getpid(), SIGNALS[self.action])
        return result

    def _hook_driver(self) -> None:
        send, prepare, around = Connection.send_msg, Session.prepare, self._around

        def sending(connection: Any, message: Any, *arguments: Any, **named: Any) -> Any:
            ours = isinstance(message, ExecuteMessage | BatchMessage | PrepareMessage | QueryMessage)
            if not ours or connection.is_control_connection:
                return send(connection, message, *arguments, **named)
            return around(
                self._kind(message), lambda: send(connection, message, *arguments, **named), lambda: time.sleep(REACHES)
            )

        def preparing(session: Any, query: str, *arguments: Any, **named: Any) -> Any:
            statement = prepare(session, query, *arguments, **named)
            self._texts[statement.query_id] = statement.query_string
            return statement

        Connection.send_msg, Session.prepare = sending, preparing

    def _kind(self, message: Any) -> str:
        if isinstance(message, PrepareMessage):
            return "prepare"
        if isinstance(message, BatchMessage):
            texts = [self._texts.get(query, str(query)) for prepared, query, _ in message.queries]
            return "batch " + ", ".join(sorted({_named(text) for text in texts}))
        if isinstance(message, QueryMessage):
            return _named(message.query)
        return _named(self._texts.get(message.query_id, "?"))

    def _hook_kafka(self) -> None:
        around = self._around

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

        publishing.Producer = Counted  # type: ignore[misc]


def _named(text: str) -> str:
    """Verb and table of a statement."""
    found = _TABLE.search(text)
    words = [text.split(None, 1)[0], found[2].strip('"') if found else "?"]
    return " ".join([*words, *(["IF"] if " IF " in text else [])])
