"""Values as the pages show them: the templates' filters, and a report's rows as the lines of a diff."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from account_merge.choices import COMBINE, SOURCE, TARGET
from account_merge.jsonable import jsonable
from account_merge.rules import TABLES, TableRule, rule_for

#: A page shows so many characters of one value at most; the API has it whole.
LONGEST = 2000


def text(value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    found = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return found if len(found) <= LONGEST else found[:LONGEST] + "…"


def short(name: str) -> str:
    """Return an account's id, shortened in the middle when it is long."""
    return name if len(name) <= 40 else f"{name[:24]}…{name[-12:]}"


def iso(at: Any) -> str:
    """Return a time for programs."""
    return str(jsonable(at))


def when(at: Any) -> str:
    """Return a time to the second, as Airflow writes it."""
    moment = at if isinstance(at, datetime) else datetime.fromisoformat(str(at))
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def number(value: float) -> str:
    """Return a count with its thousands apart; a fraction with two places."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def capitalise(words: str) -> str:
    """Return a sentence's first letter as a capital; the others stay as they are."""
    return words[:1].upper() + words[1:]


def took(seconds: float) -> str:
    """Return a duration as people read it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


FILTERS = {"text": text, "short": short, "iso": iso, "when": when, "number": number, "took": took,
           "capitalise": capitalise}  # fmt: skip


#: The words for a row that is not written, by whose row stands.
NOTHING = {COMBINE: "Nothing had to be written.", TARGET: "As the target has it, by choice.",
           SOURCE: "By choice the source's values stand: they are the same."}  # fmt: skip


def _rule_of(log: str) -> TableRule | None:
    """Return the rule of the table in a log's name, where it stands alone, behind `undo-1/`, or before an account."""
    return next((rule_for(part) for part in log.split("/") if part in TABLES), None)


def diff(rows: Iterable[Mapping[str, Any]], log: str) -> list[dict[str, Any]]:
    """Return report rows with their lines: one for each column that was written, then one for all that stayed.

    :param log: the report's name of the table: of the merge, or `undo-1/…`.
    """
    rule = _rule_of(log)
    return [_row(row, rule) for row in rows]


def _row(row: Mapping[str, Any], rule: TableRule | None) -> dict[str, Any]:
    before, after = row["before"] or {}, row["after"] or {}
    sources = {account: values or {} for account, values in row["sources"].items()}
    if row["choice"] == TARGET:  # nothing is written: the lines show what the choice leaves out
        written = sorted({c for v in sources.values() for c in v if v[c] not in (None, before.get(c))})
    else:
        written = row["columns"] or (sorted(before) if row["what"] == "deleted" else [])
    lines: list[dict[str, Any]] = [
        {
            "column": column,
            "before": before.get(column),
            "sources": {a: v[column] for a, v in sources.items() if v.get(column) is not None},
            "after": after.get(column),
            "why": row["why"].get(column, NOTHING[TARGET] if row["choice"] == TARGET else ""),
            "rule": rule.strategy(column).name.replace("_", " ") if rule and row["what"] != "deleted" else "",
        }
        for column in written
    ]
    stayed = len(set(after) - set(written))
    if not lines or stayed:
        words = NOTHING[row["choice"]] if not lines else f"{stayed} more columns stay as they were."
        lines.append({"column": "", "words": words})
    return {**row, "lines": lines, "many": len(sources) > 1}
