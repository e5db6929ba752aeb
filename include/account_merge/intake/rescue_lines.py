"""Lines that name merges of the past: CSV, merge events, the user service's log. Each line is read or refused by itself.

Lines are streamed, with at most `LINE_LIMIT` bytes in memory. A refusal names the line and the remedy, never a value.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import IO, Any

from account_merge.errors import InvalidRequest
from account_merge.lifecycle.answers import as_note
from account_merge.lifecycle.requests import before_cutover, check_request, request_of
from account_merge.model import MergeRequest
from account_merge.rules.moments import CANNOT_BE, believable, utc
from account_merge.settings import Settings
from account_merge.states import Origin
from account_merge.sunbird.events import Position, merge_id_for, parse

FORMATS = ("auto", "csv", "events", "log")
#: A logger may put as much around an event as the longest event is.
LINE_LIMIT = 1048576
#: Names of CSV columns as people and the wire have them.
COLUMNS = {
    "from": "from", "fromaccountid": "from", "source": "from", "source_account": "from",
    "to": "to", "toaccountid": "to", "target": "to", "target_account": "to",
    "merged_at": "merged_at", "reason": "reason",
}  # fmt: skip
#: Merge ids of CSV lines are uuid5 below this: altering it would make every line a new merge.
_NAMESPACE = uuid.UUID("0f6d1f0a-96a1-5d0c-9f5b-6f2a0b7c1e38")
_KEYS = ("fromAccountId", "toAccountId")
#: Opening braces of one line that are tried: a malicious line must not cost the square of its length.
_TRIES = 24
_FORMAT_REMEDY = "Mend the line and give it again; the other lines are not touched by it."


@dataclass(frozen=True)
class ParsedLine:
    """A merge that a line names.

    :param by_event: its id is that of the event, so that it is one merge with the event on the topic.
    """

    line: int
    merge_id: uuid.UUID
    request: MergeRequest
    by_event: bool


@dataclass(frozen=True)
class RejectedLine:
    """A line that names no merge, and why."""

    line: int
    error: InvalidRequest


Item = ParsedLine | RejectedLine | None  # None: a line about something else


def read(stream: IO[bytes], settings: Settings, form: str = "auto") -> Iterator[Item]:
    """Yield an item for each line that is not blank, in order. A bad line stops nothing.

    :param form: of `FORMATS`; `auto` decides line by line. A whole log is read as `log`: other lines are passed over.
    """
    header: list[str] = []
    for number, raw in _lines(stream):
        try:
            if raw is None:
                raise _bad("LINE_TOO_LONG", f"it is longer than {LINE_LIMIT} bytes")
            text = _text(raw)
            if form in ("auto", "csv") and not header and (header := _header(text)):
                continue
            yield _item(number, text, form, header, settings)
        except InvalidRequest as error:
            yield RejectedLine(number, error)


def _bad(code: str, what: str, remedy: str = _FORMAT_REMEDY) -> InvalidRequest:
    return InvalidRequest(code, f"This line: {what}.", remedy)


def _lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Yield (number, bytes) of each line that is not blank; None for one that is too long, the rest of which is skipped."""
    number = 0
    while piece := stream.readline(LINE_LIMIT + 1):
        number += 1
        whole = piece.endswith(b"\n") or len(piece) <= LINE_LIMIT
        while not whole:
            rest = stream.readline(LINE_LIMIT)
            whole = not rest or rest.endswith(b"\n")
            piece = b""
        if not piece:
            yield number, None
        elif stripped := piece.removeprefix(b"\xef\xbb\xbf").strip():
            yield number, stripped


def _text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise _bad("LINE_NOT_TEXT", "it is not text in UTF-8") from None
    if "\0" in text:
        raise _bad("LINE_NOT_TEXT", "it holds a null character")
    return text


def _item(number: int, text: str, form: str, header: list[str], settings: Settings) -> Item:
    if form == "csv" or (form == "auto" and header and not _whole(text)):
        return _pair(number, text, header, settings)
    if form == "events" or (form == "auto" and _whole(text) and "edata" in _object(text)):
        return _event(number, text, settings)
    inside = _inside(text)
    if inside is not None:
        return _event(number, inside, settings)
    if form == "log" and not ("edata" in text and any(key in text for key in _KEYS)):
        return None
    raise _bad(
        "NO_EVENT", "it is not a merge event, a log line that holds a whole one, or CSV below a header",
        "Give a CSV a header with from and to; read a whole log with the format log.",
    )  # fmt: skip


