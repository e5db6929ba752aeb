"""Logical columns of the rules -> the real tables of this cluster; both schema families and every key variant.

Reads `system_schema` only; never writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cassandra import InvalidRequest
from cassandra.protocol import SyntaxException

from account_merge.errors import NeedsAttention
from account_merge.model import Key
from account_merge.rules import TableRule

#: Types by which Cassandra sorts as Python does (texts: by UTF-8 bytes, which is the order of code points).
_ALIKE = frozenset({
    "ascii", "text", "varchar", "blob", "boolean", "tinyint", "smallint", "int", "bigint", "varint", "decimal", "float",
    "double", "date", "time", "timestamp",
})  # fmt: skip
#: Types that Python can sort, otherwise than Cassandra does (which takes uuids by version and time).
_OTHERWISE = frozenset({"uuid", "timeuuid", "inet"})
_TEXTS = frozenset({"ascii", "text", "varchar"})
#: One concept, its names in the platform's schema families (Cassandra: courseid; Spark's YCQL: collectionid).
ALIASES: tuple[frozenset[str], ...] = (
    frozenset({"courseid", "collectionid", "course_id", "collection_id"}),
    frozenset({"batchid", "contextid", "batch_id", "context_id"}),
    frozenset({"userid", "user_id"}),
    frozenset({"contentid", "content_id"}),
)


_SORTED = frozenset({"text", "varchar", "ascii", "tinyint", "smallint", "int", "bigint", "varint"})


#: Types with one cell: a type of the platform's own that is not frozen has one for each field.
_NATIVE = _SORTED | {"blob", "boolean", "date", "decimal", "double", "duration", "float", "inet", "time", "timestamp"}
_NATIVE |= {"timeuuid", "uuid"}


@dataclass(frozen=True)
class Capabilities:
    """What this server can do, found out by asking it; nothing is guessed from its version.

    :param server: its release, for people.
    :param collection_write_times: the write time of a whole collection can be read. Without: a collection that the
        platform wrote with a clock ahead of ours is noticed only when it hides what a merge wrote.
    :param element_write_times: and so can that of each of its elements. Without: of a map or set only the newest is known.
    :param sai: storage-attached indexes. Without: the journal is searched through secondary indexes.
    """

    server: str
    collection_write_times: bool
    sai: bool
    element_write_times: bool = False


@dataclass(frozen=True)
class Column:
    """One column of a real table. `kind` is scalar, map, set or list (the last three non-frozen).

    :param write_time: the function that reads when it was written; empty where this server has none.
    :param expires: the server tells when the cell expires; of a collection no driver can read it.
    """

    logical: str
    actual: str
    kind: str
    cql_type: Any
    write_time: str = "MAXWRITETIME"
    expires: bool = False


@dataclass(frozen=True)
class TableSchema:
    """A rule's table as this cluster has it.

    :param key: logical key without the account -> column.
    :param partition: logical columns of the partition key; :param clustering: of the clustering key, in order.
    :param indexed: logical columns with a secondary or SAI index of their own.
    :param order: how each partition lies: `alike` where Cassandra sorts the clustering columns as Python does, all of them
        rising; `falling` where all of them fall; `mixed` otherwise.
    :param unmoved: columns that no merge moves -> why.
    """

    keyspace: str
    name: str
    user: Column
    key: Mapping[str, Column]
    columns: Mapping[str, Column]
    partition: tuple[str, ...]
    clustering: tuple[str, ...]
    indexed: frozenset[str]
    order: str = "alike"
    unmoved: Mapping[str, str] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """Quoted keyspace and table for CQL."""
        return f'"{self.keyspace}"."{self.name}"'

    @cached_property
    def frozen(self) -> frozenset[str]:
        """The columns that are written as a whole."""
        return frozenset(name for name, column in self.columns.items() if column.kind == "scalar")

    @property
    def by_account(self) -> bool:
        """The account alone is the partition key: its rows are read in one sorted sweep."""
        return self.partition == (self.user.logical,)

    def lies_by(self, columns: Sequence[str], known: Sequence[str] = ()) -> bool:
        """Whether the rows with one value in each of the columns `known` are read in the order of these key columns."""
        left = [c for c in self.clustering if c not in known]
        return self.order != "mixed" and set(self.partition) <= set(known) and left[: len(columns)] == list(columns)

    @property
    def names(self) -> frozenset[str]:
        """The real names of all columns that are known of it."""
        known = (self.user, *self.key.values(), *self.columns.values())
        return frozenset(column.actual for column in known) | self.unmoved.keys()

    def column(self, logical: str) -> Column:
        """Any column by its logical name."""
        if logical == self.user.logical:
            return self.user
        return self.key.get(logical) or self.columns[logical]

    def bind(self, account: str, key: Key) -> dict[str, Any]:
        """Logical column -> value of the whole primary key of an account's row."""
        return {self.user.logical: account, **dict(zip(self.key, key, strict=True))}


