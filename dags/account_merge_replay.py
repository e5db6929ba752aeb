"""# Account merge: replay

**Opens failed merges and refused events again, so that the next poll starts them.** Triggered by hand; it only says what
it would do unless `dry_run` is off.

**Guarantees.** Nobody has to publish an event again. A merge that is completed, under way or about to start is left alone,
so nothing is replayed twice. Each merge has an answer of its own, `{merge_id, before, after, code, note}`, in the XCom of
`replay_events` and in its log.

```json
{"states": ["failed"], "since": "2026-03-01T10:00:00Z", "reason": "Cassandra is back", "dry_run": false}
```

| before | a replay |
|---|---|
| failed, needs_attention | marks the merge: the next poll starts its next run, which goes on where it stopped |
| refused, and valid by now (a limit was raised, the other merge was undone) | opens it as it is |
| refused, with an event in `corrected` | opens that event as a merge of its own; the refused one names it |
| undeliverable failed event | marks the event: the next poll publishes it |

Repair the cause first: `python -m account_merge failed` lists the failures, with remedies.

**When it fails:** PostgreSQL is away or a param cannot be read. Merges that were replayed before stay so, and repeating
is safe. A run that left merges alone is green: read their codes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from account_merge.failed_search import KINDS, MOST
from account_merge_airflow.connections import open_service
from account_merge_airflow.params import person_of
from account_merge_airflow.policies import OPERATOR_ARGS
from account_merge_airflow.tasks import replay_failed

UUID = {"type": "string", "pattern": r"^\s*[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\s*$"}
TIME: dict[str, Any] = {"type": ["null", "string"], "format": "date-time"}
STATES = list(KINDS[:3])
PARAMS = {
    "merge_ids": Param([], type=["null", "array"], items=UUID, maxItems=MOST, title="Merges",
        description="Merge ids, one a line: these merges, whatever the filters say. Empty: all that the filters find."),
    "states": Param(STATES, type="array", minItems=1, items={"type": "string", "enum": list(KINDS)}, examples=list(KINDS),
        title="What", description="undeliverable: failed events that could not be published, instead of their merges."),
    "codes": Param([], type=["null", "array"], items={"type": "string"}, title="Error codes",
        description="Only merges with one of these codes, one a line."),
    "account": Param(None, type=["null", "string"], title="Account", description="Only merges with this account."),
    "since": Param(None, **TIME, title="Failed since", description="Only merges that failed at or after this time."),
    "until": Param(None, **TIME, title="Failed before", description="Only merges that failed before this time."),
    "limit": Param(100, type="integer", minimum=1, maximum=MOST, title="At most",
        description="The oldest failures first; repeat the replay for the others."),
    "corrected": Param({}, type=["null", "object"], title="Corrected events",
        description="Merge id of a refused event: the event as it should have been. These are replayed as well."),
    "dry_run": Param(True, type="boolean", title="Only say what would be done", description="Nothing is written."),
    "reason": Param("", type=["null", "string"], maxLength=1000, title="Reason", description="Kept in the notes."),
}  # fmt: skip


@dag(schedule=None, catchup=False, max_active_runs=16, params=PARAMS, default_args=OPERATOR_ARGS, doc_md=__doc__,
     is_paused_upon_creation=False, tags=["account-merge"])  # fmt: skip
def account_merge_replay() -> None:
    @task(task_display_name="Replay failed events", execution_timeout=timedelta(minutes=30))
    def replay_events() -> dict[str, Any]:
        """Open merges again; return for each what was done, or why it was left alone."""
        context = get_current_context()
        with open_service() as service:
            return replay_failed(context["params"], service, person_of(context))

    replay_events()


account_merge_replay()
