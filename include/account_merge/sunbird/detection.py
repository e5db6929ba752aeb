"""Detection: which real table and columns stand for a rule's, in both schema families and with every key variant. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from account_merge.errors import NeedsAttention
from account_merge.rules import TableRule
from account_merge.sunbird.catalogue import Described
from account_merge.sunbird.schema import Capabilities, Column, TableSchema

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


def real_name(logical: str, present: set[str]) -> str | None:
    """Return the column of the table that stands for a logical one: by its own name, else by an alias."""
    if logical in present:
        return logical
    for names in ALIASES:
        if logical in names:
            return next(iter(sorted(names & present)), None)
    return None


def kind_of(cql_type: str) -> str:
    """Return scalar, map, set or list; a frozen collection is written as a whole, like a scalar."""
    head = cql_type.split("<", 1)[0]
    return head if head in ("map", "set", "list") and "<" in cql_type else "scalar"


def orders_alike(kind: str, cql_type: Any) -> bool:
    """Whether a collection's elements are read in the order of their write times.

    A map is; a set is sorted by the driver, which sorts texts and whole numbers as Cassandra does.
    """
    return kind == "map" or (kind == "set" and cql_type.subtypes[0].typename in _SORTED)


def _key_names(rule: TableRule, primary: set[str], table: str) -> dict[str, str]:
    """Return logical key column -> the real one.

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
                "Name the right table in ACCOUNT_MERGE_TABLE_NAMES, or add the column's alias to detection.ALIASES.",
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
    table: Described, rule: TableRule, keyspace: str, name: str, capabilities: Capabilities | None = None
) -> TableSchema:
    """Return the rule's table in this cluster.

    :raises NeedsAttention: its key is not the rule's or cannot be put in order, or a merge cannot write it (a view, counters).
    """
    rows = table.columns
    _check_writable(table, f"{keyspace}.{name}")
    told = {row.column_name: row for row in rows}
    primary = {row.column_name for row in rows if row.kind in ("partition_key", "clustering")}
    names = _key_names(rule, primary, f"{keyspace}.{name}")
    _check_types(rule, {logical: told[actual].type for logical, actual in names.items()}, f"{keyspace}.{name}")
    logical_of = {actual: logical for logical, actual in names.items()}
    column = _columns(table.types, {actual: row.type for actual, row in told.items()}, capabilities)
    ordered = sorted(rows, key=lambda row: row.position)
    clustering = [row for row in ordered if row.kind == "clustering"]
    static = {row.column_name: "it is static: one value for a whole partition" for row in rows if row.kind == "static"}
    return TableSchema(
        keyspace,
        name,
        column(names[rule.user], rule.user),
        {logical: column(names[logical], logical) for logical in rule.key},
        {actual: column(actual, actual) for actual in sorted(told.keys() - primary - static.keys())},
        tuple(logical_of[row.column_name] for row in ordered if row.kind == "partition_key"),
        tuple(logical_of[row.column_name] for row in clustering),
        frozenset(logical_of.get(target, target) for target in table.indexed),
        _order(clustering),
        static,
    )


def _columns(
    types: Mapping[str, Any], told: Mapping[str, str], capabilities: Capabilities | None
) -> Callable[[str, str], Column]:
    """Return what makes a column of its real and its logical name.

    :param told: real column -> its type as the server writes it.
    """

    def column(actual: str, logical: str) -> Column:
        cql_type = told[actual]
        kind = kind_of(cql_type)
        # A type of the user's own that is not frozen has a write time for each of its fields.
        parted = hasattr(types[actual], "fieldnames") and not cql_type.startswith("frozen<")
        older = "WRITETIME" if kind == "scalar" and not parted else ""
        write_time = "MAXWRITETIME" if capabilities is None or capabilities.collection_write_times else older
        if capabilities is not None and capabilities.element_write_times and orders_alike(kind, types[actual]):
            write_time = "WRITETIME"
        whole = cql_type in _NATIVE or cql_type.startswith("frozen<")
        return Column(logical, actual, kind, types[actual], write_time, whole)

    return column


def _order(clustering: Sequence[Any]) -> str:
    """Return `TableSchema.order` of the clustering columns."""
    if any(row.type not in _ALIKE for row in clustering):
        return "mixed"
    directions = {row.clustering_order.lower() for row in clustering}
    return "mixed" if len(directions) > 1 else "falling" if directions == {"desc"} else "alike"


def _check_writable(table: Described, name: str) -> None:
    if not table.written:
        raise NeedsAttention(
            "NOT_A_TABLE",
            f"{name} is a materialised view: Cassandra writes it itself",
            "Name the table that the view is made of in ACCOUNT_MERGE_TABLE_NAMES.",
        )
    counters = sorted(row.column_name for row in table.columns if row.type == "counter")
    if counters:
        raise NeedsAttention(
            "NOT_A_TABLE",
            f"table {name} has counters ({', '.join(counters)}), which cannot be written with a timestamp: a "
            "write that is repeated would count twice",
            "Name a table without counters in ACCOUNT_MERGE_TABLE_NAMES.",
        )


def _check_types(rule: TableRule, types: Mapping[str, str], table: str) -> None:
    """Refuse a key that cannot be used: columns with values of other tables must be texts, Python must sort the others."""
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
