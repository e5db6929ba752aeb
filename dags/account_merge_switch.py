"""# Account merge: switch

**Stops all merging or one tenant's, and lets it go on again.** Triggered by hand.

**Guarantees.** A running merge stops before it writes its next rows, wherever it runs, and becomes *paused*. It keeps its
accounts and the rows that it has written; no failed event is sent, and its run ends green. No merge starts; the poll still
takes events from the topic, and they wait in the journal. When the switch is off again, the next poll lets paused merges
go on where they stopped and starts waiting ones. The journal holds the switch: across restarts, and for the command line.

```json
{"action": "pause", "tenant": "0123221758376673287017", "reason": "the tenant's courses are being restored"}
```

The switches are independent: `resume` without a tenant leaves the tenants' switches as they are. A merge by hand has no
tenant: only the switch for all stops it. Pausing the DAG `account_merge` is not a substitute: running tasks go on.

**When it fails:** a pause without a reason is refused at once (`NO_REASON`: say why). PostgreSQL is away: Airflow retries
the task. Without Airflow: `python -m account_merge pause --reason WHY`, `resume`, `status`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from account_merge_airflow.connections import open_service
from account_merge_airflow.params import person_of
from account_merge_airflow.policies import OPERATOR_ARGS

PARAMS = {
    "action": Param("pause", type="string", enum=["pause", "resume"], title="Action",
        description="pause: stop before the next rows are written. resume: let merges go on."),
    "tenant": Param(None, type=["null", "string"], maxLength=1024, title="Tenant",
        description="The rootOrgId of merge events; empty: all merging."),
    "reason": Param("", type=["null", "string"], maxLength=1000, title="Reason",
        description="Shown in the note of every paused merge. The run refuses a pause without a reason at once."),
}  # fmt: skip


@dag(schedule=None, catchup=False, max_active_runs=16, params=PARAMS, default_args=OPERATOR_ARGS, doc_md=__doc__,
     is_paused_upon_creation=False, tags=["account-merge"])  # fmt: skip
def account_merge_switch() -> None:
    @task(task_display_name="Turn the switch", execution_timeout=timedelta(minutes=5))
    def turn_switch() -> dict[str, Any]:
        """Write the switch into the journal; return which switches are on afterwards."""
        from account_merge.errors import need_reason

        context = get_current_context()
        params, person = context["params"], person_of(context)
        if params["action"] == "pause":
            need_reason(params["reason"] or "")  # at once, whatever servers are away
        with open_service() as service:
            turn = service.switch.pause if params["action"] == "pause" else service.switch.resume
            return dict(turn(params["tenant"] or "", person, params["reason"] or ""))

    turn_switch()


account_merge_switch()
