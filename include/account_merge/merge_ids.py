"""The ids of merges: each is a uuid5, so that a request for the same merge finds the one that exists."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable

#: Ids of merges that people ask for are uuid5 below this: altering it would make every cleared run a new merge.
_NAMESPACE = uuid.UUID("6f0a7f0e-5b0d-5c33-9f3e-2f1c8f0c9d11")
#: Ids of merges with an idempotency key are uuid5 below this: the same holds.
_KEYS = uuid.UUID("0d4c7c58-4b0e-5a55-8c1f-7d9c0e7f3b62")


def request_id(run_id: str, sources: Iterable[str], target: str) -> uuid.UUID:
    """Return the merge id of a run that a person triggered: the same for the same run, however often it is cleared."""
    return uuid.uuid5(_NAMESPACE, "\n".join([run_id, *sorted(sources), target]))


def names_id(main: str, others: Iterable[str], deactivate: bool, number: int) -> uuid.UUID:
    """Return the merge id of an administrator's request by user names: the same for the same names in the same order.

    :param number: counts requests anew: after an undo, or when a name belongs to another account.
    """
    return uuid.uuid5(_NAMESPACE, json.dumps(["names", main, *others, deactivate, number]))


def id_of_key(user: str, key: str) -> uuid.UUID:
    """Return the merge id of a user's request with an idempotency key: a repeated call is the same merge."""
    return uuid.uuid5(_KEYS, json.dumps([user, key]))
