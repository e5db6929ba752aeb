"""The question to a second person: accounts, options, reason and counts of a merge, as text that stays text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from account_merge.model import Merge, MergeRequest

APPROVE, REJECT = "Approve", "Reject"
#: The path of a merge's page, below Airflow's address.
PAGE = "/account-merge/merges/"


def words_of(merge: Merge, tables: Mapping[str, Mapping[str, int]], days: int) -> tuple[str, str]:
    """Return subject and body (Markdown) of the question.

    :param tables: table -> rows by what would happen to them.
    """
    from airflow.configuration import conf

    request, base = merge.request, (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    number = len(request.sources)
    subject = f"Merge {number} account{'s' * (number > 1)} into {request.target}?"
    rows = [
        f"| {table} | {', '.join(f'{n:,} {kind}' for kind, n in counts.items())} |" for table, counts in tables.items()
    ]
    facts = [
        ("Source accounts", ", ".join(map(code, request.sources))),
        ("Target account", code(request.target)),
        ("Asked for by", code(request.requested_by)),
        ("Reason", code(request.reason) if request.reason else "none given"),
        ("When both have it", "combined" if request.on_conflict == "combine" else "the target's rows stay"),
        ("Choices", _choices(request)),
        ("Source's enrolments", "kept" if request.source_rows == "keep" else "set inactive"),
        ("Source accounts afterwards", "deactivated" if request.deactivate_sources else "as they are"),
        ("Tables", ", ".join(request.tables) or "all"),
    ]
    lines = [
        *(f"* {name}: {words}" for name, words in facts),
        "",
        "| table | rows of the target |",
        "| --- | --- |",
        *(rows or ["| none | nothing would be written |"]),
        "",
        f"[The merge's page]({base}{PAGE}{merge.merge_id})",
        "",
        f"**{APPROVE}**: the poll starts the merge. It does exactly this, or says which rows changed and waits to be proposed "
        f"anew. **{REJECT}**: nothing is merged. The person who asked cannot approve. Without an answer in {days} days the "
        "proposal expires.",
    ]
    return subject[:500], "\n".join(lines)


def _choices(request: MergeRequest) -> str:
    """Return the chosen tables by name and the number of chosen rows: the journal does not keep which rows."""
    words = [f"{table}: {choice}" for table, choice in request.choices.tables.items()]
    words += [f"for {len(request.choices.rows)} single rows"] if request.choices.rows else []
    return ", ".join(words) or "none"


def code(text: str) -> str:
    """Return a text that somebody wrote, on one line and never as Markdown."""
    plain = re.sub(r"\s+", " ", text).strip()
    fence = "`" * (max((len(run) for run in re.findall("`+", plain)), default=0) + 1)
    space = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{space}{plain}{space}{fence}" if plain else ""