class Tables:
    """The real tables of this cluster by logical name; a table that the cluster lacks is not in it.

    :param look: finds them; asked when they are first needed, and anew after `forget`.
    """

    def __init__(self, look: Callable[[], Mapping[str, TableSchema]]) -> None:
        self._look = look
        self._found: Mapping[str, TableSchema] | None = None

    @property
    def schemas(self) -> Mapping[str, TableSchema]:
        """Logical name -> table, as they were when they were last looked at."""
        found = self._found
        if found is None:
            found = self._found = self._look()
        return found

    def forget(self) -> None:
        """Forget the tables, because one or a column of one is gone: the next question detects them anew."""
        self._found = None

    def of(self, rule: TableRule) -> TableSchema | None:
        """Return the rule's table, or None."""
        return self.schemas.get(rule.table)


def real_name(logical: str, present: set[str]) -> str | None:
    """Return the column of the table that stands for a logical one: by its own name, else by an alias."""
    if logical in present:
        return logical
    for names in ALIASES:
        if logical in names:
            return next(iter(sorted(names & present)), None)
    return None


def kind_of(cql_type: str) -> str:
    """scalar, map, set or list; a frozen collection is written as a whole, like a scalar."""
    head = cql_type.split("<", 1)[0]
    return head if head in ("map", "set", "list") and "<" in cql_type else "scalar"


def orders_alike(kind: str, cql_type: Any) -> bool:
    """Whether a collection's elements are read in the order of their write times.

    A map is; a set is sorted by the driver, which sorts texts and whole numbers as Cassandra does.
    """
    return kind == "map" or (kind == "set" and cql_type.subtypes[0].typename in _SORTED)


def capabilities_of(session: Any) -> Capabilities:
    """Ask the server; writes nothing."""

    def understands(cql: str) -> bool:
        try:
            session.prepare(cql)
        except (InvalidRequest, SyntaxException):
            return False
        return True

    release = session.execute("SELECT release_version FROM system.local").one()
    return Capabilities(
        str(release[0]) if release else "unknown",
        understands("SELECT MAXWRITETIME(tokens) FROM system.local"),
        understands("SELECT index_name FROM system_views.sai_column_indexes"),
        understands("SELECT WRITETIME(tokens) FROM system.local"),
    )


def columns_of(session: Any, keyspace: str) -> dict[str, list[str]]:
    """Return the columns of every table of a keyspace, sorted; none when there is no such keyspace."""
    tables = session.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name=%s", (keyspace,))
    found: dict[str, list[str]] = {row.table_name: [] for row in tables}
    columns = session.execute(
        "SELECT table_name, column_name FROM system_schema.columns WHERE keyspace_name=%s", (keyspace,)
    )
    for row in columns:
        if row.table_name in found:  # a view shows what its table holds
            found[row.table_name].append(row.column_name)
    return {table: sorted(names) for table, names in sorted(found.items())}


def _key_names(rule: TableRule, primary: set[str], table: str) -> dict[str, str]:
    """Logical key column -> the real one.

    :raises NeedsAttention: one cannot be recognised, or there is one that the rule does not know.
    """
    names: dict[str, str] = {}
    for logical in (rule.user, *rule.key):
        free = primary - set(names.values())
        actual = real_name(logical, free)
        if actual is None:
            raise NeedsAttention(
                "UNKNOWN_KEY",
                f"table {table} has no key column for {logical} (its key: {', '.join(sorted(primary))})",
                "Name the right table in ACCOUNT_MERGE_TABLE_NAMES, or add the column's alias to schema.ALIASES.",
            )
        names[logical] = actual
    if set(names.values()) != primary:
        raise NeedsAttention(
            "UNKNOWN_KEY",
            f"table {table} has key columns that its rule does not know: {', '.join(sorted(primary - set(names.values())))}",
            "Add the key variant to rules.RULES.",
        )
    return names


