"""# Account merge: rescue

**Merges pairs of accounts that were stranded or spoiled before this product, and finds stranded accounts.** Triggered by
hand; it only says what it would do unless `dry_run` is off.

**Guarantees.** Each line has an answer of its own, and a bad line stops no other. A merge that the journal knows, by the
topic or by an earlier rescue, is left alone, so the same lines may be given again. A merge that was asked for before
`ACCOUNT_MERGE_CUTOVER` adds no totals, since the retired job moved them; it moves certificates, scores, progress and
missing rows.

```json
{"lines": "from,to,merged_at\\nold-id,new-id,2022-03-31T09:57:19Z", "dry_run": false, "reason": "ticket 42"}
```

| format | a line |
|---|---|
| csv | below a header with `from` and `to` (or `fromAccountId`, `toAccountId`), and `merged_at` and `reason` if you like |
| events | a merge event as it stood on the topic |
| log | the user service's log; lines without an event are passed over |
| auto | any of these; another line gets an answer that says so |

The answers are in the log, one a line with merge ids and counts, and as numbers in the XCom of `rescue`. The next poll
starts the opened merges, like any other.

`{"what": "stranded"}` reads the platform's accounts gently for 50 minutes and goes on at the next run. `python -m
account_merge stranded --list` lists the accounts. It writes to the journal only.

**When it fails:** Cassandra or PostgreSQL is away, or a param cannot be read. Merges that were opened stay so, and
repeating is safe. A run with bad lines is green: read their codes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from account_merge_airflow.connections import open_service
from account_merge_airflow.params import person_of
from account_merge_airflow.policies import OPERATOR_ARGS
from account_merge_airflow.tasks import rescue_accounts

PARAMS = {
    "what": Param("pairs", type="string", enum=["pairs", "stranded"], title="What",
        description="pairs: merge the pairs that the lines name. stranded: look for accounts that are switched off and have no merge."),
    "lines": Param(None, type=["null", "string"], format="multiline", maxLength=1048576, title="Lines",
        description="One merge a line; put more lines than fit here into a file."),
    "path": Param(None, type=["null", "string"], maxLength=4096, title="File",
        description="A file of the worker, instead of lines."),
    "format": Param("auto", type="string", enum=["auto", "csv", "events", "log"], title="Format",
        description="auto decides line by line; a whole log is read as log."),
    "seeded": Param("by_date", type="string", enum=["by_date", "yes", "no"], title="Done by the retired job",
        description="by_date: when it was asked for before ACCOUNT_MERGE_CUTOVER. yes or no: all of these lines."),
    "dry_run": Param(True, type="boolean", title="Only say what would be done", description="Nothing is written."),
    "restart": Param(False, type="boolean", title="Begin anew",
        description="Begin the search for stranded accounts anew and forget what was found."),
    "reason": Param("", type=["null", "string"], maxLength=1000, title="Reason", description="Kept in the journal."),
}  # fmt: skip


@dag(schedule=None, catchup=False, max_active_runs=4, params=PARAMS, default_args=OPERATOR_ARGS, doc_md=__doc__,
     is_paused_upon_creation=False, tags=["account-merge"])  # fmt: skip
def account_merge_rescue() -> None:
    @task(task_display_name="Rescue", execution_timeout=timedelta(hours=1))
    def rescue() -> dict[str, Any]:
        """Preview or open the merges that the lines name, or go on with the search; return numbers."""
        context = get_current_context()
        with open_service() as service:
            return rescue_accounts(context["params"], service, person_of(context))

    rescue()


account_merge_rescue()
