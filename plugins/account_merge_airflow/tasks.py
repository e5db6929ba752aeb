"""The tasks of the DAGs that people trigger: propose and decide, undo, replay, rescue. Each is one call of the core."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from account_merge.errors import InvalidRequest
from account_merge.states import ACTIONS
from account_merge_airflow.params import person_of, request_of
from account_merge_airflow.proposing import APPROVE
from account_merge_airflow.runs import end_here, merge_id_of, undo_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from account_merge.service import Service

#: A run of `account_merge_rescue` previews the merges of so many lines table by table; it only checks further lines.
RESCUE_PREVIEWS = 200
#: How long one run looks for stranded accounts.
STRANDED_SECONDS = 3000.0

log = logging.getLogger(__name__)


def open_proposal(context: Context, service: Service) -> dict[str, Any]:
    """Propose what a run of `account_merge_approve` asks for; end the run green when it is already decided."""
    answer = service.proposals.propose(request_of(context), merge_id_of(context, service), context["run_id"])
    if not answer["proceed"]:
        end_here(context, answer, "nothing is up for approval")
    return dict(answer)


def decide_proposal(context: Context, service: Service) -> dict[str, Any]:
    """Carry out the answer; an answer without a person is the default one, which Airflow gave when the time was over."""
    asked, given = (context["ti"].xcom_pull(task_ids=name) for name in ("propose", "approve"))
    merge_id, plan, person = uuid.UUID(asked["merge_id"]), asked["plan"], given["responded_by_user"]
    if person is None:
        answer = service.proposals.expire(merge_id, plan)
    elif APPROVE in given["chosen_options"]:
        answer = service.proposals.approve(merge_id, person["name"], plan=plan)
    else:
        answer = service.proposals.reject(merge_id, person["name"], plan=plan)
    log.info("Merge %s is %s: %s", merge_id, answer["state"], answer["note"])
    return dict(answer)


def begin_undo(context: Context, service: Service) -> dict[str, Any]:
    """Begin the action that a run of `account_merge_undo` asks for; end the run green when one step does it all.

    A preview only says whether the action is possible; the table tasks count its changes.
    """
    params, person = context["params"], person_of(context)
    merge_id, action, reason = undo_of(params), params["action"], params["reason"] or ""
    if params["dry_run"]:
        merge = service.journal.need(merge_id)
        service.undoing.check(merge, action)
        answer: Mapping[str, Any] = {
            "merge_id": str(merge_id), "state": merge.state, "note": f"dry_run: {action} is possible.",
        }  # fmt: skip
        return dict(answer) if action in ACTIONS else end_here(context, answer, "it is done in one step")
    if action in ACTIONS:
        answer = service.undoing.begin(merge_id, action, person, reason)
        service.undoing.attend(merge_id, context["run_id"])
        return dict(answer)
    answer = (
        service.undoing.abandon(merge_id, reason)
        if action == "abandon"
        else service.repairing.repair(merge_id, person, reason)
    )
    end_here(context, answer, "it is done in one step")


def replay_failed(params: Mapping[str, Any], service: Service, person: str) -> dict[str, Any]:
    """Replay the merges that a run's params name or find; the log has a line for each merge."""
    from account_merge.failed_search import FailedMergeFilter

    search = FailedMergeFilter.of(
        merge_ids=[merge_id.strip() for merge_id in params["merge_ids"] or ()], kinds=params["states"],
        codes=params["codes"], account=params["account"], since=params["since"], until=params["until"],
        limit=params["limit"],
    )  # fmt: skip
    answer = service.replays.replay(search, person, params["reason"] or "", params["dry_run"], params["corrected"])
    for item in answer["items"]:
        log.info("Merge %s (%s): %s. %s", item["merge_id"], item["before"], item["code"], item["note"])
    log.info("%d replayed, %d left alone.%s", answer["replayed"], answer["left_alone"],
             " Nothing was written: dry_run." if params["dry_run"] else "")  # fmt: skip
    return dict(answer)


def rescue_accounts(params: Mapping[str, Any], service: Service, person: str) -> dict[str, Any]:
    """Rescue the pairs of a run's lines, or look for stranded accounts; the log has an answer for each line, XCom numbers."""
    if params["what"] == "stranded":
        return find_stranded(params, service)
    import io

    from account_merge.intake.rescue import RescueOptions
    from account_merge.intake.rescue_lines import opened

    lines, path = (params["lines"] or "").strip(), (params["path"] or "").strip()
    if bool(lines) == bool(path):
        raise InvalidRequest(
            "BAD_OPTION", "a rescue has either lines or a path", "Paste the lines, or name a file of the worker."
        )
    with opened(path) if path else io.BytesIO(lines.encode()) as stream:
        answer = service.rescue.run(
            stream, params["format"], _rescued,
            RescueOptions(params["dry_run"], params["seeded"], person, params["reason"] or "", RESCUE_PREVIEWS),
        )  # fmt: skip
    return dict(answer)


def _rescued(item: Mapping[str, Any]) -> None:
    words = "; ".join(
        f"{table}: {', '.join(f'{number} {kind}' for kind, number in counts.items())}"
        for table, counts in item["counts"].items()
    )
    log.info("Line %d: %s %s %s %s %s", item["line"], item["code"], item["merge_id"] or "", item["note"], words,
             item["remedy"])  # fmt: skip


def find_stranded(params: Mapping[str, Any], service: Service) -> dict[str, Any]:
    """Look for stranded accounts for as long as a task may; the next run goes on."""
    from account_merge.intake.stranded import Pace

    def told(state: Mapping[str, Any]) -> None:
        log.info("%s%%: %d accounts read, %d stranded", state["percent"], state["scanned"], state["stranded"])

    answer = service.stranded.run(Pace(seconds=STRANDED_SECONDS), params["restart"], told)
    ends = "The search is at its end" if answer["done"] else "The search is not at its end: the next run goes on"
    log.info("%s. The accounts: `python -m account_merge stranded --list`.", ends)
    return dict(answer)