def detect(
    session: Any, rule: TableRule, keyspace: str, name: str, capabilities: Capabilities | None = None
) -> TableSchema | None:
    """Return the rule's table in this cluster, or None when the table does not exist.

    :raises NeedsAttention: the table exists, but its key is not the rule's or cannot be put in order, or it is none that
        a merge can write (a view, counters).
    """
    rows = list(
        session.execute(
            "SELECT column_name, kind, position, type, clustering_order FROM system_schema.columns "
            "WHERE keyspace_name=%s AND table_name=%s",
            (keyspace, name),
        )
    )
    if not rows:
        return None
    _check_writable(session, keyspace, name, rows)
    types = {
        column: cql_type
        for _, _, column, cql_type in session.prepare(f'SELECT * FROM "{keyspace}"."{name}"').result_metadata
    }
    told = {row.column_name: row for row in rows}
    primary = {row.column_name for row in rows if row.kind in ("partition_key", "clustering")}
    names = _key_names(rule, primary, f"{keyspace}.{name}")
    _check_types(rule, {logical: told[actual].type for logical, actual in names.items()}, f"{keyspace}.{name}")
    logical_of = {actual: logical for logical, actual in names.items()}

    def column(actual: str) -> Column:
        cql_type = told[actual].type
        kind = kind_of(cql_type)
        # A type of the user's own that is not frozen has a write time for each of its fields.
        parted = hasattr(types[actual], "fieldnames") and not cql_type.startswith("frozen<")
        older = "WRITETIME" if kind == "scalar" and not parted else ""
        write_time = "MAXWRITETIME" if capabilities is None or capabilities.collection_write_times else older
        if capabilities is not None and capabilities.element_write_times and orders_alike(kind, types[actual]):
            write_time = "WRITETIME"
        whole = told[actual].type in _NATIVE or told[actual].type.startswith("frozen<")
        return Column(logical_of.get(actual, actual), actual, kind, types[actual], write_time, whole)

    ordered = sorted(rows, key=lambda row: row.position)
    clustering = [row for row in ordered if row.kind == "clustering"]
    static = {row.column_name: "it is static: one value for a whole partition" for row in rows if row.kind == "static"}
    indexed = {
        (row.options or {}).get("target", "").strip('"')
        for row in session.execute(
            "SELECT options FROM system_schema.indexes WHERE keyspace_name=%s AND table_name=%s", (keyspace, name)
        )
    }
    return TableSchema(
        keyspace,
        name,
        column(names[rule.user]),
        {logical: column(names[logical]) for logical in rule.key},
        {actual: column(actual) for actual in sorted(told.keys() - primary - static.keys())},
        tuple(logical_of[row.column_name] for row in ordered if row.kind == "partition_key"),
        tuple(logical_of[row.column_name] for row in clustering),
        frozenset(logical_of.get(target, target) for target in indexed),
        _order(clustering),
        static,
    )


def _order(clustering: Sequence[Any]) -> str:
    """`TableSchema.order` of the clustering columns, as the server tells of them."""
    if any(row.type not in _ALIKE for row in clustering):
        return "mixed"
    directions = {row.clustering_order.lower() for row in clustering}
    return "mixed" if len(directions) > 1 else "falling" if directions == {"desc"} else "alike"


def _check_writable(session: Any, keyspace: str, name: str, rows: Sequence[Any]) -> None:
    table = session.execute(
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name=%s AND table_name=%s", (keyspace, name)
    )
    if not list(table):
        raise NeedsAttention(
            "NOT_A_TABLE",
            f"{keyspace}.{name} is a materialised view: Cassandra writes it itself",
            "Name the table that the view is made of in ACCOUNT_MERGE_TABLE_NAMES.",
        )
    counters = sorted(row.column_name for row in rows if row.type == "counter")
    if counters:
        raise NeedsAttention(
            "NOT_A_TABLE",
            f"table {keyspace}.{name} has counters ({', '.join(counters)}), which cannot be written with a timestamp: a "
            "write that is repeated would count twice",
            "Name a table without counters in ACCOUNT_MERGE_TABLE_NAMES.",
        )


def _check_types(rule: TableRule, types: Mapping[str, str], table: str) -> None:
    """Key columns whose values are taken from other tables are texts; Python can put the others in an order."""
    named = {rule.user, *rule.scope.columns, *rule.scope.constants}
    for logical, cql_type in types.items():
        fits = _TEXTS if logical in named else _ALIKE | _OTHERWISE
        if cql_type not in fits:
            words = "no text" if logical in named else "nothing that rows can be sorted by here"
            raise NeedsAttention(
                "UNKNOWN_KEY",
                f"the key column for {logical} in table {table} is a {cql_type}: {words}",
                "Name the right table in ACCOUNT_MERGE_TABLE_NAMES.",
            )
