"""The journal's tables as statements name them. Keys, checks and indexes are in the migrations, which make the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    literal,
    text,
    tuple_,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import JSON, TIMESTAMP, Insert

metadata = MetaData()


class Utc(TypeDecorator[datetime]):
    """A moment: in UTC without a zone in Python, with a zone in PostgreSQL."""

    impl = TIMESTAMP(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the moment its zone."""
        return None if value is None else value.replace(tzinfo=UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Take the zone away, whatever zone the session has."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)


class Word(TypeDecorator[str]):
    """A word of an enumeration (`states`), stored as its text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the bare text: the driver stores a member of an enumeration by its name otherwise."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the text as it is."""
        return value


class Words(TypeDecorator[str]):
    """A text for people. PostgreSQL holds no NUL and no half of a surrogate pair: a mark stands in their place."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace what PostgreSQL cannot hold."""
        return None if value is None else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the text as it is."""
        return value


class Digests(TypeDecorator[Mapping[str, bytes]]):
    """Digests by the names of their logs: an object of hexadecimal texts."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, bytes] | None, dialect: Dialect) -> Any:
        """Write each digest as text."""
        return {name: digest.hex() for name, digest in (value or {}).items()}

    def process_result_value(self, value: Any, dialect: Dialect) -> dict[str, bytes]:
        """Read each digest."""
        return {name: bytes.fromhex(text) for name, text in (value or {}).items()}


class _Once(Insert):
    """An insertion of rows that are not there.

    PostgreSQL's own insertion of SQLAlchemy has its text made anew each time (2 ms for an entry of the log). Here the last
    clause is always the same text, so it may be kept.
    """

    inherit_cache = True
    _post_values_clause = text("ON CONFLICT DO NOTHING")


def insert_once(table: Table) -> Insert:
    """Return an insertion that leaves out the rows that are there already."""
    return _Once(table)


def beyond(columns: Sequence[Column[Any]], place: Sequence[Any], back: bool = False) -> ColumnElement[bool]:
    """Return the condition that a row stands behind (or `back`: before) a place in the order of these columns."""
    at = tuple_(*(literal(value, column.type) for column, value in zip(columns, place, strict=True)))
    return tuple_(*columns) < at if back else tuple_(*columns) > at


#: One row: who this journal is.
journal = Table(
    "journal", metadata,
    Column("journal_id", Uuid, primary_key=True),
    Column("hash_key", LargeBinary),
    Column("created_at", Utc),
)  # fmt: skip

#: One row a merge: what was asked, and how far it is.
merges = Table(
    "merges", metadata,
    Column("merge_id", Uuid, primary_key=True),
    Column("state", Word),
    Column("attempt", Integer),
    # What was asked for.
    Column("sources", ARRAY(Text)),
    Column("target", Text),
    Column("tables", ARRAY(Text)),
    Column("on_conflict", Text),
    Column("source_rows", Text),
    Column("dry_run", Boolean),
    Column("tenant", Words),
    Column("dated", BigInteger),  # ms since the epoch
    Column("seeded", Boolean),
    Column("deactivate_sources", Boolean),
    Column("choices", Words),
    Column("doubt", Words),
    Column("reason", Words),
    Column("requested_by", Words),
    Column("origin", Word),
    Column("mid", Words),
    Column("topic_position", Text),
    Column("raw", LargeBinary),
    Column("parent", Uuid),
    # How far it is.
    Column("survivor", Text),
    Column("rules_hash", Text),
    Column("run_ids", ARRAY(Text)),
    Column("resume", Text),
    Column("waiting_for", Text),
    Column("waiting_holder", Uuid),
    Column("operation", Text),
    Column("sync_sent", Integer),
    Column("replayed_as", Uuid),
    Column("digests", Digests),
    Column("note", Words),
    Column("error_code", Text),
    Column("error", Words),
    Column("remedy", Words),
    # Its failed event.
    Column("failed_event", Text),
    Column("failed_number", Integer),
    Column("failed_at", Utc),
    Column("failed_offsets", JSON),
    # Its proposal.
    Column("plan", LargeBinary),
    Column("approved_by", Words),
    Column("approval_run", Text),
    # What comes after it.
    Column("settles", Integer),
    Column("settle_at", Utc),
    Column("expiry", Text),
    Column("images_gone", Utc),
    Column("former", Word),
    Column("created_at", Utc),
    Column("state_at", Utc),
    Column("updated_at", Utc),
    Column("closed_at", Utc),
)  # fmt: skip

#: The accounts that a merge names: its sources, the target that was asked for, and the one that it writes to.
merge_accounts = Table(
    "merge_accounts", metadata,
    Column("account_id", Text, primary_key=True),
    Column("merge_id", Uuid, primary_key=True),
)  # fmt: skip

#: One row an account: the open merge that holds it.
accounts = Table(
    "accounts", metadata,
    Column("account_id", Text, primary_key=True),
    Column("held_by", Uuid),
    Column("role", Text),
    Column("wanted", Boolean),  # a merge waits, or waited, for the account
)  # fmt: skip

#: What each account gave as a source and received as a target, in order; an undo or redo is received by its name.
moves = Table(
    "moves", metadata,
    Column("account_id", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("merge_id", Uuid, primary_key=True),
    Column("operation", Text, primary_key=True),
    Column("position", BigInteger),
)  # fmt: skip

#: The write-ahead log of absolute values: one row an entry.
log = Table(
    "log", metadata,
    Column("merge_id", Uuid, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", Word),
    Column("last_key", LargeBinary),
    Column("base", BigInteger),  # µs since the epoch
    Column("attempts", Integer),
    Column("writer", Uuid),
    Column("counts", JSON),
    Column("payload", LargeBinary),
    Column("kept", LargeBinary),
    Column("salt", LargeBinary),
    Column("sealed", LargeBinary),
    Column("digest", LargeBinary),
    Column("note", Words),
    Column("created_at", Utc),
)  # fmt: skip

#: The plan of a proposed merge, as digests.
plans = Table(
    "plans", metadata,
    Column("merge_id", Uuid, primary_key=True),
    Column("table_name", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("digests", LargeBinary),
    Column("counts", JSON),  # of the last one only: the plan is whole
)  # fmt: skip

#: Failed events of failures after which the merge went on before they were published.
failed_events = Table(
    "failed_events", metadata,
    Column("merge_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", Text),
    Column("code", Text),
    Column("error", Words),
    Column("remedy", Words),
    Column("refused", Boolean),
    Column("sent_at", Utc),
    Column("offsets", JSON),
)  # fmt: skip

#: Every change of a merge's state.
history = Table(
    "history", metadata,
    Column("merge_id", Uuid, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("at", Utc),
    Column("before", Word),
    Column("after", Word),
    Column("actor", Words),
    Column("run_id", Text),
    Column("task_id", Text),
    Column("note", Words),
    Column("error_code", Text),
    Column("error", Words),
)  # fmt: skip

#: The kill switches that are on.
stops = Table(
    "stops", metadata,
    Column("tenant", Text, primary_key=True),
    Column("actor", Words),
    Column("reason", Words),
    Column("since", Utc),
)  # fmt: skip

#: What a person did that belongs to no merge.
acts = Table(
    "acts", metadata,
    Column("position", BigInteger, primary_key=True),
    Column("of", Text),
    Column("what", Text),
    Column("about", LargeBinary),
    Column("note", Words),
    Column("at", Utc),
)  # fmt: skip

#: How far a search through the whole platform has come, and what it has found.
scans = Table(
    "scans", metadata,
    Column("name", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("entry", JSON),
    Column("at", Utc),
)  # fmt: skip
