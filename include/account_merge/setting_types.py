"""The types of settings: how each is described, read from text and checked, and the words for a bad value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, ValidationInfo

#: Options of the Kafka client that "nothing lost, nothing twice" hangs on; `KAFKA_CONFIG` cannot change them.
FIXED_KAFKA_OPTIONS = frozenset({
    "bootstrap.servers", "metadata.broker.list", "group.id", "enable.auto.commit", "enable.auto.offset.store",
    "auto.offset.reset", "isolation.level", "enable.partition.eof", "enable.idempotence", "acks",
    "request.required.acks", "transactional.id", "message.timeout.ms", "delivery.timeout.ms",
})  # fmt: skip

_PLAIN_NAME = r"\A[a-z][a-z0-9_]{0,47}\Z"
#: Nothing, or a PostgreSQL address with a database. SQLAlchemy takes a database's name as it stands: no escapes in it.
_DATABASE_URL = r"\A(?:(?:postgres|postgresql|postgresql\+psycopg)://[^/?#\s]*/[\w.-]+(?:\?[^#\s]*)?)?\Z"
_NO_DATABASE_URL = "is not an address like postgresql://user:password@host:5432/database"


@dataclass(frozen=True)
class Kind:
    """The words and the reader of a type of setting.

    :param says: what its variable holds, for docs/settings.md.
    :param wrong: what is wrong with a value of another type or form.
    :param read: the value that a text in the environment stands for.
    """

    says: str
    wrong: str
    read: Callable[[str], Any] = str


def _fill_in_environment(name: Any, info: ValidationInfo) -> Any:
    return name.replace("{env}", info.data.get("env", "")) if isinstance(name, str) else name


def _no_fixed_options(options: dict[str, Any]) -> dict[str, Any]:
    if fixed := sorted(FIXED_KAFKA_OPTIONS & set(options)):
        raise ValueError(f"sets {', '.join(fixed)}, which this product decides itself")
    return options


def _names_of_tables(names: Any) -> Any:
    for pair in names.items() if isinstance(names, dict) else ():
        if not all(isinstance(name, str) and re.match(_PLAIN_NAME, name) for name in pair):
            raise ValueError(f"has an entry that is not a table's name for a table's name: {str(pair[0])[:60]!r}")
    if isinstance(names, dict) and len(set(names.values())) != len(names):
        raise ValueError("gives one real table to two of ours")
    return names


def _rising(pauses: tuple[float, ...]) -> tuple[float, ...]:
    if list(pauses) != sorted(set(pauses)):
        raise ValueError("is not a rising list of numbers of seconds")
    return pauses


def _readable_address(url: str) -> str:
    try:
        _ = urlsplit(url).port
    except ValueError:  # its words show the address
        raise ValueError(_NO_DATABASE_URL) from None
    return url


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _pauses(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in _split(text) if part != "-")


def _days(text: str) -> float | None:
    return None if text == "-" else float(text)


TEXT = Kind("text", "is not text")
Servers = Annotated[str, Field(pattern=r"[^, ]"), Kind("host:port, comma separated", "names no server")]
Topic = Annotated[
    str, Field(pattern=r"\A(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}\Z"), BeforeValidator(_fill_in_environment),
    Kind("name of a Kafka topic or group", "is not 1 to 249 letters, digits, dots, dashes or underscores"),
]  # fmt: skip
PlainName = Annotated[
    str, Field(pattern=_PLAIN_NAME),
    Kind("lower-case name", "is not a lower-case letter, then up to 47 lower-case letters, digits, underscores"),
]  # fmt: skip
Integer = Annotated[int, Kind("whole number", "is not a whole number", int)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[Number, Kind("seconds", "is not a number", float)]
Days = Annotated[Number | None, Kind("days", "is not a number", _days)]
Hosts = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1),
    Kind("hosts, comma separated", "names no host", _split),
]  # fmt: skip
Pauses = Annotated[
    tuple[Annotated[Number, Field(ge=1)], ...], AfterValidator(_rising),
    Kind("seconds, comma separated, rising", "is not a rising list of numbers of seconds", _pauses),
]  # fmt: skip
KafkaOptions = Annotated[
    dict[str, str | bool | int | float], AfterValidator(_no_fixed_options),
    Kind("JSON object", "is not a JSON object of texts and numbers", json.loads),
]  # fmt: skip
TableNames = Annotated[
    dict[str, str], BeforeValidator(_names_of_tables), Kind("JSON object", "is not a JSON object", json.loads)
]
Reasons = Annotated[
    dict[str, Annotated[str, Field(pattern=r"\S")]],
    Kind("JSON object", "is not a JSON object that gives each table a reason", json.loads),
]
Ids = Annotated[tuple[str, ...], Kind("ids, comma separated", "is not a list of texts", _split)]
Tables = Annotated[tuple[str, ...], Kind("tables of docs/rules.md, comma separated", "is not a list of texts", _split)]
Moment = Annotated[
    AwareDatetime | None,
    Kind("time with its zone (ISO 8601)", "is not a time with its zone, such as 2026-03-01T10:15:00Z",
         datetime.fromisoformat),
]  # fmt: skip
DatabaseUrl = Annotated[
    str, Field(pattern=_DATABASE_URL), AfterValidator(_readable_address),
    Kind("address of a database", _NO_DATABASE_URL, str.strip),
]  # fmt: skip
