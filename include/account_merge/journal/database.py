"""The journal's connection: each statement by itself, or several as one transaction; what PostgreSQL says as our errors.

Every acknowledged change is on the disk: sessions set `synchronous_commit`, whatever the server's own default is. A change
whose acknowledgement is lost may have been made or not: each caller reads it back by its key and may repeat the call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Executable, Row, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from account_merge.errors import NeedsAttention
from account_merge.journal.database_errors import database_error
from account_merge.settings import Settings

T = TypeVar("T")
Values = Mapping[str, Any] | Sequence[Mapping[str, Any]]
#: s; a connection that was idle for longer is tried before it is used: the server may have been restarted.
_IDLE = 1.0
#: What each session of ours has, and what `create-journal` gives the database for sessions behind a pooler. A process that
#: is frozen inside a transaction loses its locks, and nobody waits for a lock for ever.
SESSION = {"synchronous_commit": "on", "lock_timeout": "20s", "idle_in_transaction_session_timeout": "60s"}
#: A statement that a connection has seen so often is prepared in the server's session: no part of a merge is new to a process
#: that does many. A task, which does one, prepares none.
_PREPARED_FROM = 5
#: What libpq is told. Nothing is prepared until it is known whose session it is (see `_prepare`).
_OPTIONS = {
    "prepare_threshold": None, "connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 60_000,
    "application_name": "account-merge",
}  # fmt: skip


class Database:
    """Statements on the journal's database; it connects when it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._local = threading.local()

    @cached_property
    def engine(self) -> Engine:
        """The pool of connections; on each, a statement is a transaction by itself."""
        if not self.settings.journal_url:
            raise NeedsAttention(
                "NO_JOURNAL_URL",
                "nothing says where the journal is",
                "Set ACCOUNT_MERGE_JOURNAL_URL, or the Airflow connection account_merge_journal, to a PostgreSQL database.",
            )
        url = make_url(self.settings.journal_url).set(drivername="postgresql+psycopg")
        engine = create_engine(
            url, connect_args=_OPTIONS, pool_size=4, max_overflow=12, pool_timeout=30,
            isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True,
        )  # fmt: skip
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "checkout", _try_idle)
        event.listen(engine, "checkin", _note_use)
        return engine

    @cached_property
    def transactions(self) -> Engine:
        """The same pool, for several statements that are made together."""
        return self.engine.execution_options(isolation_level="READ COMMITTED")

    def close(self) -> None:
        """Close all connections."""
        if "engine" in self.__dict__:
            self.engine.dispose()

    @property
    def where(self) -> str:
        """Host, port and name of the database, for messages; never its password."""
        url = make_url(self.settings.journal_url)
        return f"{url.host or 'localhost'}:{url.port or 5432}/{url.database}"

    # --- statements -------------------------------------------------------------------------------------------------
    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, DisconnectionError, PoolTimeout) as error:
            raise database_error(error, self.where) from (error.orig if isinstance(error, DBAPIError) else error)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Yield the transaction of this thread that is open, or a connection on which each statement is one."""
        open_ = getattr(self._local, "connection", None)
        if open_ is not None:
            yield open_
            return
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all statements of this thread inside one transaction; an error takes all of them back.

        Inside another transaction it is a part of that one.

        :raises TransientError: the outcome is unknown, or others had the same rows in another order; read, and repeat.
        """
        if getattr(self._local, "connection", None) is not None:
            yield
            return
        with self._asking(), self.transactions.connect() as connection, connection.begin():
            self._local.connection = connection
            try:
                yield
            finally:
                self._local.connection = None

    def rows(self, statement: Executable, values: Values | None = None) -> list[Row[Any]]:
        """Return the rows of a statement: of a query, or those that a change returns."""
        with self._asking(), self._connection() as connection:
            return list(connection.execute(statement, values).all())

    def row(self, statement: Executable, values: Values | None = None) -> Row[Any] | None:
        """Return the first row, or None."""
        found = self.rows(statement, values)
        return found[0] if found else None

    def value(self, statement: Executable, values: Values | None = None) -> Any:
        """Return the first column of the first row, or None."""
        found = self.row(statement, values)
        return None if found is None else found[0]

    def run(self, statement: Executable, values: Values | None = None) -> int:
        """Make a change; return how many rows it changed."""
        with self._asking(), self._connection() as connection:
            changed = connection.execute(statement, values, execution_options={"preserve_rowcount": True}).rowcount
        assert changed >= 0, "the driver did not say how many rows changed"
        return int(changed)

    def page_by_page(
        self, page: Callable[[T | None], Sequence[Row[Any]]], place: Callable[[Row[Any]], T], size: int
    ) -> Iterator[Row[Any]]:
        """Yield the rows of pages that begin behind the last row of the page before.

        :param page: the place behind which it begins (None: the first) -> at most `size` rows.
        :param place: a row's place in the order.
        """
        after: T | None = None
        while True:
            found = page(after)
            yield from found
            if len(found) < size:
                return
            after = place(found[-1])


def _prepare(connection: Any, record: Any) -> None:
    """Set what each of our sessions needs, before the pool hands it out.

    Behind a pooler in transaction mode no statement may stay prepared, since the next one may go to another session. A pooler
    answers for the server when a connection is made, and names a process that is not the server's.
    """
    with connection.cursor() as cursor:
        settings = (f"SET {name} = '{value}'" for name, value in SESSION.items())
        cursor.execute("; ".join((*settings, "SELECT pg_backend_pid()")))
        while cursor.nextset():
            pass
        (process,) = cursor.fetchone()
    connection.commit()
    if process == connection.info.backend_pid:
        connection.prepare_threshold = _PREPARED_FROM


def _try_idle(connection: Any, record: Any, proxy: Any) -> None:
    """Try a connection that was idle; the pool opens another one when it is dead."""
    used = record.info.get("used")
    if used is None or time.monotonic() - used < _IDLE:
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.rollback()
    except Exception as error:
        raise DisconnectionError("the connection is gone") from error


def _note_use(connection: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()
