"""Answers of requests that are in flight."""

from __future__ import annotations

from typing import Any


def answer_of(future: Any) -> Any:
    """Return what a request answers, as the driver's `future.result()` does; forgotten, both are freed at once.

    The driver leaves a cycle behind: the future has the timer of its time-out, and the timer has the future. With it a page of
    rows, or a batch of writes, waits until Python looks for cycles: of a large merge that was 100 MB.

    :raises Exception: what `future.result()` raises.
    """
    try:
        return future.result()
    finally:
        future._timer = None  # noqa: SLF001 - the driver has no other way; a test holds it
