"""The platform's official tables, read from the DDL in local/: what the rules are held against."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

LOCAL = Path(__file__).parents[3] / "local"


@dataclass(frozen=True)
class Table:
    """One CREATE TABLE: key columns in order, and every column with its type."""

    partition: tuple[str, ...]
    clustering: tuple[str, ...]
    columns: dict[str, str]


def tables(text: str) -> dict[str, Table]:
    """The tables of a CQL script by their name without the keyspace."""
    text = re.sub(r"--[^\n]*", "", text)
    found = {}
    for name, body in re.findall(r"CREATE TABLE IF NOT EXISTS \w+\.(\w+) \((.*?)\n\)", text, re.DOTALL):
        columns = dict(re.findall(r"^\s+([a-z_]+) ([a-z<>, ]+),$", body, re.MULTILINE))
        key = re.search(r"PRIMARY KEY \((?:\(([^)]*)\)|(\w+))((?:, \w+)*)\)", body)
        if key is None:
            raise ValueError(f"no primary key in {name}")
        partition = tuple(re.findall(r"\w+", key[1] or key[2]))
        found[name] = Table(partition, tuple(re.findall(r"\w+", key[3])), columns)
    return found


_BOTH = tables((LOCAL / "schema-groups.cql").read_text()) | tables((LOCAL / "schema-programs.cql").read_text())
FAMILIES = {
    "cassandra": tables((LOCAL / "schema.cql").read_text()) | _BOTH,
    "spark": tables((LOCAL / "schema-spark.cql").read_text()) | _BOTH,
}
#: What no official migration has.
EVENTS = tables((LOCAL.parent / "tests" / "schema-events.cql").read_text())
