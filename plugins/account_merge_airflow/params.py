"""What a person says of a merge, as the trigger forms ask it: the same for a merge and for a proposal of one."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from account_merge.choices import CHOICES
from account_merge.rules import RULES

TABLES = [rule.table for rule in RULES]
ACCOUNT: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": r"\S"}
MERGE_PARAMS = {
    "source_accounts": Param(type="array", items=ACCOUNT, minItems=1, maxItems=20, title="Source accounts",
        description="Accounts that are merged away, one a line; at most 20."),
    "target_account": Param(**ACCOUNT, title="Target account", description="The account that survives."),
    "tables": Param(TABLES, type="array", minItems=1, items={"type": "string", "enum": TABLES}, examples=TABLES,
        title="Tables", description="Tables to merge; the others are left as they are."),
    "on_conflict": Param("combine", type="string", enum=["combine", "skip"], title="When both have it",
        description="combine: the best of both rows. skip: the target's rows of that course, group or program stay."),
    "choices": Param({}, type="object", title="Whose rows stand", additionalProperties={"enum": list(CHOICES)},
        propertyNames={"enum": TABLES}, description="Table: combine, target or source. For a row: page New merge."),
    "source_rows": Param("keep", type="string", enum=["keep", "deactivate"], title="Source's enrolments",
        description="keep: untouched. deactivate: set inactive, so that the old account leaves teachers' reports."),
    "deactivate_sources": Param(False, type="boolean", title="Deactivate the source accounts",
        description="Once all is merged and verified, as the user service does it; the undo gives them back."),
    "dry_run": Param(False, type="boolean", title="Preview only",
        description="Plan and count the changes; write nothing to learners' tables, take no account, publish nothing."),
    "reason": Param("", type=["null", "string"], maxLength=1000, title="Reason", description="Kept in the journal."),
}  # fmt: skip
