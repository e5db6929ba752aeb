"""Parts of scopes (a course's units), as a file that the operator names lists them."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from account_merge.errors import NeedsAttention
from account_merge.rules import Scope
from account_merge.settings import Settings, variable_of


def parts_of(settings: Settings, scope: Scope) -> dict[str, list[str]] | None:
    """Return the configured parts of each whole; None when none are configured."""
    path = getattr(settings, scope.parts) if scope.parts else ""
    if not path:
        return None
    variable = variable_of(scope.parts)
    return _read_parts(path, variable, _changed(path, variable))


def _changed(path: str, variable: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError as error:
        raise _bad_parts(variable, path, "cannot be read") from error


@lru_cache(maxsize=4)
def _read_parts(path: str, variable: str, changed: int) -> dict[str, list[str]]:
    """Read the file once for each time that it changes."""
    try:
        parts = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _bad_parts(variable, path, "is not a JSON file that can be read") from error
    lists = parts.values() if isinstance(parts, dict) else [None]
    if not all(isinstance(units, list) and all(isinstance(unit, str) for unit in units) for units in lists):
        raise _bad_parts(variable, path, "is not an object of lists of texts")
    return dict(parts)


def _bad_parts(variable: str, path: str, problem: str) -> NeedsAttention:
    return NeedsAttention(
        "BAD_HIERARCHY", f"{variable}: {path} {problem}", f"Mend the file or clear {variable}; then clear the task."
    )
