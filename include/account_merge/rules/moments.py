"""Times as the platform has them: timestamps, dates, texts, numbers of any unit; and which of them can be. Pure.

A moment is a time in UTC without a zone, as the driver gives a timestamp: what a cell holds needs no conversion.
"""

from __future__ import annotations

import math
import re
import time as clock
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any

#: Before this there was no platform, so nobody learned on it: Sunbird's first release is of 2016.
FIRST = datetime(2015, 1, 1)
#: How far ahead of this machine's clock a time may be: no zone, clock or planned date is further off.
AHEAD = timedelta(days=366)
#: Words for a time that is not believed.
CANNOT_BE = "a time that cannot be (before 2015, or more than a year ahead)"

_FORMS = (
    *("%Y-%m-%d %H:%M:%S:%f%z", "%Y-%m-%d %H:%M:%S.%f%z", "%Y-%m-%d %H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"),
    *("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S"),
    *("%Y-%m-%d %H:%M:%S:%f", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"),
    *("%b %d, %Y, %I:%M:%S %p", "%b %d, %Y %I:%M:%S %p"),  # Gson's default date, JDK 9+ and before
)
#: Units of a number since the epoch, as parts of a second: the platform's own is the millisecond.
_UNITS = (1_000, 1, 1_000_000, 1_000_000_000)
#: The platform's own form, which a thousand times as many texts have as all others; Python reads it much faster so.
_USUAL = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)[:.](\d{3}[+-]\d{4})", re.ASCII)
_USUAL_LENGTH = 28
_EPOCH = datetime(1970, 1, 1)
_DIGITS = 20  # a longer number is not a time in any unit
_LETTERS = 64  # a longer text is not a time in any form, and is not kept


def believable(moment: datetime | None) -> bool:
    """Whether a moment can be a time of the platform: it is not before `FIRST` and not `AHEAD` of this machine's clock.

    :param moment: as `instant` gives it; None is not a time.
    """
    return moment is not None and FIRST <= moment <= _last(int(clock.time()))


def usual(value: Any) -> bool:
    """Whether a value is a timestamp that can be, as nearly all are: asked before anything is read from it."""
    return type(value) is datetime and value.tzinfo is None and believable(value)


def believed(value: Any) -> datetime | None:
    """Return the moment that a value names, when that can be a time of the platform."""
    moment = instant(value)
    return moment if believable(moment) else None


def cannot_be(value: Any) -> bool:
    """Whether a value names a moment that can be no time of the platform."""
    moment = instant(value)
    return moment is not None and not believable(moment)


def utc(time: datetime) -> datetime:
    """Return a time that has a zone as a moment.

    :raises OverflowError: UTC cannot name it.
    """
    return time.astimezone(UTC).replace(tzinfo=None)


@lru_cache(maxsize=2)
def _last(second: int) -> datetime:
    """Return the last moment that can be, as this machine's clock has it in a second: one row asks several times."""
    return _EPOCH + timedelta(seconds=second) + AHEAD


def instant(value: Any, time_zone: str = "Asia/Kolkata") -> datetime | None:
    """Return the moment that a value names, to the millisecond; None when it names none. Never raises.

    The platform writes `yyyy-MM-dd HH:mm:ss:SSSZ` (a colon before the milliseconds, a zone like +0530).
    A number since the epoch, also as a text, is read in the unit that makes it believable, otherwise in milliseconds.

    :param value: a timestamp (naive: UTC), a date (its beginning in UTC), a text or a number; anything else names none.
    :param time_zone: of a text without a zone (the platform's `sunbird_time_zone`).
    """
    if value is None:
        return None
    try:
        if type(value) is datetime and value.tzinfo is None:  # what a cell holds
            return value
        if isinstance(value, str):
            return _of_text(value.strip(), time_zone)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _of_number(value)
        return _of_calendar(value)
    except (ValueError, OverflowError):  # a moment that UTC cannot name
        return None


def _of_calendar(value: Any) -> datetime | None:
    if not isinstance(value, datetime | date):
        days = getattr(value, "days_from_epoch", None)  # the driver's form of a date, which may be beyond the calendar
        return _EPOCH + timedelta(days=days) if isinstance(days, int) else None
    if not isinstance(value, datetime):
        return datetime.combine(value, time())
    return utc(value) if value.tzinfo else value


def _of_number(value: float) -> datetime | None:
    if not math.isfinite(value):
        return None
    read = [_since_epoch(value, unit) for unit in _UNITS]
    return next((moment for moment in read if believable(moment)), read[0])


def _since_epoch(value: float, unit: int) -> datetime | None:
    try:
        return _EPOCH + timedelta(milliseconds=int(value) * 1000 // unit)
    except OverflowError:
        return None


def _of_text(text: str, time_zone: str) -> datetime | None:
    if len(text) == _USUAL_LENGTH and (moment := _of_usual(text)):
        return moment
    if text.lstrip("-").isdecimal():
        return _of_number(int(text)) if len(text) <= _DIGITS else None
    text = text.replace("\u202f", " ")  # newer JDKs put a narrow space before AM and PM
    return _in_a_form(text, time_zone) if len(text) <= _LETTERS else None


@lru_cache(maxsize=4096)  # one merge reads the same text several times
def _of_usual(text: str) -> datetime | None:
    found = _USUAL.fullmatch(text)
    if not found:
        return None
    try:
        return utc(datetime.fromisoformat(f"{found[1]}.{found[2]}"))
    except (ValueError, OverflowError):  # the forms decide
        return None


@lru_cache(maxsize=4096)  # as above; and `strptime` keeps no more than five forms ready
def _in_a_form(text: str, time_zone: str) -> datetime | None:
    from zoneinfo import ZoneInfo

    for form in _FORMS:
        try:
            read = datetime.strptime(text, form)
            moment = utc(read if read.tzinfo else read.replace(tzinfo=ZoneInfo(time_zone)))
        except (ValueError, OverflowError):  # not this form; or a moment that UTC cannot name
            continue
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return None
