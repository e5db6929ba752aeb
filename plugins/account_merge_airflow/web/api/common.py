"""Parts that the resources share: links, cursors, pages of rows, the responses that every route may give."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response

from account_merge.errors import InvalidRequest
from account_merge.model import Merge
from account_merge.reports.report import Report
from account_merge.states import ACTIONS, BULK_DAG, BULK_RUN, BY_COMMAND, MERGE_DAG, UNDO_DAG
from account_merge_airflow.web import LazyApp
from account_merge_airflow.web.airflow_api import Run
from account_merge_airflow.web.api.answers import Accepted, Row, RunOut
from account_merge_airflow.web.api.preview_answers import PreviewTable
from account_merge_airflow.web.problems import Problem
from account_merge_airflow.web.service import Route

#: A preview counts at most so many rows of a table.
MOST_COUNTED = 100_000
#: The refusals of every route. `document` puts the media type of problems on them.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body is not JSON."},
    401: {"model": Problem, "description": "Nobody is logged in."},
    403: {"model": Problem, "description": "The user may not do this, or a page of another origin asked."},
    422: {"model": Problem, "description": "The request cannot be read, or makes no sense."},
    503: {"model": Problem, "description": "A server is away: the same call may succeed later."},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is no such resource."}}
CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "It cannot be done now; the remedy says what to do first."},
    502: {"model": Problem, "description": "Airflow did not start the run."},
}
Key = Annotated[
    str,
    Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$",
           description="Chosen by the caller: the same key and request again is the same merge, done once.",
           examples=["4711-1"]),
]  # fmt: skip
OptionalKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$",
           description="Chosen by the caller: the same key again starts no second run."),
]  # fmt: skip


def router(tag: str) -> APIRouter:
    """Return a resource's routes."""
    return APIRouter(tags=[tag], route_class=Route, responses=PROBLEMS)


def link(request: Request, path: str) -> str:
    """Return a path of the API as a client reaches it."""
    return f"{request.scope.get('root_path', '')}/api/v1{path}"


def run_out(request: Request, dag_id: str, run_id: str, state: str | None = None) -> RunOut:
    """Return a run with its addresses."""
    airflow = str(request.scope.get("root_path", "")).removesuffix(LazyApp.PREFIX)
    name = quote(run_id, safe="")
    return RunOut(
        dag_id=dag_id,
        run_id=run_id,
        state=state,
        status_url=link(request, f"/runs/{dag_id}/{name}"),
        page=f"{airflow}/dags/{dag_id}/runs/{name}",
    )


def runs_of(request: Request, merge: Merge) -> list[RunOut]:
    """Return the Airflow runs that worked on a merge; the command line works without one."""
    made = (name for name in merge.run_ids if not name.startswith(BY_COMMAND))
    acts = tuple(f"{action}__" for action in ACTIONS)
    dags = ((UNDO_DAG if n.startswith(acts) else BULK_DAG if n.startswith(BULK_RUN) else MERGE_DAG, n) for n in made)
    return [run_out(request, dag_id, name.removeprefix(BULK_RUN)) for dag_id, name in dags]


def accepted(response: Response, found: Accepted) -> Accepted:
    """Return the answer, with the address of its status in the header too."""
    response.headers["Location"] = found.status_url
    return found


def started(request: Request, response: Response, run: Run, merge_id: UUID | None = None, state: str | None = None,
            status_url: str = "") -> Accepted:  # fmt: skip
    """Return the answer that names the run which was started.

    :param status_url: the address of the status; empty: the run's own.
    """
    made = run_out(request, run.dag_id, run.run_id, run.state)
    found = Accepted(merge_id=merge_id, state=state, status_url=status_url or made.status_url, run=made)
    return accepted(response, found)


def previewed(report: Report, rows: int) -> list[PreviewTable]:
    """Return a preview's tables: all rows counted up to a limit, the first ones shown. Only those are held in memory."""
    found = []
    for table in report.tables:
        shown: list[Mapping[str, Any]] = []
        counts: dict[str, int] = {}
        stream = iter(table.rows)
        for row in itertools.islice(stream, MOST_COUNTED):
            counts[row["what"]] = counts.get(row["what"], 0) + 1
            if len(shown) < rows:
                shown.append(row)
        complete = next(stream, None) is None
        found.append(PreviewTable(table=table.table, note=table.note, counts=counts, complete=complete,
                                  rows=rows_out(shown)))  # fmt: skip
    return found


def rows_out(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return rows of a report."""
    return [Row.model_validate(row) for row in rows]


def place_of(cursor: str) -> tuple[int, int]:
    """Return the place in a log that a cursor of rows names.

    :raises InvalidRequest: the text is not a cursor.
    """
    entry, _, number = cursor.partition(".")
    if not (entry.isascii() and entry.isdigit() and number.isascii() and number.isdigit()) or len(cursor) > 18:
        raise InvalidRequest("BAD_CURSOR", "the cursor is not one of this list", "Take it from the page before.")
    return int(entry), int(number)
