"""The time that the journal's rows carry."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Return the present: UTC without a zone, whole milliseconds."""
    moment = datetime.now(UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
