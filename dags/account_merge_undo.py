"""# Account merge: undo

**Undoes a merge, redoes an undone one, gives one up, or moves what came since.** Triggered by hand; it only counts what it
would do unless `dry_run` is off.

| action | what it does | when the merge is |
|---|---|---|
| `undo` | every row becomes what it is without the merge; what was written later stays | completed, failed, paused, abandoned |
| `redo` | an undone merge stands again | undone |
| `abandon` | the merge, or its undo, is given up: its rows stay and stay counted, its accounts are free | not closed |
| `repair` | opens a merge of the same accounts, which moves only what is new; the poll starts it | completed |

```json
{"merge_id": "f9f25bc9-fb1d-5408-bcbd-b2003dcbcd4e", "action": "undo", "reason": "two persons", "dry_run": false}
```

**Guarantees.** When nothing happened in between, every table is exactly as before. A total that grew since loses exactly
what the merge added. Values that the platform wrote later stay, and the merge's report lists them. Each task can be cleared,
killed and repeated. An undo does not give the login of the source account back: the platform switched that off.

**When it fails:** `UNDO_FIRST` names the merge to undo before this one, `ACCOUNT_HELD` the open merge that has an account.
A server is away: Airflow retries; later clear the failed task. The merge stays *undoing* and keeps its accounts until it is
done.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, chain, dag, get_current_context, task

from account_merge.rules import RULES, TableRule
from account_merge_airflow.connections import open_service
from account_merge_airflow.policies import TASK_ARGS
from account_merge_airflow.runs import undo_of
from account_merge_airflow.tasks import begin_undo

PARAMS = {
    "merge_id": Param(type="string", pattern=r"^\s*[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\s*$", title="Merge",
        description="Its id: in the id of its run, in the XCom of its task admit, or from the command list."),
    "action": Param("undo", type="string", enum=["undo", "redo", "abandon", "repair"], title="Action",
        description="See the table in this DAG's documentation."),
    "dry_run": Param(True, type="boolean", title="Only count what would be done", description="Nothing is written."),
    "reason": Param("", type=["null", "string"], maxLength=1000, title="Reason", description="Kept in the journal."),
}  # fmt: skip


@dag(schedule=None, catchup=False, max_active_runs=16, params=PARAMS, default_args=TASK_ARGS, doc_md=__doc__,
     is_paused_upon_creation=False, tags=["account-merge"])  # fmt: skip
def account_merge_undo() -> None:
    @task(task_display_name="Begin", execution_timeout=timedelta(minutes=10))
    def begin() -> dict[str, Any]:
        """Take the accounts and close the merge's logs. Abandon and repair are done here and end the run."""
        with open_service() as service:
            return begin_undo(get_current_context(), service)

    def undo(table: str) -> dict[str, Any]:
        params = get_current_context()["params"]
        with open_service() as service:
            if params["dry_run"]:
                return dict(service.previews.preview_undo_table(undo_of(params), params["action"], table))
            return dict(service.undoing.table(undo_of(params), table))

    @task(task_display_name="End", execution_timeout=timedelta(minutes=30))
    def end() -> dict[str, Any]:
        """Publish the target's sync events once more and end the undo."""
        params = get_current_context()["params"]
        with open_service() as service:
            if params["dry_run"]:
                return {"merge_id": str(undo_of(params)), "sent": 0, "note": "dry_run: nothing was written."}
            return dict(service.undoing.finish(undo_of(params)))

    def table_task(rule: TableRule) -> Any:
        made = task(task_id=f"undo_{rule.table}", task_display_name=f"Undo {rule.table}",
                    doc_md="Works out each row that the merge touched as it is without the merge, and writes it.",
                    execution_timeout=timedelta(hours=6))  # fmt: skip
        return made(undo)(rule.table)

    # In reverse order: the counts of finished lessons follow from the lessons.
    chain(begin(), *(table_task(rule) for rule in reversed(RULES)), end())


account_merge_undo()
