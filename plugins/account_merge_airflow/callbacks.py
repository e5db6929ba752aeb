"""A failed run publishes its failed event at once, through the same function that the poll's sweep uses.

Airflow runs the callback in the dag-processor, also after SIGKILL and after "mark failed". It can still be lost (time-out,
restart), so the poll's task `report_failures` looks for the same merges within minutes. Both together publish one event: the
journal remembers which one was sent.
"""

from __future__ import annotations

import logging
import re
import uuid
from typing import TYPE_CHECKING, Any

from account_merge_airflow.connections import open_service
from account_merge_airflow.runs import merge_id_of, open_or_confirm

if TYPE_CHECKING:
    from airflow.sdk import Context

    from account_merge.service import Service

RUN_ID = re.compile(r"merge__([0-9a-fA-F-]{36})__\d+")

log = logging.getLogger(__name__)


def publish_failed_event(context: Context) -> None:
    """Publish the failed event of a run: the `on_failure_callback` of the DAG `account_merge`; safe to run twice."""
    run_id = context["run_id"]
    reason = str(context.get("reason") or "the run failed")
    if _is_preview(context):
        log.info("Run %s was a preview (dry_run): it is not a merge, so there is no failed event.", run_id)
        return
    with open_service() as service:
        merge_id = _merge_id(context, service)
        if merge_id is None:
            log.warning(
                "Run %s: Airflow gave no context; the poll's report_failures publishes the failed event.", run_id
            )
            return
        answer = service.failures.fail(merge_id, run_id, reason)
    log.info("Run %s of merge %s failed (%s): %s", run_id, merge_id, reason, answer)


def _is_preview(context: Context) -> bool:
    params: Any = context.get("params") or {}
    return bool(params.get("dry_run", False))


def _merge_id(context: Context, service: Service) -> uuid.UUID | None:
    """Return the run's merge id; open the merge of a run by hand whose `admit` did not get so far."""
    from account_merge.errors import InvalidRequest

    by_poll = RUN_ID.fullmatch(context["run_id"])
    if by_poll:
        return uuid.UUID(by_poll[1])
    if context.get("dag_run") is None:
        return None
    merge_id = merge_id_of(context, service)
    if "merge_id" not in (context["dag_run"].conf or {}):
        try:
            open_or_confirm(context, service)
        except InvalidRequest as refused:
            log.info("Merge %s was refused when it was opened: %s", merge_id, refused)
    return merge_id
