"""Between a DAG run and the merge that it is about: reading params, finding the merge id, starting and skipping runs.

The run id of a merge that the poll starts is `merge__<merge id>__<n>`; its conf holds the merge id. A run that a person
starts has neither: its merge id follows from run id and accounts, so that clearing the run repeats the same merge.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from account_merge.errors import InvalidRequest
from account_merge.merge_ids import request_id
from account_merge.states import ACTIONS, LOST, MERGE_DAG, UNDO_DAG
from account_merge_airflow.proposing import APPROVE

if TYPE_CHECKING:
    from airflow.sdk import Context

    from account_merge.model import MergeRequest
    from account_merge.service import Service

#: States of a task that runs, or that the scheduler is going to run by itself.
LIVING = frozenset({"scheduled", "running", "restarting", "up_for_retry", "up_for_reschedule", "deferred"})
#: Merges that a run of `account_merge_rescue` previews table by table; of more it checks the lines.
RESCUE_PREVIEWS = 200
#: How long one run looks for stranded accounts.
STRANDED_SECONDS = 3000.0

log = logging.getLogger(__name__)


def request_from(params: Mapping[str, Any], requested_by: str = "") -> MergeRequest:
    """Make the request of a run's params."""
    from account_merge.intake.opening import choices_of
    from account_merge.model import MergeRequest
    from account_merge.rules import TABLES

    tables = tuple(params.get("tables") or ())
    everything = set(tables) == set(TABLES)
    return MergeRequest(
        sources=tuple(dict.fromkeys(params["source_accounts"])),
        target=params["target_account"],
        tables=() if everything else tables,  # () = all, also those that a later version adds
        on_conflict=params.get("on_conflict", "combine"),
        source_rows=params.get("source_rows", "keep"),
        deactivate_sources=bool(params.get("deactivate_sources", False)),
        dry_run=bool(params.get("dry_run", False)),
        reason=params.get("reason") or "",
        choices=choices_of({"tables": params.get("choices") or {}}),
        requested_by=requested_by,
    )


def request_of(context: Context) -> MergeRequest:
    """Return the request of the run that this context belongs to."""
    return request_from(context["params"], person_of(context))


def person_of(context: Context) -> str:
    """Return who triggered this run; empty when Airflow does not say."""
    return getattr(context["dag_run"], "triggering_user_name", None) or ""


def merge_id_of(context: Context, service: Service) -> uuid.UUID:
    """Return the run's merge id: the same at every try, in every task and in the callback."""
    given = (context["dag_run"].conf or {}).get("merge_id")
    if given is None:
        request = request_of(context)
        merge_id: uuid.UUID = request_id(context["run_id"], request.sources, request.target)
        return merge_id
    try:
        return uuid.UUID(str(given))
    except ValueError:
        raise InvalidRequest(
            "BAD_MERGE_ID",
            f"Run {context['run_id']}: conf key merge_id is {str(given)[:60]!r}, which is not a merge id.",
            "Leave merge_id out to open a new merge, or give the id that `python -m account_merge show` knows.",
        ) from None


def open_or_confirm(context: Context, service: Service) -> uuid.UUID:
    """Open the merge that a person asked for; of a merge from the journal only confirm that conf names its accounts.

    What else the journal's request says (tables, policy) stands: a run's params do not change a merge that is open.
    """
    merge_id, request = merge_id_of(context, service), request_of(context)
    if "merge_id" not in (context["dag_run"].conf or {}):
        service.opening.open_merge(request, merge_id)
        return merge_id
    known = service.journal.need(merge_id).request
    if set(known.sources) != set(request.sources) or known.target != request.target:
        raise InvalidRequest(
            "OTHER_ACCOUNTS",
            f"Run {context['run_id']}: the accounts in conf are not those of merge {merge_id}.",
            "Trigger without merge_id to merge these accounts; nothing was written.",
        )
    return merge_id


def open_proposal(context: Context, service: Service) -> dict[str, Any]:
    """Propose what a run of `account_merge_approve` asks for; what is decided already ends the run green."""
    answer: dict[str, Any] = service.proposals.propose(
        request_of(context), merge_id_of(context, service), context["run_id"]
    )
    if not answer["proceed"]:
        end_here(context, answer, "nothing is up for approval")
    return answer


def decide_proposal(context: Context, service: Service) -> dict[str, Any]:
    """Do what was answered; an answer of nobody is the default one, which Airflow gave when the time was over."""
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


def replay_of(params: Mapping[str, Any], service: Service, person: str) -> dict[str, Any]:
    """Replay what a run's params name or find; the log has a line for each merge."""
    from account_merge.intake.failed_search import FailedMergeFilter

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
    return answer


