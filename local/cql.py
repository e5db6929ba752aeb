"""Reads the DDL files: the tests load the same text into keyspaces of their own."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
_BOTH = (HERE / "schema-groups.cql", HERE / "schema-programs.cql")
#: Schema family -> its DDL: how the platform's older and newer installations name the same columns.
FAMILIES = {"cassandra": (HERE / "schema.cql", *_BOTH), "spark": (HERE / "schema-spark.cql", *_BOTH)}
PLATFORM_KEYSPACES = ("sunbird_courses", "sunbird_groups", "sunbird_programs")
USERS = "sunbird"


def users(keyspace: str = USERS) -> list[str]:
    """Return the statements that make the platform's accounts, in a keyspace of their own."""
    text = (HERE / "schema-users.cql").read_text()
    return [re.sub(rf"\b{USERS}\b", keyspace, part) for part in split(text)]


def statements(family: str = "cassandra", keyspace: str = "") -> list[str]:
    """Return the statements of one schema family, in order, each without its semicolon.

    :param keyspace: one for all tables, instead of the platform's own three.
    """
    return [part for path in FAMILIES[family] for part in split(path.read_text(), keyspace)]


def split(text: str, keyspace: str = "") -> list[str]:
    """Return the statements of a CQL script."""
    text = re.sub(r"--[^\n]*", "", text)
    if keyspace:
        text = re.sub(rf"\b({'|'.join(PLATFORM_KEYSPACES)})\b", keyspace, text)
    return [part.strip() for part in text.split(";") if part.strip()]
