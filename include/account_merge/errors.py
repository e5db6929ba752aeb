"""Every error of the core says what happened (`message`), under which code, and what to do about it (`remedy`)."""

from __future__ import annotations

import uuid


class MergeError(Exception):
    """An error with a stable code and a remedy.

    :param code: upper-case identifier that tools and tests may compare.
    :param message: what happened, to which merge or account; never holds a learner's row values.
    :param remedy: what a person can do about it.
    """

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        super().__init__(code, message, remedy)
        self.code = code
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" + (f" Remedy: {self.remedy}" if self.remedy else "")


class InvalidRequest(MergeError):
    """The request itself is wrong: trying again cannot help, so nobody retries it."""


class InvalidEvent(InvalidRequest):
    """A message on the merge topic that is not a valid merge event."""


class TransientError(MergeError):
    """A server was away, slow or its clock off: the same call may succeed later and is safe to repeat."""


class NeedsAttention(MergeError):
    """The merge cannot go on without a person's decision; its leases stay held so that nothing interleaves."""


def need_reason(reason: str) -> None:
    """Refuse to stop merging without a reason; no server is asked.

    :raises InvalidRequest: the reason is blank.
    """
    if not reason.strip():
        raise InvalidRequest("NO_REASON", "merging is not stopped without a reason", "Say why: the notes show it.")


def busy(merge_id: uuid.UUID) -> TransientError:
    """Return the error of a step whose merge another process changed between reading and writing it."""
    return TransientError("BUSY", f"merge {merge_id} changes state just now", "Try again.")
