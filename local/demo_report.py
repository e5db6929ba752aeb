"""A merge's report in the size of a terminal: changes and reasons, with long values shortened.

`python -m account_merge show` prints every column. Here a row that moved whole is one line, a map shows the keys that
differ, and a list shows its length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

#: Columns that tell a person the most about a row that moves whole.
TELLING = (
    "status",
    "progress",
    "viewcount",
    "completionpercentage",
    "issued_certificates",
    "aggregates",
    "grand_total",
    "groupid",
    "role",
    "program_name",
    "pii_consent_required",
)


def changed_rows(report: Mapping[str, Any]) -> int:
    """Return how many rows the merge wrote."""
    return sum(row["what"] != "same" for part in report["tables"] for row in part["rows"])


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """Print the head of the merge, then a table for each merged table."""
    accounts = ", ".join(report["source_accounts"])
    console.print(f"\n[bold]merge {report['merge_id']}: {escape(report['state'])}[/]", highlight=False)
    console.print(f"  {escape(accounts)} → {escape(report['survivor'] or report['target_account'])}", highlight=False)
    if report["note"]:
        console.print(f"  {escape(report['note'])}", highlight=False)
    if report["error"]:
        console.print(f"  [red]{escape(' '.join(report['error'].values()))}[/]", highlight=False)
    for part in report["tables"]:
        _print_table(console, part)


def _print_table(console: Console, part: Mapping[str, Any]) -> None:
    changed = [row for row in part["rows"] if row["what"] != "same"]
    same = len(part["rows"]) - len(changed)
    rest = "; ".join(words for words in (f"{same} rows needed nothing" if same else "", part["note"]) if words)
    if not changed:
        console.print(f"[bold]{part['table']}[/]: {escape(rest or 'nothing to merge')}", highlight=False)
        return
    table = Table(title=part["table"], title_justify="left", title_style="bold")
    for column in ("row", "column", "target before", "source", "after", "why"):
        table.add_column(column, overflow="fold", no_wrap=column == "row")
    for row in changed:
        for line in _lines(row):
            table.add_row(*map(escape, line))
        table.add_section()
    console.print(table)
    if rest:
        console.print(f"  {escape(rest)}", highlight=False)


def _lines(row: Mapping[str, Any]) -> list[tuple[str, str, str, str, str, str]]:
    """Return one line for each changed column; a row that the target lacked is one line."""
    label = "\n".join(str(value) for value in row["key"].values())
    sources = [source for source in row["sources"].values() if source]
    if row["before"] is None:
        after = row["after"]
        # A column that does not move as it is (consent, a total handed on before) has a line of its own.
        other = [name for name in row["columns"] if all(source.get(name) != after[name] for source in sources)]
        told = ", ".join(
            f"{name} {_short(after[name])}" for name in TELLING if after.get(name) is not None and name not in other
        )
        why = next((row["why"][name] for name in row["columns"] if name not in other), "")
        rest = [("", name, "–", _short(_one(sources, name)), _short(after[name]), row["why"][name]) for name in other]
        return [(label, "(whole row)", "–", told, "the same", why), *rest]
    found = []
    for column in row["columns"]:
        source = _one(sources, column)
        before, after = row["before"].get(column), row["after"].get(column)
        keys = _differing(before, after)
        texts = (_short(before, keys), _short(source, keys), _short(after, keys))
        found.append((label, column, *texts, row["why"].get(column, "")))
        label = ""
    found += [("", "either way", "", "", "", note) for note in row["notes"]]
    return found


def _one(sources: list[Mapping[str, Any]], column: str) -> Any:
    """Return the sources' value of a column; a list when several have one."""
    values = [source.get(column) for source in sources if source.get(column) is not None]
    return values[0] if len(values) == 1 else values or None


def _differing(before: Any, after: Any) -> set[str] | None:
    """Return the keys of a map that the merge changed; None for other values."""
    if not isinstance(after, Mapping):
        return None
    old = before if isinstance(before, Mapping) else {}
    return {key for key in after if after[key] != old.get(key)}


def _short(value: Any, keys: set[str] | None = None) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        shown = {key: item for key, item in value.items() if keys is None or key in keys}
        return "\n".join(f"{key}: {_short(item)}" for key, item in shown.items()) or "–"
    if isinstance(value, list):
        return f"{len(value)} of them" if value else "none"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
