"""Failed events: each failed run owes one. The journal knows which are owed, being sent, and sent."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Any

from account_merge.errors import MergeError, NeedsAttention, TransientError
from account_merge.journal import Journal, now
from account_merge.journal.outbox import Outbox, OwedEvent
from account_merge.journal.queue import Queue
from account_merge.lifecycle.pause_switch import Paused
from account_merge.model import Merge
from account_merge.settings import Settings
from account_merge.states import OWED, RESUMABLE, State
from account_merge.sunbird.events import FailInfo, failed_event
from account_merge.sunbird.kafka import Topics
from account_merge.sunbird.publishing import Publisher

log = logging.getLogger(__name__)

#: Kafka header of a failed event's id: an attempt that may have been delivered is found by it.
ID_HEADER = "failedId"
_AT_ONCE = 1000  # merges that one sweep looks at
SPARE = 60.0  # s beyond the delivery time-out before a sender counts as gone


def next_failure(merge: Merge, anew: bool = True) -> dict[str, Any]:
    """Return the columns that let a merge that goes on owe its next failed event.

    :param anew: a new run goes on, whatever became of the last failed event. Tasks of one run that fail side by side owe one
        event together.
    """
    if merge.failed_event == "none" or not anew and merge.failed_event in OWED:
        return {}
    return {"failed_event": "none", "failed_number": merge.failed_number + 1}


def error_columns(error: MergeError | None) -> dict[str, Any]:
    """Return the columns of a merge's row that hold an error; None clears them."""
    if error is None:
        return dict.fromkeys(("error_code", "error", "remedy"))
    return {"error_code": error.code, "error": error.message, "remedy": error.remedy}


