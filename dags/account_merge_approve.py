"""# Account merge: approval by a second person

**Proposes a merge; another person approves or rejects it.** Triggered by hand, with the params of `account_merge`:

```json
{"source_accounts": ["b964d83a-c40f-4b3c-85e7-68b764efd14b"], "target_account": "191e6b5a-8581-46bd-b779-b3b534984649",
 "reason": "one person, ticket 4711", "answer_within_days": 7}
```

`propose` plans every table, keeps the plan as digests and opens the merge as *proposed*; `approve` waits for a person, on
Airflow's page of required actions; `decide` carries out the answer. The poll starts an approved merge. Without an answer in
time the proposal expires.

**Guarantees.** The person who asked cannot approve. No account is held while a person thinks. An approved merge does exactly
what was proposed. Rows that changed since, also after the approval, bring it back to *proposed*; its page names them. A new
run with its `merge_id`, or clearing `propose` and what follows, proposes it anew. Each task can be cleared and repeated.

**When it fails:** `SAME_PERSON`: clear the task `approve` and what follows, another person answers. `PLAN_CHANGED`: propose
anew, or reject. Invalid request: nothing was opened, the log says why. A server is away: Airflow
retries; later clear the failed task.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, chain, dag, get_current_context, task

from account_merge_airflow.connections import open_service
from account_merge_airflow.operators import AskSecondPerson
from account_merge_airflow.params import MERGE_PARAMS
from account_merge_airflow.policies import OPERATOR_ARGS
from account_merge_airflow.tasks import decide_proposal, open_proposal

PARAMS = {name: param for name, param in MERGE_PARAMS.items() if name != "dry_run"} | {
    "answer_within_days": Param(7, type="integer", minimum=1, maximum=90, title="Answer within days",
        description="After that the proposal expires; nothing is merged."),
}  # fmt: skip


@dag(schedule=None, catchup=False, max_active_runs=1000, params=PARAMS, default_args=OPERATOR_ARGS, doc_md=__doc__,
     is_paused_upon_creation=False, tags=["account-merge"])  # fmt: skip
def account_merge_approve() -> None:
    @task(task_display_name="Propose the merge", execution_timeout=timedelta(hours=6))
    def propose() -> dict[str, Any]:
        """Plan every table, keep the plan as digests and open the merge as proposed. No account is held."""
        with open_service() as service:
            return open_proposal(get_current_context(), service)

    @task(task_display_name="Decide", execution_timeout=timedelta(hours=6))
    def decide() -> dict[str, Any]:
        """Approve, reject, or expire when nobody answered. The poll starts an approved merge."""
        with open_service() as service:
            return decide_proposal(get_current_context(), service)

    approve = AskSecondPerson(
        task_id="approve", task_display_name="A second person approves", execution_timeout=timedelta(minutes=10),
        doc_md="Waits for an answer without a worker; no account is held meanwhile.",
    )  # fmt: skip
    chain(propose(), approve, decide())


account_merge_approve()
