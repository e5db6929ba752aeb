"""Airflow's own operator without its templates: account ids and reasons come from outside and are never rendered."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator

from account_merge_airflow.connections import open_service
from account_merge_airflow.proposing import APPROVE, REJECT, words_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class AskSecondPerson(HITLOperator):
    """An operator that asks people to approve the merge that the task `propose` opened; its text comes from the journal.

    Without an answer in time Airflow gives the default one, which names no person.
    """

    template_fields = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            subject="Approve a merge of accounts", body="", options=[APPROVE, REJECT], defaults=REJECT,
            response_timeout=timedelta(days=7), **kwargs,
        )  # fmt: skip

    def execute(self, context: Context) -> Any:
        """Ask, and wait for the answer without a worker."""
        asked, days = context["ti"].xcom_pull(task_ids="propose"), int(context["params"]["answer_within_days"])
        with open_service() as service:
            merge = service.journal.need(uuid.UUID(asked["merge_id"]))
        self.subject, self.body = words_of(merge, asked["tables"], days)
        self.response_timeout = timedelta(days=days)
        return super().execute(context)
