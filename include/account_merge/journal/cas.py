"""Statements on the journal's keyspace: conditional writes, and SERIAL reads."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.query import PreparedStatement

from account_merge.connection.driver_errors import DRIVER_ERRORS, driver_error
from account_merge.errors import MergeError, NeedsAttention
from account_merge.settings import Settings

BUCKET = 100  # entries in a partition: at most 100 MiB of payload, 2 MB in the usual case
NO_MERGE = uuid.UUID(int=0)  # the merge id of entries that belong to no merge
#: How an account id begins that was erased; the rest is its hash.
ERASED = "erased:"


class JournalSession:
    """Prepared statements on the journal's keyspace: conditional writes and SERIAL reads."""

    def __init__(self, session: Any, settings: Settings) -> None:
        self.session = session
        self.settings = settings
        self.keyspace = f'"{settings.journal_keyspace}"'
        self._prepared: dict[tuple[str, bool], PreparedStatement] = {}
        self._hash_key = b""

    def _prepare(self, cql: str, serial: bool) -> PreparedStatement:
        if (cql, serial) not in self._prepared:
            try:
                statement = self.session.prepare(cql.replace("{ks}", self.keyspace))
            except DRIVER_ERRORS as error:
                raise self.as_error(error) from error
            statement.consistency_level = ConsistencyLevel.SERIAL if serial else ConsistencyLevel.QUORUM
            statement.serial_consistency_level = ConsistencyLevel.SERIAL
            self._prepared[cql, serial] = statement
        return self._prepared[cql, serial]

    def as_error(self, error: BaseException) -> MergeError:
        """Return the error of a keyspace, table or column of the journal that is missing."""
        told = driver_error("answer the journal", error, self.settings)
        return self.not_created() if told.code == "SCHEMA_CHANGED" else told

    def not_created(self) -> MergeError:
        """Return the error of a journal that was never created, or is older than this program."""
        return NeedsAttention(
            "NO_JOURNAL",
            f"the journal in keyspace {self.settings.journal_keyspace} does not exist or is older than this program",
            "Run `python -m account_merge create-journal` with this program's version.",
        )

    def read(self, cql: str, values: Sequence[Any] = (), serial: bool = True) -> list[Any]:
        """Return rows of a SERIAL read of one partition, or (`serial` false) of a QUORUM read."""
        return list(self.stream(cql, values, serial))

    def stream(self, cql: str, values: Sequence[Any] = (), serial: bool = True, fetch_size: int = 500) -> Iterator[Any]:
        """Yield the same, page by page."""
        bound = self._prepare(cql, serial).bind(values)
        bound.fetch_size = fetch_size
        try:
            yield from self.session.execute(bound)
        except DRIVER_ERRORS as error:
            raise self.as_error(error) from error

    def read_all(self, cql: str, values: Sequence[Sequence[Any]]) -> Iterator[list[Any]]:
        """Yield the rows of several QUORUM reads that are under way at the same time, in the order of their values."""
        statement = self._prepare(cql, False)
        try:
            futures = [self.session.execute_async(statement, each) for each in values]
            for future in futures:
                yield list(future.result())
        except DRIVER_ERRORS as error:
            raise self.as_error(error) from error

    def write_if(self, cql: str, values: Sequence[Any]) -> bool:
        """Whether a conditional write applied.

        :raises TransientError: the outcome is unknown; read again and repeat.
        """
        try:
            return bool(self.session.execute(self._prepare(cql, False), values).was_applied)
        except DRIVER_ERRORS as error:
            raise self.as_error(error) from error

    def make_hash_key(self) -> None:
        """Make the key of all hashes, once in the life of a journal."""
        self.write_if(
            "INSERT INTO {ks}.log (merge_id, table_name, bucket, seq, kind, payload, created_at) "
            "VALUES (?, 'hash key', 0, 0, 'key', ?, ?) IF NOT EXISTS",
            [NO_MERGE, os.urandom(32), now()],
        )

    def hashed(self, *parts: bytes) -> bytes:
        """Return a keyed hash (16 bytes) of the parts: the same in every process, and nothing without the journal's key."""
        if not self._hash_key:
            rows = self.read(
                "SELECT payload FROM {ks}.log WHERE merge_id = ? AND table_name = 'hash key' AND bucket = 0", [NO_MERGE]
            )
            if not rows:
                raise self.not_created()
            self._hash_key = rows[0].payload
        whole = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hashlib.blake2b(whole, key=self._hash_key, digest_size=16).digest()

    def hidden(self, text: str) -> str:
        """Return what the journal keeps of a text that it only has to recognise."""
        return self.hashed(b"hidden", text.encode()).hex()

    def erased_id(self, account_id: str) -> str:
        """Return what stands for an account id once it is erased; of one that is erased, itself."""
        if account_id.startswith(ERASED):
            return account_id
        return ERASED + self.hashed(b"account", account_id.encode()).hex()


def now() -> datetime:
    """Return the present, as the driver wants it (naive UTC, whole milliseconds)."""
    moment = datetime.now(UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
