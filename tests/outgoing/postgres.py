"""What leaves a process for PostgreSQL: each statement, each BEGIN, COMMIT and ROLLBACK. Says of what kind it is.

The driver's own talk does not count: what it asks when it connects, and whether a connection that was idle still lives.
"""

from __future__ import annotations

import os
import re
import select
import socket
from collections.abc import Callable, Generator
from typing import Any

import psycopg
from psycopg._connection_base import BaseConnection
from psycopg._cursor_base import BaseCursor
from sqlalchemy import Engine

from account_merge.journal.schema import metadata
from tests.outgoing.patches import Put

#: (kind, send, wait for the answer without reading it, the client's port) -> what `send` returns.
Around = Callable[[str, Callable[[], Any], Callable[[], Any], Callable[[], int]], Any]
#: s until an answer is there; nobody else holds what a statement of these works needs for longer.
ANSWERED = 30.0
_CHANGES = re.compile(r"(INSERT) INTO (\w+)|(UPDATE) (\w+) SET|(DELETE) FROM (\w+)")
_COLUMNS = re.compile(r"INSERT INTO (\w+) \(([^)]*)\) (?:VALUES \(|SELECT )(.*)", re.DOTALL)
#: Of these tables a kind says also what is stored: an entry's kind, a merge's next state.
_TELLING = {"log": "kind", "merges": "state"}


def of_journal(kind: str) -> bool:
    """Whether a request of this kind goes to PostgreSQL."""
    verb, _, rest = kind.partition(" ")
    return verb in ("BEGIN", "COMMIT", "ROLLBACK") or rest.split(" ")[0].rstrip(",") in metadata.tables


def hook(around: Around, put: Put) -> None:
    """Have `around` called with each request of this process to PostgreSQL."""
    _Hook(around, put)


class _Hook:
    """Stands between psycopg and libpq."""

    def __init__(self, around: Around, put: Put) -> None:
        self._around, self._put = around, put
        self._connecting = False
        self._changed: list[str] = []  # by the transaction that is open
        self._hook_pool()
        self._hook_statements()
        self._hook_many()
        self._hook_commands()

    def _ask(self, kind: str, send: Callable[[], Any], connection: Any) -> Any:
        if self._connecting:
            return send()
        pgconn = connection.pgconn
        return self._around(kind, send, lambda: answered(pgconn), lambda: client_port(pgconn))

    def _hook_pool(self) -> None:
        raw_connection = Engine.raw_connection

        def connecting(engine: Any) -> Any:
            self._connecting = True
            try:
                return raw_connection(engine)
            finally:
                self._connecting = False

        self._put(Engine, "raw_connection", connecting)

    def _hook_statements(self) -> None:
        for name in ("_execute_send", "_send_query_prepared"):  # a session prepares what it has sent some times
            self._put(BaseCursor, name, self._sending(getattr(BaseCursor, name)))

    def _sending(self, send: Callable[..., None]) -> Callable[..., Any]:
        def sending(cursor: Any, *arguments: Any, **named: Any) -> Any:
            if cursor._conn._pipeline:
                return send(cursor, *arguments, **named)
            query = arguments[-1]
            kind = named_kind(query.query.decode(), query.params or ())
            if not cursor._conn.autocommit and not kind.startswith("SELECT"):
                self._changed.append(kind)
            return self._ask(kind, lambda: send(cursor, *arguments, **named), cursor._conn)

        return sending

    def _hook_many(self) -> None:
        """Several rows by one call are one request: psycopg sends them in one go, always inside a transaction."""
        many = psycopg.Cursor.executemany

        def sending(cursor: Any, query: Any, *arguments: Any, **named: Any) -> None:
            kind = named_kind(query if isinstance(query, str) else query.decode())
            self._changed.append(kind)
            pgconn = cursor.connection.pgconn
            self._around(
                kind,
                lambda: many(cursor, query, *arguments, **named),
                lambda: None,  # the call returns when the answers are there
                lambda: client_port(pgconn),
            )

        self._put(psycopg.Cursor, "executemany", sending)

    def _hook_commands(self) -> None:
        command = BaseConnection._exec_command

        def commanding(connection: Any, words: Any, *arguments: Any, **named: Any) -> Generator[Any, Any, Any]:
            going = command(connection, words, *arguments, **named)
            if connection._pipeline:
                return (yield from going)
            kind = words.decode().split()[0] if isinstance(words, bytes) else str(words)
            if kind != "BEGIN" and not self._connecting:
                kind, self._changed = " ".join([kind, *_main(self._changed)]), []
            waits = self._ask(kind, lambda: next(going), connection)  # a generator sends at its first step
            try:
                while True:
                    waits = going.send((yield waits))
            except StopIteration as end:
                return end.value

        self._put(BaseConnection, "_exec_command", commanding)


def _main(changed: list[str]) -> list[str]:
    """Return what names a transaction: its change of a merge, else its last change; nothing of one that only read."""
    return [kind for kind in changed if " merges" in kind][-1:] or changed[-1:]


def answered(pgconn: Any) -> None:
    """Wait until the server has done what was sent: its answer lies in the socket, unread."""
    while pgconn.flush():
        select.select([], [pgconn.socket], [], ANSWERED)
    if not select.select([pgconn.socket], [], [], ANSWERED)[0]:
        raise AssertionError("PostgreSQL does not answer")


def client_port(pgconn: Any) -> int:
    """Return the port by which the other end knows this connection."""
    with socket.socket(fileno=os.dup(pgconn.socket)) as same:
        return int(same.getsockname()[1])


def is_whole(answer: bytes) -> bool:
    """Whether PostgreSQL has done what was sent: its answer ends with ReadyForQuery, which follows the commit."""
    return answer[-6:-1] == b"Z\x00\x00\x00\x05"


def named_kind(text: str, values: Any = ()) -> str:
    """Verb and table of what a statement changes, or of what it reads; of some tables also what it stores."""
    found = []
    for match in _CHANGES.finditer(text):
        verb, table = (part for part in match.groups() if part)
        told = _told(text, verb, table, values) if table in _TELLING else ""
        found.append(f"{verb} {table}{told}")
    if found:
        return ", ".join(found)
    read = re.search(r"FROM (\w+)", text)
    locks = " to keep" if re.search(r"FOR (NO KEY UPDATE|UPDATE|SHARE)", text) else ""
    return f"SELECT {read[1] if read else '?'}{locks}"


def _told(text: str, verb: str, table: str, values: Any) -> str:
    """Return the value of the telling column, with a blank before it; nothing where no single value is stored."""
    column = _TELLING[table]
    if verb == "UPDATE":
        place = re.search(rf"UPDATE {table} SET [^;]*?\b{column}=\$(\d+)", text.split(" WHERE ")[0])
    else:
        place = None
        if (found := _COLUMNS.search(text)) and found[1] == table:
            number = [name.strip() for name in found[2].split(",")].index(column)
            parts = re.split(r",\s*", found[3])
            place = re.match(r"\$(\d+)", parts[number]) if number < len(parts) else None
    value = values[int(place[1]) - 1] if place and int(place[1]) <= len(values) else None
    return f" {bytes(value).decode()}" if value is not None else ""