# --- events --------------------------------------------------------------------------------------------------------
def _event(number: int, text: str, settings: Settings) -> Item:
    raw = text.encode()
    event = parse(raw, settings)
    if event is None:
        return None
    # Without a mid the bytes are the identity: the same line again is the same merge.
    merge_id = merge_id_for(event.sources, event.target, event.mid, Position("rescue", 0, 0, 0, raw))
    request = request_of(event, raw, settings, Origin.RESCUE)
    return ParsedLine(number, merge_id, request, by_event=event.mid is not None)


def _whole(text: str) -> bool:
    return text.startswith("{") and text.endswith("}")


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _inside(text: str, depth: int = 2) -> str | None:
    """Return the text of the merge event that a logger wrote something around; None when there is none.

    A logger that writes JSON has it as a text in one of its values, with its quotes escaped.
    """
    if not any(key in text for key in _KEYS):
        return None
    decode = json.JSONDecoder().raw_decode
    marked = text.find("topic::")
    first = text.find("{", marked) if marked >= 0 else -1
    starts = [first] if first >= 0 else []
    for start in [*starts, *(m.start() for m in islice(re.finditer(r"\{", text), _TRIES))]:
        try:
            found, end = decode(text, start)
        except (ValueError, RecursionError):
            continue
        if not isinstance(found, dict):
            continue
        edata = found.get("edata")
        if isinstance(edata, dict) and any(key in edata for key in _KEYS):
            return text[start:end]
        if depth:
            texts = (value for value in found.values() if isinstance(value, str))
            inner = next((event for value in texts if (event := _inside(value, depth - 1))), None)
            if inner is not None:
                return inner
    return _inside(text.replace('\\"', '"'), 0) if depth and '\\"' in text else None


# --- CSV -----------------------------------------------------------------------------------------------------------
def _cells(text: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=separator, strict=True))]
    except (csv.Error, StopIteration):
        raise _bad("BAD_CSV", "its quotes or its length are not those of a line of CSV") from None


def _header(text: str) -> list[str]:
    """Return the separator and the columns that a header names; empty when the line is not a header."""
    for separator in (",", ";", "\t"):
        if separator not in text or len(text) > 1000:
            continue
        try:
            names = [COLUMNS.get(cell.lower(), "") for cell in _cells(text, separator)]
        except InvalidRequest:
            continue
        if names.count("from") == names.count("to") == 1:
            return [separator, *names]
    return []


def _pair(number: int, text: str, header: list[str], settings: Settings) -> Item:
    if not header:
        raise _bad("NO_HEADER", "no header came before it", "Begin the CSV with the line from,to,merged_at.")
    separator, *names = header
    cells = _cells(text, separator)
    if len(cells) > len(names):
        raise _bad("BAD_CSV", f"it has {len(cells)} cells, the header {len(names)}")
    row = {name: cell for name, cell in zip(names, cells, strict=False) if name}
    dated = _moment(row.get("merged_at", ""))
    source, target = row.get("from", ""), row.get("to", "")
    request = MergeRequest((source,), target, origin=Origin.RESCUE, reason=as_note(row.get("reason", "")), dated=dated)
    name = json.dumps([source, target, dated], separators=(",", ":"))
    return ParsedLine(number, uuid.uuid5(_NAMESPACE, name), check_request(request, settings), by_event=False)


def _moment(text: str) -> int | None:
    """Return a time with its zone as ms since the epoch; None for an empty text."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None or not believable(utc(moment)):
            raise ValueError
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise _bad(
            "BAD_TIME",
            f"merged_at is not a time with its zone, or {CANNOT_BE}",
            "Write it as 2022-03-31T09:57:19Z, or leave it out.",
        ) from None


def decided(found: ParsedLine, seeded: str, settings: Settings) -> ParsedLine:
    """Decide whether the retired job did the merge of a line.

    :param seeded: `yes` or `no` for all; `by_date`: by the cut-over.
    :raises InvalidRequest: there is a cut-over, and the line has no date.
    """
    request = found.request
    if seeded == "by_date" and settings.cutover is not None and request.dated is None:
        raise _bad(
            "NO_DATE", "nothing tells whether the retired job did this merge",
            "Give the line a merged_at, or say for all lines: seeded yes (it did) or no (it did not).",
        )  # fmt: skip
    by_date = before_cutover(request.dated, settings)
    return replace(found, request=replace(request, seeded=by_date if seeded == "by_date" else seeded == "yes"))


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """Open a file, or standard input, to read bytes.

    :raises InvalidRequest: it cannot be read.
    """
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = open(name, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InvalidRequest("BAD_FILE", f"{name}: {error.strerror}", "Name a file that can be read here.") from None
    with stream:
        yield stream
