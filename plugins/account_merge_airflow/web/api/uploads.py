"""Many merges at once, a line each: previewed, or opened for the poll to start."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response

from account_merge.intake.rescue import RescueOptions
from account_merge_airflow.web.api import answers, bodies, common
from account_merge_airflow.web.auth import CallerDep
from account_merge_airflow.web.service import CoreDep

router = common.router("merges")
#: The merges of so many lines are previewed table by table; further lines are only checked. The DAG with dry_run
#: previews more.
PREVIEWS = 20


@router.post(
    "/uploads", status_code=202, summary="Merge the pairs of a list",
    responses=common.CONFLICT | {200: {"model": answers.UploadOut, "description": "dry_run: what it would do."}},
)  # fmt: skip
def upload(
    body: bodies.UploadIn, core: CoreDep, caller: CallerDep, request: Request, response: Response
) -> answers.UploadOut:
    """Open a merge for each good line; a bad one stops no other, and the same lines again are the same merges."""
    found: list[Mapping[str, Any]] = []
    done = core.service().rescue.run(
        io.BytesIO(body.lines.encode()), body.format, found.append,
        RescueOptions(body.dry_run, body.seeded, caller.name, body.reason, PREVIEWS),
    )  # fmt: skip
    if body.dry_run:
        response.status_code = 200
    else:
        response.headers["Location"] = common.link(request, "/merges")
    lines = [_line(request, answer, body.dry_run) for answer in found]
    return answers.UploadOut(dry_run=body.dry_run, codes=done["codes"], bad=done["bad"], lines=lines)


def _line(request: Request, answer: Mapping[str, Any], dry_run: bool) -> answers.LineOut:
    there = answer["merge_id"] and (not dry_run or answer["code"] == "ALREADY_KNOWN")
    url = common.link(request, f"/merges/{answer['merge_id']}") if there else None
    return answers.LineOut.model_validate({**answer, "status_url": url})
