"""The rules' tables as this cluster has them: the real column of each logical one, the key, and how partitions lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from account_merge.model import Key
from account_merge.rules import TableRule

_TEXTS = 4096  # statements that are kept ready


@dataclass(frozen=True)
class Capabilities:
    """Capabilities of this server, which it was asked for; nothing is guessed from its version.

    :param server: its release, for people.
    :param collection_write_times: the write time of a whole collection can be read. Without: a collection that the
        platform wrote with a clock ahead of ours is noticed only when it hides what a merge wrote.
    :param element_write_times: the write time of each element can be read too. Without: only the newest of a map or set.
    """

    server: str
    collection_write_times: bool
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

    @cached_property
    def put(self) -> str:
        """What puts a value into it, in a statement."""
        return f'"{self.actual}" = ?'


@dataclass(frozen=True)
class RowInCql:
    """The primary key of a table's row as statements name it.

    :param order: logical columns, in the order of the values.
    :param names: their quoted names.
    """

    table: str
    order: tuple[str, ...]
    names: tuple[str, ...]

    @cached_property
    def where(self) -> str:
        """The condition that names one row."""
        return " AND ".join(f"{name} = ?" for name in self.names)

    @lru_cache(maxsize=_TEXTS)  # noqa: B019 - of a table, and there are few; each row of a merge needs one of a few texts
    def insert(self, sets: tuple[str, ...]) -> str:
        """Return what makes a row, with what is put into some columns (`"column" = ?`)."""
        names = (*self.names, *(one.removesuffix(" = ?") for one in sets))
        values = ", ".join("?" * len(names))
        return f"INSERT INTO {self.table} ({', '.join(names)}) VALUES ({values}) USING TIMESTAMP ?"  # noqa: S608 - as the cluster has them

    @lru_cache(maxsize=_TEXTS)  # noqa: B019 - as above
    def update(self, sets: tuple[str, ...], expires: bool) -> str:
        """Return what puts something into some columns of a row, for good or for some seconds."""
        ends = " AND TTL ?" if expires else ""
        return f"UPDATE {self.table} USING TIMESTAMP ?{ends} SET {', '.join(sets)} WHERE {self.where}"  # noqa: S608


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

    @cached_property
    def timed(self) -> tuple[str, ...]:
        """The columns of which the server tells when they were written."""
        return tuple(name for name, column in self.columns.items() if column.write_time)

    @cached_property
    def parted(self) -> tuple[str, ...]:
        """The columns of which the server may tell when each element was written."""
        return tuple(name for name in self.timed if self.columns[name].kind != "scalar")

    @cached_property
    def mortal(self) -> tuple[str, ...]:
        """The columns of which the server tells when their cell expires."""
        return tuple(name for name, column in self.columns.items() if column.expires)

    @cached_property
    def named(self) -> RowInCql:
        """The key of a row in statements."""
        order = (*self.partition, *self.clustering)
        return RowInCql(self.full_name, order, tuple(f'"{self.column(c).actual}"' for c in order))

    @property
    def by_account(self) -> bool:
        """The account alone is the partition key: its rows are read in one sorted sweep."""
        return self.partition == (self.user.logical,)

    @property
    def leading(self) -> list[str]:
        """The leading key columns that must be known to read an account's rows."""
        order = [*self.partition, *self.clustering]
        return order[: max(order.index(self.user.logical) + 1, len(self.partition))]

    def lies_by(self, columns: Sequence[str], known: Sequence[str] = ()) -> bool:
        """Whether the rows with one value in each of the columns `known` are read in the order of these key columns."""
        left = [c for c in self.clustering if c not in known]
        return self.order != "mixed" and set(self.partition) <= set(known) and left[: len(columns)] == list(columns)

    @property
    def names(self) -> frozenset[str]:
        """The real names of all known columns."""
        known = (self.user, *self.key.values(), *self.columns.values())
        return frozenset(column.actual for column in known) | self.unmoved.keys()

    def column(self, logical: str) -> Column:
        """Return any column by its logical name."""
        if logical == self.user.logical:
            return self.user
        return self.key.get(logical) or self.columns[logical]

    def bind(self, account: str, key: Key) -> dict[str, Any]:
        """Return logical column -> value of the whole primary key of an account's row."""
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
        """Logical name -> table, as last detected."""
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
