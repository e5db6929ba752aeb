"""A column's value as JSON can hold it. Every page, command and digest writes values by this one function."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from account_merge.values import Unreadable

_LONG = 4096  # bits of a number


def jsonable(value: Any) -> Any:
    """Return a column's value in JSON's types; times as ISO 8601 in UTC.

    JSON has no NaN and no infinity, and readers take them for null: they are the texts "NaN", "Infinity", "-Infinity".
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int) and value.bit_length() > _LONG:
        return hex(value)  # Python refuses to write more digits, and so does many a reader
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds") + ("Z" if value.tzinfo is None else "")
    if isinstance(value, Mapping):
        return {k if isinstance(k, str) else str(jsonable(k)): jsonable(v) for k, v in value.items()}
    if hasattr(value, "_asdict"):
        return jsonable(value._asdict())
    if isinstance(value, set | frozenset):
        return sorted((jsonable(v) for v in value), key=str)
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date | uuid.UUID | Decimal | Unreadable) or type(value).__module__.startswith("cassandra"):
        return str(value)
    return value
