"""The journal as its database has it: statements that no part of the product sends, and everything in it as one text."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, inspect, text

if TYPE_CHECKING:
    import uuid

    from account_merge.service import Service


def sql(service: Service, statement: str, **values: Any) -> list[Row[Any]]:
    """The rows that a statement gives; one that changes rows is committed. A time without a zone is in UTC."""
    values = {n: v.replace(tzinfo=UTC) if isinstance(v, datetime) and not v.tzinfo else v for n, v in values.items()}
    with service.journal.transactions.begin() as connection:
        found = connection.execute(text(statement), values)
        return list(found.all()) if found.returns_rows else []


def empty(service: Service) -> None:
    """Removes everything but the journal's own id and key, and how far it has claimed: else it would claim all again."""
    kept = {"journal", "alembic_version", "scans"}
    tables = ", ".join(sorted({*inspect(service.journal.engine).get_table_names()} - kept))
    sql(service, f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
    sql(service, "DELETE FROM scans WHERE name NOT LIKE 'claimed/%'")


def journal_text(service: Service, *merge_ids: uuid.UUID) -> str:
    """The journal as somebody with a dump of it sees it, or what is there of these merges; packed values unpacked."""
    return "\n".join(_parts(service, merge_ids))


def _parts(service: Service, merge_ids: Collection[uuid.UUID]) -> Iterator[str]:
    for table in inspect(service.journal.engine).get_table_names():
        for row in sql(service, f"SELECT * FROM {table}"):
            values = row._mapping
            if table != "journal" and (not merge_ids or values.get("merge_id") in merge_ids):
                yield from (part for value in values.values() for part in texts(value))


def texts(value: Any) -> Iterator[str]:
    """A value as text, and unpacked if it is a packed one."""
    if not isinstance(value, bytes):
        yield str(value)
        return
    yield value.decode("latin-1")
    try:
        unpacked = zlib.decompress(value)
    except zlib.error:
        return
    yield unpacked.decode("latin-1")
    yield unpacked.decode(errors="replace")
