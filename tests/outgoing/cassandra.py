"""What leaves a process for Cassandra, in the driver before its socket. Says of what kind it is.

The driver's own talk (handshake, heartbeat, control connection) does not count.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from cassandra.cluster import Session
from cassandra.connection import Connection
from cassandra.protocol import BatchMessage, ExecuteMessage, PrepareMessage, QueryMessage

from tests.outgoing.patches import Put

#: (kind, send, let the request reach the server) -> what `send` returns.
Around = Callable[[str, Callable[[], Any], Callable[[], Any]], Any]
#: Called with the kind of a request before it is sent; returns what is called when its answer is there.
Begun = Callable[[str], Callable[[], None]]
#: s; lets a request reach Cassandra before its sender dies or stops.
REACHES = 0.03
PREPARE, CLOCK = "prepare", "SELECT local"
_TABLE = re.compile(r'(?:FROM|INTO|UPDATE)\s+("?\w+"?)\.("?\w+"?)', re.IGNORECASE)


def _nothing(kind: str) -> Callable[[], None]:
    return lambda: None


def hook(around: Around, put: Put, begun: Begun = _nothing) -> None:
    """Have `around` called with each request of this process to Cassandra."""
    send, prepare, texts = Connection.send_msg, Session.prepare, dict[bytes, str]()

    def sending(connection: Any, message: Any, request: int, cb: Any, *arguments: Any, **named: Any) -> Any:
        ours = isinstance(message, ExecuteMessage | BatchMessage | PrepareMessage | QueryMessage)
        if not ours or connection.is_control_connection:
            return send(connection, message, request, cb, *arguments, **named)

        kind = _kind(message, texts)

        def sent() -> Any:
            ended = begun(kind)

            def answered(response: Any) -> Any:
                ended()
                return cb(response)

            return send(connection, message, request, answered, *arguments, **named)

        return around(kind, sent, lambda: time.sleep(REACHES))

    def preparing(session: Any, query: str, *arguments: Any, **named: Any) -> Any:
        statement = prepare(session, query, *arguments, **named)
        texts[statement.query_id] = statement.query_string
        return statement

    put(Connection, "send_msg", sending)
    put(Session, "prepare", preparing)


def _kind(message: Any, texts: dict[bytes, str]) -> str:
    if isinstance(message, PrepareMessage):
        return PREPARE
    if isinstance(message, BatchMessage):
        found = [texts.get(query, str(query)) for prepared, query, _ in message.queries]
        return "batch " + ", ".join(sorted({_named(text) for text in found}))
    if isinstance(message, QueryMessage):
        return _named(message.query)
    return _named(texts.get(message.query_id, "?"))


def _named(text: str) -> str:
    """Verb and table of a statement."""
    found = _TABLE.search(text)
    words = [text.split(None, 1)[0], found[2].strip('"') if found else "?"]
    return " ".join([*words, *(["IF"] if " IF " in text else [])])
