"""The params of a merge and of a proposal of one: what the trigger form asks, and how a run's params are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from account_merge.choices import CHOICES
from account_merge.rules import RULES

if TYPE_CHECKING:
    from airflow.sdk import Context

    from account_merge.model import MergeRequest

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
        description="When all is merged and verified, as the user service does it; the undo gives them back."),
    "dry_run": Param(False, type="boolean", title="Preview only",
        description="Plan and count the changes; write nothing to learners' tables, hold no account, publish nothing."),
    "reason": Param("", type=["null", "string"], maxLength=1000, title="Reason", description="Kept in the journal."),
}  # fmt: skip


def request_from(params: Mapping[str, Any], requested_by: str = "") -> MergeRequest:
    """Return the request that a run's params make."""
    from account_merge.intake.opening import choices_of
    from account_merge.model import MergeRequest

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
