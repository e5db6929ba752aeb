"""Reads the DDL files: the tests load the same text into keyspaces of their own."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: Schema family -> its DDL: how the platform's older and newer installations name the same columns.
FAMILIES = {"cassandra": HERE / "schema.cql", "spark": HERE / "schema-spark.cql"}
PLATFORM_KEYSPACE = "sunbird_courses"


def statements(family: str = "cassandra", keyspace: str = PLATFORM_KEYSPACE) -> list[str]:
    """The statements of one schema family for one keyspace, in order, each without its semicolon."""
    text = re.sub(r"--[^\n]*", "", FAMILIES[family].read_text())
    text = re.sub(rf"\b{PLATFORM_KEYSPACE}\b", keyspace, text)
    return [part.strip() for part in text.split(";") if part.strip()]
