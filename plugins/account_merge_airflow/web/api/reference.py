"""Reference: an account's story, the tables that are covered, the rules."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from account_merge.jsonable import jsonable
from account_merge.rules import LEFT_ALONE, RULES
from account_merge_airflow.web.api import answers, bodies, common, reference_answers
from account_merge_airflow.web.service import CoreDep

router = common.router("knowledge")


@router.get("/accounts/{account_id:path}", summary="An account's story", responses=common.NOT_FOUND | common.CONFLICT)
def account(account_id: Annotated[bodies.Text, Path(max_length=1024)], core: CoreDep) -> reference_answers.AccountOut:
    """Return an account's story: what it gave and received, which merge holds it, where its history lives."""
    found = core.service().queries.account(account_id)
    return reference_answers.AccountOut.model_validate(
        found | {"merges": [answers.MergeOut.of(merge) for merge in found["merges"]]}
    )


@router.get("/coverage", summary="Which tables are merged")
def coverage(core: CoreDep) -> list[reference_answers.CoverageTable]:
    """Return every table with a column like a user id: covered by a rule, left alone with a reason, or unknown."""
    return [
        reference_answers.CoverageTable(
            keyspace=t.keyspace, table=t.table, columns=list(t.columns), state=t.state, why=t.why
        )
        for t in core.service().coverage().tables
    ]


@router.get("/rules", summary="What becomes of each column")
def rules() -> reference_answers.RulesOut:
    """Return every rule with its columns' strategies and worked examples."""
    found = [
        reference_answers.RuleOut(
            table=rule.table,
            why=rule.why,
            user=rule.user,
            key=list(rule.key),
            columns={name: reference_answers.ColumnOut(strategy=use.name, why=use.why) for name, use in rule.columns.items()},
            examples=[
                reference_answers.ExampleOut(
                    source=jsonable(e.source), target=None if e.target is None else jsonable(e.target),
                    merged=jsonable(e.merged),
                )
                for e in rule.examples
            ],
        )
        for rule in RULES
    ]  # fmt: skip
    return reference_answers.RulesOut(rules=found, left_alone=dict(LEFT_ALONE))
