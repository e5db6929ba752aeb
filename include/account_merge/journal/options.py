"""What a merge request asks beyond its accounts, as the row of its merge keeps it."""

from __future__ import annotations

from collections.abc import Mapping

from account_merge.model import MergeRequest


def options_of(request: MergeRequest) -> dict[str, str]:
    """Return what a request asks beyond its accounts, as its row keeps it."""
    return {
        "on_conflict": request.on_conflict,
        "source_rows": request.source_rows,
        "dry_run": str(request.dry_run).lower(),
        "tenant": request.tenant,
        **({"dated": str(request.dated)} if request.dated is not None else {}),
        **({"seeded": "true"} if request.seeded else {}),
        **({"doubt": request.doubt} if request.doubt else {}),
        "deactivate_sources": str(request.deactivate_sources).lower(),
        **({"choices": chosen} if (chosen := request.choices.to_text()) else {}),
    }


def tenant_of(options: Mapping[str, str] | None) -> str:
    """Return the tenant in a row's options."""
    return (options or {}).get("tenant", "")
