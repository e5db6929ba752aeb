"""Reference: the rules with their examples, and which tables they cover."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import Request

from account_merge.jsonable import jsonable
from account_merge.rules import LEFT_ALONE, RULES, TableRule
from account_merge_airflow.web.pages.common import router as made
from account_merge_airflow.web.service import CoreDep
from account_merge_airflow.web.templating import page

router = made()
#: Unknown tables first: they are what a person has to look at.
ORDER = ("unknown", "covered", "ignored")


@router.get("/rules")
def rules(request: Request) -> str:
    """Return the strategy of each column, why, and worked examples, all read from the rules themselves."""
    shown = [{"rule": rule, "examples": [_example(e) for e in rule.examples], "derived": _derived(rule)}
             for rule in RULES]  # fmt: skip
    return page(request.scope, "rules.html", tab="/rules", rules=shown, left_alone=LEFT_ALONE)


def _example(example: Any) -> list[tuple[str, Any, Any, Any]]:
    """Return column, source, target, merged."""
    source, target, merged = (jsonable(row or {}) for row in (example.source, example.target, example.merged))
    columns = dict.fromkeys([*merged, *target, *source])
    return [(column, source.get(column), target.get(column), merged.get(column)) for column in columns]


def _derived(rule: TableRule) -> dict[str, list[str]]:
    """Return column -> what is derived for it when every column is merged."""
    found: dict[str, list[str]] = {}
    for derivation in rule.derive:
        for column in derivation.columns:
            found.setdefault(column, []).append(derivation.why)
    return found


@router.get("/coverage")
def coverage(request: Request, core: CoreDep) -> str:
    """Return every table with a column like a user id: covered by a rule, left alone with a reason, or unknown."""
    found = core.service().coverage()
    tables = sorted(found.tables, key=lambda t: (ORDER.index(t.state) if t.state in ORDER else 0, t.name))
    return page(
        request.scope, "coverage.html", tab="/coverage", tables=tables, counts=Counter(t.state for t in tables),
        order=ORDER,
    )  # fmt: skip
