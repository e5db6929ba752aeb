"""A report that was exported (`show --json`), compared with the journal of today; changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from account_merge.errors import InvalidRequest
from account_merge.model import Merge
from account_merge.reports.audit import Difference
from account_merge.reports.looking import Looking

#: What of a merge never changes once it is completed.
LASTING = ("merge_id", "source_accounts", "target_account", "survivor", "mid", "origin", "created_at")

KEPT = {"table", "rows", "entries", "digest"}


def read(path: str) -> Mapping[str, Any]:
    """An exported report.

    :raises InvalidRequest: the file is no such thing.
    """
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InvalidRequest("BAD_FILE", f"{path}: {error}", "Give a file that `show MERGE_ID --json` wrote.") from None
    tables = found.get("tables") if isinstance(found, dict) else None
    if not isinstance(tables, list) or not all(isinstance(t, dict) and {*t} >= KEPT for t in tables):
        raise InvalidRequest("BAD_FILE", f"{path}: is no exported report", "Write one with `show MERGE_ID --json`.")
    return dict(found)


class Exported:
    """Compares exported reports, over the connections of `looking`."""

    def __init__(self, looking: Looking) -> None:
        self._looking = looking

    def differences(self, merge: Merge, exported: Mapping[str, Any]) -> Iterator[Difference]:
        """What the report says otherwise than the journal (kind `report`; `later` for what only went on since)."""
        today = self._looking.report(merge.merge_id)
        head = today.head()
        for name in LASTING if merge.state != "erased" else ():
            if exported.get(name) != head[name]:
                yield Difference(
                    "report", "", None, f"{name} is {exported.get(name)!r} there, {head[name]!r} in the journal"
                )
        if exported.get("state") != head["state"]:
            yield Difference("later", "", None, f"it was {exported.get('state')}, it is {head['state']}")
        logs, tables = self._looking.logs(merge), {t.table: t for t in today.tables}
        for then in exported["tables"]:
            name = str(then["table"])
            now = tables.pop(name, None)
            if now is None:
                yield Difference("report", name, None, "the journal has no such log of this merge")
                continue
            seen = int(then["entries"]) - 1
            if then["digest"] != (logs[name][0].digest(seen).hex() if name in logs and seen >= 0 else ""):
                yield Difference("report", name, None, "the log that the report was made from was another one")
            if merge.expiry is None:
                yield from _rows(name, then["rows"], now.rows)
            elif then["rows"]:
                yield Difference("expired", name, None, "the images are gone: the report's rows cannot be compared")
        for name, table in tables.items():
            if table.entries:
                yield Difference("later", name, None, "the log came after the report")


def _rows(table: str, then: list[dict[str, Any]], now: Iterable[dict[str, Any]]) -> Iterator[Difference]:
    for number, (old, new) in enumerate(zip_longest(then, now)):
        new = None if new is None else json.loads(json.dumps(new))
        if old is None:
            yield Difference("later", table, (new or {}).get("key"), "its row came after the report")
        elif old != new:
            names = sorted(n for n in {*old, *(new or {})} if new is None or old.get(n) != new.get(n))
            key = old.get("key") if isinstance(old, dict) else None
            words = "the journal has no such row" if new is None else f"{', '.join(names)} is otherwise in the journal"
            yield Difference("report", table, key, f"row {number + 1} of the report: {words}")
