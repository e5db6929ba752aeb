"""Opening a merge: a request becomes a row of the journal here, and nowhere else."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from account_merge.choices import Choices, row_name
from account_merge.errors import InvalidRequest
from account_merge.intake.inbox import Inbox, NextRun
from account_merge.journal import Journal
from account_merge.lifecycle.admission import previewed
from account_merge.lifecycle.requests import check_request
from account_merge.merge_ids import id_of_key, request_id
from account_merge.model import Merge, MergeRequest
from account_merge.rules import RULES
from account_merge.settings import Settings
from account_merge.states import State


class Opening:
    """Opens merges that people, programs and runs ask for."""

    def __init__(self, journal: Journal, settings: Settings, inbox: Inbox) -> None:
        self._journal, self._settings, self._inbox = journal, settings, inbox

    def open_merge(self, request: MergeRequest, merge_id: uuid.UUID | None = None, position: str = "") -> uuid.UUID:
        """Write the merge into the journal once, and return its id.

        :param merge_id: of an event or a run; a bad request is then written as refused and owes a failed event.
        :raises InvalidRequest: the request cannot be a merge.
        """
        try:
            request = check_request(request, self._settings)
        except InvalidRequest as error:
            if merge_id is not None:
                self._journal.open(merge_id, request, position, State.REFUSED, error)
            raise
        merge_id = merge_id or request_id(str(uuid.uuid4()), request.sources, request.target)
        self._journal.open(merge_id, request, position)
        return merge_id

    def open_once(self, request: MergeRequest, user: str, key: str, state: State = State.REQUESTED) -> Merge:
        """Open a merge once for each key of a user; a bad request leaves nothing behind.

        :param state: `proposed` for one that a second person approves; its keys are apart.
        :raises InvalidRequest: these accounts cannot be merged, or the key was used for another request.
        """
        merge_id = id_of_key(user, key if state == State.REQUESTED else f"{state} {key}")
        known = self._journal.get(merge_id)
        if known is None:
            request = previewed(self._journal, self._settings, request).request
            self._journal.open(merge_id, request, state=state)
            known = self._journal.need(merge_id)
        request = replace(request, choices=request.choices.hidden(self._journal.hidden))
        if _asked(known.request) != _asked(request):
            raise InvalidRequest(
                "KEY_REUSED",
                f"this idempotency key belongs to merge {merge_id}, which was asked for otherwise",
                "Send the same request again, or another one with a key of its own.",
            )
        return known

    def start(self, merge: Merge) -> NextRun | None:
        """Move a requested merge to started and return the run to trigger; None leaves it to the poll."""
        return self._inbox.start(merge)


def _asked(request: MergeRequest) -> tuple[Any, ...]:
    """Return the parts of a request that make two requests the same."""
    return (
        tuple(dict.fromkeys(request.sources)), request.target, request.tables, request.on_conflict, request.source_rows,
        request.reason, request.deactivate_sources, request.choices,
    )  # fmt: skip


def choices_of(found: Mapping[str, Any]) -> Choices:
    """Return choices as a person's program writes them: `{"tables": {table: choice}, "rows": [{"table", "key", "choice"}]}`.

    :raises InvalidRequest: something is missing, or the key of a row is not that of its table.
    """
    rows: dict[str, str] = {}
    keys = {rule.table: rule.key for rule in RULES}
    try:
        for row in found.get("rows", ()):
            columns = keys.get(row["table"], ())
            if set(row["key"]) != set(columns):
                words = ", ".join(columns) or "no columns: the account has one row"
                problem = f"the key of a row of {row['table']} has {words}"
                raise InvalidRequest("BAD_KEY", problem, "Take the key from a preview.")
            rows[row_name(row["table"], tuple(row["key"][column] for column in columns))] = row["choice"]
        return Choices(dict(found.get("tables", {})), rows)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        remedy = 'Write {"tables": {table: choice}, "rows": [{"table": …, "key": {column: value}, "choice": …}]}.'
        raise InvalidRequest("BAD_CHOICES", f"the choices cannot be read ({type(error).__name__})", remedy) from error
