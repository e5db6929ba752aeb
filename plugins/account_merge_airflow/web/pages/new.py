"""A new merge: a form for its accounts, a preview in the learner's terms, then the merge with a reason."""

from __future__ import annotations

import json
import uuid
from typing import Annotated, Any

from fastapi import Query, Request

from account_merge.choices import COMBINE, SOURCE, TARGET, Choices, row_name
from account_merge.reports.balance import Balance
from account_merge.rules import RULES
from account_merge.states import MERGE_DAG
from account_merge_airflow.web.api.bodies import PreviewIn, Text
from account_merge_airflow.web.api.common import previewed
from account_merge_airflow.web.api.merges import request_of
from account_merge_airflow.web.auth import CallerDep
from account_merge_airflow.web.dags import APPROVE_DAG
from account_merge_airflow.web.filters import diff
from account_merge_airflow.web.pages.common import router as made
from account_merge_airflow.web.service import CoreDep
from account_merge_airflow.web.templating import page

router = made()
Accounts = Annotated[list[Text] | None, Query(max_length=20)]
#: Choice -> its words on the page.
CHOICES = {COMBINE: "combine", TARGET: "keep the target's", SOURCE: "take the source's"}
#: The preview shows so many places, and so many rows of each table.
PLACES, ROWS = 100, 50


@router.get("/new")
def new(
    request: Request, caller: CallerDep, source: Accounts = None, target: Annotated[Text, Query(max_length=1024)] = ""
) -> str:
    """Return the form, filled in with the accounts that the link names."""
    return page(
        request.scope, "new.html", tab="/new", sources=source or [], target=target, tables=RULES, key=uuid.uuid4().hex,
        may=caller.may_start(MERGE_DAG), may_propose=caller.may_start(APPROVE_DAG),
    )  # fmt: skip


@router.post("/new/preview")
def preview(body: PreviewIn, request: Request, core: CoreDep, caller: CallerDep) -> str:
    """Return the preview as a part of the form's page: the balance first, then every table's rows."""
    service = core.service()
    asked = request_of(body, caller)
    report = service.previews.preview(asked)
    tables = previewed(report, ROWS)
    found = [{"table": t.table, "note": t.note, "counts": t.counts, "complete": t.complete,
              "rows": [_choosable(row, t.table, asked.choices) for row in diff([r.model_dump() for r in t.rows], t.table)]}
             for t in tables]  # fmt: skip
    balance = service.previews.balance(asked)
    return page(
        request.scope, "parts/preview.html", merge=report.merge, report=report, balance=balance, shown=_shown(balance),
        places=len(balance.scopes), notices=service.previews.notices(asked, balance),
        tables=[t for t in found if t["counts"]], idle=[t for t in found if not t["counts"]],
        writes=_writes(found), choices=CHOICES, chosen=asked.choices.tables,
    )  # fmt: skip


def _choosable(row: dict[str, Any], table: str, choices: Choices) -> dict[str, Any]:
    """Return a row with what the page needs to choose for it."""
    return {**row, "chosen": choices.rows.get(row_name(table, tuple(row["key"].values())), ""),
            "name": json.dumps({"table": table, "key": row["key"]})}  # fmt: skip


def _writes(tables: list[dict[str, Any]]) -> int:
    return sum(number for t in tables for name, number in t["counts"].items() if name in ("created", "changed"))


def _shown(balance: Balance) -> list[dict[str, Any]]:
    """Return places in the order of their kinds; those that lose something come first."""
    places = sorted(
        balance.scopes.items(), key=lambda item: (all(line.kept for line in item[1].values()), str(item[0]))
    )
    return [{"kind": kind, "values": values, "lines": [line for line in lines.values() if _any(line)]}
            for (kind, values), lines in places[:PLACES]]  # fmt: skip


def _any(line: Any) -> bool:
    return bool(line.target or line.result or any(line.sources.values()))
