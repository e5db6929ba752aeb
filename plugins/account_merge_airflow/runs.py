"""The runs of our DAGs: which merge a run is about, whether a run still lives, how one is started and ended.

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
from account_merge.states import BULK_DAG, BULK_RUN, LOST, MERGE_DAG, UNDO_DAG, State
from account_merge_airflow.params import request_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from account_merge.service import Service

#: States of a task that runs, or that the scheduler is going to run by itself.
LIVING = frozenset({"scheduled", "running", "restarting", "up_for_retry", "up_for_reschedule", "deferred"})

log = logging.getLogger(__name__)


def merge_id_of(context: Context, service: Service) -> uuid.UUID:
    """Return the run's merge id: the same at every attempt, in every task and in the callback."""
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
    """Open the merge that a person asked for; for a merge from the journal confirm that conf names its accounts.

    The rest of the journal's request (tables, policy) stands: a run's params do not change a merge that is open.
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


def undo_of(params: Mapping[str, Any]) -> uuid.UUID:
    """Return the merge id of a run of `account_merge_undo`."""
    return uuid.UUID(params["merge_id"].strip())


def run_state(context: Context, run_id: str, dag_id: str = MERGE_DAG) -> str | None:
    """Return the state of a run; None when Airflow knows no such run.

    Every other error is raised: an unreachable API that counts as a missing run would start a merge's run again.
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
    """Return the state of a run that merges or undoes; `LOST` when it is orphaned: no task of it runs or is about to.

    LocalExecutor can lose a task: it stays `queued` for ever, and its run `running`.
    """
    bulk = run_id.startswith(BULK_RUN)
    run_id = run_id.removeprefix(BULK_RUN)
    for dag_id in (BULK_DAG,) if bulk else (MERGE_DAG, UNDO_DAG):
        state = run_state(context, run_id, dag_id)
        if bulk and state not in ("queued", "running"):
            return None  # how a run of many ended tells nothing of one: whatever it left gets a run of its own
        if state == "running":
            tasks = context["ti"].get_task_states(dag_id=dag_id, run_ids=[run_id]).get(run_id, {})
            alive = LIVING & {str(getattr(task, "value", task)) for task in tasks.values()}
            return state if alive else LOST
        if state is not None:
            return state
    return None


def start_run(run: Mapping[str, Any]) -> bool:
    """Trigger a chosen run; False when there is one already, which is left alone, or begins anew where that is asked.

    One task triggers them all: `TriggerDagRunOperator` asks Airflow in the same words, but for one run a process. No word
    of an event is rendered as a template here.
    """
    conf = run["conf"]
    sources, target = ", ".join(conf.get("source_accounts", ())), conf.get("target_account")
    what = f"Merge {run['merge_id']}: {sources} into {target}" if sources else f"Merge {run['merge_id']}"
    return trigger(run["dag_id"], run["trigger_run_id"], what, conf, run.get("reset_dag_run", False))


def trigger(dag_id: str, run_id: str, what: str, conf: Mapping[str, Any], reset: bool = False) -> bool:
    """Trigger a run for the poll; False when there is one already, which is left alone, or begins anew with `reset`.

    :param what: is said in the run's note and in the log.
    """
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun

    note = f"{what}, by the poll."[:1000]
    answer = task_runner.SUPERVISOR_COMMS.send(
        TriggerDagRun(dag_id=dag_id, run_id=run_id, conf=dict(conf), note=note, reset_dag_run=reset)
    )
    exists = isinstance(answer, ErrorResponse) and answer.error == ErrorType.DAGRUN_ALREADY_EXISTS
    log.info("%s: run %s of %s %s.", what, run_id, dag_id,
             "is there already" if exists else "is ended" if reset else "is triggered")  # fmt: skip
    return not exists


def go_on(context: Context, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's answer; end this run green when the merge may not go on.

    A completed merge goes on: its tasks report and write nothing, so a finished run can be cleared.
    """
    if answer["proceed"] or answer["state"] == State.COMPLETED:
        return dict(answer)
    end_here(context, answer, "the poll starts the merge again when it can go on")


def skip_idle(context: Context, answer: dict[str, Any], task_id: str) -> dict[str, Any]:
    """Return the answer of `admit` when every table has work; else skip the tasks of the others, which costs no process.

    Airflow leaves alone what has ended or runs. It does not remember the skip: a skipped task that is cleared runs.

    :param task_id: the id of a table's task, with a place for the table.
    """
    from airflow.sdk.exceptions import DownstreamTasksSkipped

    idle = answer.get("idle")
    if not idle:
        return answer
    log.info("Merge %s has nothing to do in %s: skipped.", answer["merge_id"], ", ".join(idle))
    context["ti"].xcom_push(key="return_value", value=answer)
    raise DownstreamTasksSkipped(tasks=[task_id.format(table) for table in idle])  # type: ignore[no-untyped-call]


def end_here(context: Context, answer: Mapping[str, Any], words: str) -> NoReturn:
    """End this run green: nothing follows, and the task's XCom and log say why."""
    from airflow.sdk.exceptions import DownstreamTasksSkipped

    log.info(
        "Merge %s is %s: %s The rest of this run is skipped: %s.",
        answer.get("merge_id"), answer.get("state"), answer.get("note") or "", words,
    )  # fmt: skip
    context["ti"].xcom_push(key="return_value", value=dict(answer))
    raise DownstreamTasksSkipped(tasks=sorted(context["task"].get_flat_relative_ids(upstream=False)))  # type: ignore[no-untyped-call]