class Failures:
    """Records failures and publishes their events, by callback and by sweep through the same function."""

    def __init__(self, journal: Journal, topics: Topics, publisher: Publisher, settings: Settings) -> None:
        self._journal, self._topics, self._publisher, self._settings = journal, topics, publisher, settings
        self._queue, self._outbox = Queue(journal), Outbox(journal)

    def record(self, merge: Merge, error: MergeError, state: State) -> None:
        """Move a merge that goes on to `state` with the error, and make its failed event due.

        When several tasks fail at once, the first error that is recorded stays.
        """
        cause = error_columns(error)
        while merge.state in (State.RUNNING, State.STARTED):
            due = {"failed_event": "due"} if merge.failed_event == "none" else {}
            into = State.FAILED if (merge.state, state) == (State.STARTED, State.NEEDS_ATTENTION) else state
            if self._journal.move(merge, into, **cause, **due):
                return
            merge = self._journal.need(merge.merge_id)

    @contextmanager
    def recording(self, merge: Merge) -> Iterator[None]:
        """Record an error in the journal before it is raised on; a transient one leaves the state alone."""
        try:
            yield
        except Paused:
            raise
        except TransientError as error:
            self.note_last_error(merge.merge_id, error)
            raise
        except MergeError as error:
            state = State.NEEDS_ATTENTION if isinstance(error, NeedsAttention) else State.FAILED
            self.record(self._journal.need(merge.merge_id), error, state)
            raise
        except Exception as error:
            cause = f"merge {merge.merge_id} met an error that nobody foresaw: {type(error).__name__}"
            remedy = "The task is tried again. If it fails again, report the traceback in its log, then clear the task."
            self.note_last_error(merge.merge_id, MergeError("UNEXPECTED", cause, remedy))
            raise
        if merge.error_code and merge.state == State.RUNNING:
            self.note_last_error(merge.merge_id, None)

    def note_last_error(self, merge_id: uuid.UUID, error: MergeError | None) -> None:
        """Keep the last error of a merge that goes on (None clears it); the state stays.

        Only for people: if the run fails, its failed event names this cause. If the journal itself does not answer, the
        error that is being raised says so.
        """
        try:
            merge = self._journal.need(merge_id)
            if merge.state in (State.RUNNING, State.STARTED, State.UNDOING, State.REDOING):
                self._journal.change(merge, **error_columns(error))
        except MergeError as problem:
            log.warning("Merge %s: its last error could not be kept: %s", merge_id, problem)

    def fail(self, merge_id: uuid.UUID, run_id: str, error: BaseException | str) -> dict[str, Any]:
        """Record that a run failed, if nothing else did, and publish the failed event that is owed.

        The failed event names the cause that a task left in the journal.
        """
        merge = self._journal.need(merge_id)
        if run_id in merge.run_ids[:-1]:  # the merge goes on in a later run: the end of this one says nothing about it
            return {"merge_id": str(merge_id), "failed_event": self.send(merge_id)}
        merge = self._resume_failed(merge, run_id)
        if merge.state == State.REQUESTED:  # the run ended before `admit` could move it on
            self._journal.move(merge, State.STARTED, attempt=merge.attempt + 1, run_ids=[*merge.run_ids, run_id])
            merge = self._journal.need(merge_id)
        if merge.state in (State.RUNNING, State.STARTED):
            reason = error if isinstance(error, str) else type(error).__name__
            self.record(merge, error if isinstance(error, MergeError) else _cause(merge, run_id, reason), State.FAILED)
        return {"merge_id": str(merge_id), "failed_event": self.send(merge_id)}

    def _resume_failed(self, merge: Merge, run_id: str) -> Merge:
        """Arm a failed event of its own for a run that should have resumed the merge and ended before `admit` could."""
        if merge.resume != "started" or merge.state not in RESUMABLE or merge.run_ids[-1:] != (run_id,):
            return merge
        self._journal.move(
            merge, State.RUNNING, resume=None, error_code=None, error=None, remedy=None, **next_failure(merge)
        )
        return self._journal.need(merge.merge_id)

    def send(self, merge_id: uuid.UUID) -> str:
        """Publish the failed events that a merge owes, oldest first; return the state of its newest one afterwards.

        :raises TransientError: the brokers did not acknowledge an event; whether it is there is looked up later.
        """
        merge, state = self._journal.need(merge_id), ""
        for event in self._outbox.of(merge):
            state = self._send(event)
        return state

    def _send(self, event: OwedEvent) -> str:
        if event.state not in OWED:
            return event.state
        if event.state == "sending":
            since = event.sent_at.replace(tzinfo=UTC).timestamp() if event.sent_at else 0.0
            if time.time() - since < self._settings.delivery_timeout_seconds + SPARE:
                return "sending"
            if self._is_there(event):
                self._outbox.mark(event, "sent")
                return "sent"
        topic = self._settings.failed_topic
        offsets = {str(partition): offset for partition, offset in self._topics.end_offsets(topic).items()}
        if not self._outbox.mark(event, "sending", sent_at=now(), offsets=offsets):
            return self._journal.need(event.merge.merge_id).failed_event
        begun = next(
            one for one in self._outbox.of(self._journal.need(event.merge.merge_id)) if one.number == event.number
        )
        try:
            self._publisher.publish([(topic, None, self._body(begun))], {ID_HEADER: begun.failed_id.encode()})
        except TransientError:
            raise  # it may be there: it stays `sending`, and is looked for before it is sent again
        except MergeError as error:
            self._outbox.mark(begun, "undeliverable", note=f"failed event: {error}"[:2000])
            return "undeliverable"
        self._outbox.mark(begun, "sent")
        return "sent"

    def _body(self, event: OwedEvent) -> bytes:
        request = event.merge.request
        raw = request.raw
        if raw is None:
            asked = {
                "eid": "BE_JOB_REQUEST",
                "edata": {
                    "action": "merge-user-courses-and-cert",
                    "fromAccountId": ",".join(request.sources),
                    "toAccountId": request.target,
                },
            }
            raw = json.dumps(asked).encode()
        failure = FailInfo(
            event.failed_id,
            event.code or "RUN_FAILED",
            "; ".join(filter(None, (event.error or "the run failed", request.doubt if event.refused else ""))),
            event.remedy,
            event.merge.merge_id,
            data_error=True if event.refused else None,
        )
        return failed_event(raw, failure, self._settings)

    def _is_there(self, event: OwedEvent) -> bool:
        """Whether an attempt's event is on the topic. What cannot be decided in time counts as not there: it has the same id."""
        since = {int(partition): offset for partition, offset in event.offsets.items()}
        wanted = (ID_HEADER, event.failed_id.encode())
        return self._topics.holds(self._settings.failed_topic, since, lambda message: wanted in message.headers)

    def sweep(self, run_state: Callable[[str], str | None]) -> dict[str, int]:
        """Publish the failed events that no callback published: of merges whose run failed, and of refused events."""
        begun = self._queue.untouched(now(), (State.RUNNING, State.STARTED), (), _AT_ONCE)
        for merge in (*begun, *self._queue.resuming(now(), (), _AT_ONCE)):
            run = merge.run_ids[-1] if merge.run_ids else ""
            if run and run_state(run) == "failed":
                self.fail_quietly(merge, run)
        counts = {"sent": 0, "pending": 0}
        problem: MergeError | None = None
        for merge_id in self._outbox.owing(_AT_ONCE):
            try:
                self.send(merge_id)
                done = not self._outbox.owes(self._journal.need(merge_id))
            except TransientError as error:
                done, problem = False, error
            counts["sent" if done else "pending"] += 1
        if problem is not None:
            raise problem
        return counts

    def fail_quietly(self, merge: Merge, run: str) -> None:
        """Record the failure of a run; the sweep that follows sends the event."""
        merge = self._resume_failed(merge, run)
        self.record(merge, _cause(merge, run, "it ended failed"), State.FAILED)


def _cause(merge: Merge, run_id: str, reason: str) -> MergeError:
    """Return the error that a task left in the journal before its run failed; without one, that the run failed."""
    if merge.error_code:
        return MergeError(merge.error_code, merge.error or "", merge.remedy or "")
    return MergeError(
        "RUN_FAILED",
        f"run {run_id} of merge {merge.merge_id} failed: {reason}",
        "Read the failed task's log, then clear that task: it goes on where it stopped.",
    )
