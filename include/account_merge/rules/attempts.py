"""Attempts of an assessment, which the platform keeps as JSON texts: what one says, and the lists of two rows made one. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from account_merge.rules.comparing import time
from account_merge.rules.strategies import Strategy, revert_list


def _details(mine: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    """Unite attempt details (JSON texts) by attempt: the text with the later `last_attempted_on` of its own stands."""
    united: list[Any] = list(mine)
    at: dict[Any, int] = {}
    for index, text in enumerate(united):
        have = at.setdefault(_identity(text), index)
        if _attempted(text) > _attempted(united[have]):
            at[_identity(text)] = index
    for text in other:
        index = at.setdefault(_identity(text), len(united))
        if index == len(united):
            united.append(text)
        elif _attempted(text) > _attempted(united[index]):
            united[index] = text
    return united


def _identity(text: Any) -> Any:
    attempt = attempt_of(text)
    return (json.dumps([attempt["attempt_id"], attempt.get("content_id")]), "") if attempt.get("attempt_id") else text


def attempt_of(text: Any) -> dict[str, Any]:
    """Return the fields of one attempt's JSON text; empty when the text is not a JSON object."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _attempted(text: Any) -> tuple[Any, ...]:
    return time(attempt_of(text).get("last_attempted_on"))


union_of_attempts = Strategy(
    "union_of_attempts",
    "every attempt of either account, each once",
    _details,
    commutative=False,
    revert=revert_list,
    times=lambda value: (attempt_of(text).get("last_attempted_on") for text in value),
)
