"""Retry rules of the tasks: Airflow retries a server's error; an error that needs a person fails the task at once.

Every task can be repeated safely, so Airflow retries an unforeseen error as well.
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from account_merge.errors import InvalidRequest, NeedsAttention, TransientError

RETRIES = 3
#: The first pause; each further one is three times as long. Airflow adds up to as much again, so that tasks spread out.
RETRY_DELAY = timedelta(seconds=float(os.environ.get("ACCOUNT_MERGE_RETRY_DELAY_SECONDS") or "10"))
BACKOFF = 3.0
MAX_RETRY_DELAY = timedelta(minutes=5)

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(InvalidRequest, RetryAction.FAIL, reason="The request itself is wrong: a retry cannot help."),
        RetryRule(NeedsAttention, RetryAction.FAIL, reason="A person has to decide; see the merge's report."),
        RetryRule(
            TransientError, RetryAction.RETRY, reason="A server was away or slow: the same call is safe to repeat."
        ),
    ]
)

_RETRIED = {
    "retries": RETRIES,
    "retry_delay": RETRY_DELAY,
    "retry_exponential_backoff": BACKOFF,
    "max_retry_delay": MAX_RETRY_DELAY,
    "retry_policy": RETRY_POLICY,
}
#: Arguments of every task of a merge.
TASK_ARGS = {
    "owner": "account-merge",
    "pool": "account_merge",
    "weight_rule": "upstream",  # merges that have begun finish before others begin
    **_RETRIED,
}
#: Outside the merges' pool and before them: these tasks must run while merges fill the pool.
_FIRST = {"owner": "account-merge", "priority_weight": 1000, "weight_rule": "absolute"}
#: Arguments of the tasks that people start.
OPERATOR_ARGS = {**_FIRST, **_RETRIED}
#: Arguments of the poll: the next run is the retry.
POLL_ARGS = {**_FIRST, "retries": 0}
