"""What the server says of tables and of itself. Whatever many tables are asked for, the requests of one kind go out together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from cassandra import InvalidRequest
from cassandra.protocol import SyntaxException
from cassandra.query import ValueSequence

from account_merge.sunbird.schema import Capabilities

_COLUMNS = "SELECT table_name, column_name, kind, position, type, clustering_order FROM system_schema.columns"
_TABLES = "SELECT table_name FROM system_schema.tables"
_INDEXES = "SELECT table_name, options FROM system_schema.indexes"
_AT_ONCE = 8  # statements that are prepared side by side: the driver's own way is one after another


class ToldColumn(NamedTuple):
    """A column as `system_schema.columns` has it."""

    column_name: str
    kind: str
    position: int
    type: str
    clustering_order: str


@dataclass(frozen=True)
class Described:
    """What the server says of one table.

    :param types: real column -> the driver's type.
    :param indexed: real columns that have an index of their own.
    :param written: it is a table, no view.
    """

    columns: Sequence[ToldColumn]
    types: Mapping[str, Any]
    indexed: frozenset[str]
    written: bool = True


def described(session: Any, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], Described]:
    """Return what the server says of these tables, (keyspace, name); one that does not exist is not in it."""
    keyspaces = sorted({keyspace for keyspace, _ in wanted})
    begun = {}
    for keyspace in keyspaces:
        names = ValueSequence(sorted({name for of, name in wanted if of == keyspace}))
        for kind in (_COLUMNS, _TABLES, _INDEXES):
            where = f"{kind} WHERE keyspace_name=%s AND table_name IN %s"
            begun[keyspace, kind] = session.execute_async(where, (keyspace, names))
    rows: dict[tuple[str, str, str], list[list[Any]]] = {}
    for (keyspace, kind), future in begun.items():
        for table, *told in future.result():
            rows.setdefault((keyspace, table, kind), []).append(told)
    there = [(keyspace, name) for keyspace, name in wanted if (keyspace, name, _COLUMNS) in rows]
    types = _types(session, there)
    return {
        one: Described(
            [ToldColumn(*told) for told in rows[*one, _COLUMNS]], types[one],
            frozenset((options or {}).get("target", "").strip('"') for (options,) in rows.get((*one, _INDEXES), ())),
            (*one, _TABLES) in rows,
        ) for one in there
    }  # fmt: skip


def _types(session: Any, tables: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the driver's types of the columns of each table: what preparing a read of it answers."""

    def of(table: tuple[str, str]) -> dict[str, Any]:
        prepared = session.prepare('SELECT * FROM "{}"."{}"'.format(*table))
        return {column: cql_type for _, _, column, cql_type in prepared.result_metadata}

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(tables, pool.map(of, tables), strict=True))


def capabilities_of(session: Any) -> Capabilities:
    """Ask the server for its capabilities; nothing is written."""

    def understands(what: str) -> bool:
        try:
            session.prepare(f"SELECT {what} FROM system.local")
        except (InvalidRequest, SyntaxException):
            return False
        return True

    release = session.execute_async("SELECT release_version FROM system.local")
    with ThreadPoolExecutor(2) as pool:
        newest, each = pool.map(understands, ("MAXWRITETIME(tokens)", "WRITETIME(tokens)"))
    told = release.result().one()
    return Capabilities(str(told[0]) if told else "unknown", newest, each)


def columns_of(session: Any, keyspace: str) -> dict[str, list[str]]:
    """Return the columns of every table of a keyspace, sorted; none when there is no such keyspace."""
    tables = session.execute(f"{_TABLES} WHERE keyspace_name=%s", (keyspace,))
    found: dict[str, list[str]] = {table: [] for (table,) in tables}
    columns = session.execute(
        "SELECT table_name, column_name FROM system_schema.columns WHERE keyspace_name=%s", (keyspace,)
    )
    for table, column in columns:
        if table in found:  # a view shows what its table holds
            found[table].append(column)
    return {table: sorted(names) for table, names in sorted(found.items())}