def rescue_of(params: Mapping[str, Any], service: Service, person: str) -> dict[str, Any]:
    """Do what a run of `account_merge_rescue` asks for; the log has a line for each line, the answer numbers only."""
    if params["what"] == "stranded":
        return stranded_of(params, service)
    import io

    from account_merge.intake.rescue import RescueOptions
    from account_merge.intake.rescue_lines import opened

    lines, path = (params["lines"] or "").strip(), (params["path"] or "").strip()
    if bool(lines) == bool(path):
        raise InvalidRequest(
            "BAD_OPTION", "a rescue has either lines or a path", "Paste the lines, or name a file of the worker."
        )
    with opened(path) if path else io.BytesIO(lines.encode()) as stream:
        return service.rescue.run(
            stream, params["format"], _rescued,
            RescueOptions(params["dry_run"], params["seeded"], person, params["reason"] or "", RESCUE_PREVIEWS),
        )  # fmt: skip


def _rescued(item: Mapping[str, Any]) -> None:
    words = "; ".join(
        f"{table}: {', '.join(f'{number} {kind}' for kind, number in counts.items())}"
        for table, counts in item["counts"].items()
    )
    log.info("Line %d: %s %s %s %s %s", item["line"], item["code"], item["merge_id"] or "", item["note"], words,
             item["remedy"])  # fmt: skip


def stranded_of(params: Mapping[str, Any], service: Service) -> dict[str, Any]:
    """Look for stranded accounts for as long as a task may; the next run goes on."""
    from account_merge.intake.stranded import Pace

    def told(state: Mapping[str, Any]) -> None:
        log.info("%s%%: %d accounts read, %d stranded", state["percent"], state["scanned"], state["stranded"])

    answer = service.stranded.run(Pace(seconds=STRANDED_SECONDS), params["restart"], told)
    ends = "Come to the end" if answer["done"] else "Not at the end: the next run goes on"
    log.info("%s. The accounts: `python -m account_merge stranded --list`.", ends)
    return answer


def begin_undo(context: Context, service: Service) -> dict[str, Any]:
    """Begin what a run of `account_merge_undo` asks for; what is done in one step ends the run green.

    A preview only says whether the action makes sense; the table tasks count what it would do.
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
    undoing = service.undoing
    answer = undoing.abandon(merge_id, reason) if action == "abandon" else undoing.repair(merge_id, person, reason)
    end_here(context, answer, "it is done in one step")


def undo_of(params: Mapping[str, Any]) -> uuid.UUID:
    """Return the merge id of a run of `account_merge_undo`."""
    return uuid.UUID(params["merge_id"].strip())


def run_state(context: Context, run_id: str, dag_id: str = MERGE_DAG) -> str | None:
    """Return the state of a run; None when Airflow knows no such run.

    Any other trouble is raised: taking an unreachable API for a missing run would start a merge's run again.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError

    try:
        state = context["ti"].get_dagrun_state(dag_id=dag_id, run_id=run_id)
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") == 404:
            return None
        raise
    return str(getattr(state, "value", state))


def life_of(context: Context, run_id: str) -> str | None:
    """Return the state of a run that merges or undoes; `LOST` when it runs and no task of it runs or is about to.

    LocalExecutor can lose a task: it stays `queued` for ever, and its run `running`.
    """
    for dag_id in (MERGE_DAG, UNDO_DAG):
        state = run_state(context, run_id, dag_id)
        if state == "running":
            tasks = context["ti"].get_task_states(dag_id=dag_id, run_ids=[run_id]).get(run_id, {})
            alive = LIVING & {str(getattr(task, "value", task)) for task in tasks.values()}
            return state if alive else LOST
        if state is not None:
            return state
    return None


def trigger_arguments(merge: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a chosen run into arguments of `TriggerDagRunOperator`."""
    conf = merge["conf"]
    sources, target = ", ".join(conf.get("source_accounts", ())), conf.get("target_account")
    what = f"Merge {merge['merge_id']}: {sources} into {target}" if sources else f"Merge {merge['merge_id']}"
    found = {
        "trigger_dag_id": merge["dag_id"], "trigger_run_id": merge["trigger_run_id"], "conf": dict(conf),
        "note": f"{what}, by the poll."[:1000],
    }  # fmt: skip
    return found | ({"reset_dag_run": True} if merge.get("reset_dag_run") else {})


def go_on(context: Context, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's answer; when the merge may not go on, end this run green: nothing follows, XCom and log say why.

    A completed merge goes on: its tasks report and write nothing, so a finished run can be cleared.
    """
    if answer["proceed"] or answer["state"] == "completed":
        return dict(answer)
    end_here(context, answer, "the poll starts the merge again when it can go on")


def end_here(context: Context, answer: Mapping[str, Any], words: str) -> NoReturn:
    """End this run green: nothing follows, and the task's XCom and log say why."""
    from airflow.sdk.exceptions import DownstreamTasksSkipped

    log.info(
        "Merge %s is %s: %s The rest of this run is skipped: %s.",
        answer.get("merge_id"), answer.get("state"), answer.get("note") or "", words,
    )  # fmt: skip
    context["ti"].xcom_push(key="return_value", value=dict(answer))
    raise DownstreamTasksSkipped(tasks=sorted(context["task"].get_flat_relative_ids(upstream=False)))  # type: ignore[no-untyped-call]
