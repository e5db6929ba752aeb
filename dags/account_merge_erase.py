"""# Account merge: erase

**Erases a person from the journal, when the law or the person asks for it.** Triggered by hand; it only says what it would
erase unless `dry_run` is off.

The account leads to every account that merges have joined with it, and to every merge that names one of them. Look at them
first: they should be one person. All images go at once, whatever the retention; hashes replace account ids; raw events,
reasons and notes go. The learners' own tables are not touched.

```json
{"account": "87ed5b9a-8d4e-4a5b-9e0a-0d5ac1f3b7a1", "reason": "request 4711", "dry_run": false}
```

**Guarantees.** No value, id or key of the person is left in the journal. A repeated event still counts nothing twice. The
journal keeps who erased, when and why (`python -m account_merge erase` lists it), so name nobody in the reason. It can be
killed and repeated. **Nothing brings the images back**: the merges can never be undone. Airflow's own records and Kafka's topics
hold the account's id too, this run's params among them; docs/operating.md says how to clear them.

**When it fails:** `STILL_OPEN` names a merge to finish, undo or abandon first; nothing was changed then. A server is
away: Airflow retries; later clear the failed task, and it goes on.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from account_merge_airflow.connections import open_service
from account_merge_airflow.params import person_of
from account_merge_airflow.policies import OPERATOR_ARGS

PARAMS = {
    "account": Param(type="string", minLength=1, maxLength=1024, pattern=r"\S", title="Account",
        description="One of the person's accounts; the others are found by the merges."),
    "dry_run": Param(True, type="boolean", title="Only say what would be erased", description="Nothing is written."),
    "reason": Param("", type=["null", "string"], maxLength=500, title="Reason",
        description="Kept for ever, with your name; needed to erase. Name nobody here."),
}  # fmt: skip


@dag(schedule=None, catchup=False, max_active_runs=1, params=PARAMS, default_args=OPERATOR_ARGS, doc_md=__doc__,
     is_paused_upon_creation=False, tags=["account-merge"])  # fmt: skip
def account_merge_erase() -> None:
    @task(task_display_name="Erase a person", execution_timeout=timedelta(hours=2))
    def erase_person() -> dict[str, Any]:
        """Return which merges were, or would be, erased."""
        context = get_current_context()
        params, person = context["params"], person_of(context)
        with open_service() as service:
            return dict(service.erasure.erase(params["account"], person, params["reason"] or "", params["dry_run"]))

    erase_person()


account_merge_erase()
