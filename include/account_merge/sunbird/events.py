"""The wire: a merge event is read whole or refused by one row of `EVENT_RULES`; what goes out is built to the letter.

Only this module and its table (`event_rules`) know the wire's names. A refusal names the key that is wrong, never a value.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError, from_json

from account_merge.errors import InvalidEvent, InvalidRequest
from account_merge.settings import Settings
from account_merge.sunbird.event_rules import (
    ACCEPTED,
    ACTION,
    EMPTY,
    EVENT_RULES,
    NO_EDATA,
    NOT_AN_OBJECT,
    NOT_JSON,
    NOT_TEXT,
    SAME_ACCOUNT,
    TOO_LARGE,
    WRONG_HASH,
    EventRule,
    account_id_problem,
    is_blank,
)

__all__ = [
    "ACCEPTED", "ACTION", "RAW_LIMIT", "EVENT_RULES", "MergeEvent", "Message", "Position", "EventRule",
    "account_id_problem", "failed_event", "kept_of", "merge_id_for", "parse", "sync_events",
]  # fmt: skip

#: Of a failed event's original at most this much travels; brokers take messages of about 1 MB.
RAW_LIMIT = 262144
#: Bytes of a refused message up to which the journal keeps it whole; of a longer one, the head.
KEPT_WHOLE, KEPT_HEAD = 2**23, 2**16
#: Merge ids are uuid5 below this: altering it would make every redelivered event a new merge.
_NAMESPACE = uuid.UUID("6f0c7a52-7a53-5c5f-9d0e-3b1f6a1f2c44")
_DIGITS = 30  # a longer text is not a time in any unit
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_ROWS = {row.code: row for row in EVENT_RULES}


@dataclass(frozen=True)
class MergeEvent:
    """A valid request, off the wire, to merge the source accounts into the target account."""

    sources: tuple[str, ...]
    target: str
    mid: str | None = None
    ets: int | None = None
    tenant: str = ""


@dataclass(frozen=True)
class Position:
    """Position of a message, and its bytes: the identity of one without a mid, even if the topic is made anew."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    raw: bytes = field(repr=False)


@dataclass(frozen=True)
class Message:
    """One message as it stands in a topic; `value` is None for a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def position(self) -> Position:
        """Return the message's place, as identity for an event that brings none."""
        return Position(self.topic, self.partition, self.offset, self.timestamp_ms, self.value or b"")


def _account_id(value: Any, info: ValidationInfo) -> Any:
    row = account_id_problem(value, info.context["max_id_length"])  # type: ignore[index]
    if row:
        raise PydanticCustomError(row.code, "refused")
    return value


def _sound_mid(value: Any) -> str | None:
    return value if isinstance(value, str) and not is_blank(value) else None


def _number(value: Any) -> int | None:
    """Return a number, also one that a producer wrote as a text or in the form of a double (1.7E12)."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < _DIGITS:
        return int(value)
    if isinstance(value, float):
        return int(value) if math.isfinite(value) else None
    return value if type(value) is int else None


def _tenant(value: Any, info: ValidationInfo) -> str:
    # It only selects merges: one that no switch can name counts as absent, and refuses nothing.
    fits = isinstance(value, str) and len(value.strip()) <= info.context["max_id_length"]  # type: ignore[index]
    return value.strip() if fits else ""


_AccountId = Annotated[str, BeforeValidator(_account_id)]


def _different(edata: _Edata) -> _Edata:
    if edata.source == edata.target:
        raise PydanticCustomError(SAME_ACCOUNT.code, "refused")
    return edata


class _Edata(BaseModel):
    model_config = ConfigDict(validate_default=True)
    source: _AccountId = Field(None, alias="fromAccountId")  # type: ignore[assignment]
    target: _AccountId = Field(None, alias="toAccountId")  # type: ignore[assignment]
    tenant: Annotated[str, BeforeValidator(_tenant)] = Field("", alias="rootOrgId")


class _WireEvent(BaseModel):
    mid: Annotated[str | None, BeforeValidator(_sound_mid)] = None
    ets: Annotated[int | None, BeforeValidator(_number)] = None
    object: Annotated[str, BeforeValidator(lambda v: str(v.get("id")) if isinstance(v, dict) else "")] = ""
    edata: Annotated[_Edata, AfterValidator(_different)]


def parse(raw: bytes | None, settings: Settings) -> MergeEvent | None:
    """Read one message: a merge event, or None for an event of another action, else `InvalidEvent` by `EVENT_RULES`."""
    body = _object(raw, settings.max_event_bytes)
    edata = body.get("edata")
    if not isinstance(edata, dict):
        raise _refused(NO_EDATA)
    action = edata.get("action")
    if action not in (None, "") and str(action).strip().lower() != ACTION:
        return None
    try:
        wire = _WireEvent.model_validate(body, context={"max_id_length": settings.max_id_length})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise _refused(_ROWS[first["type"]], ".".join(map(str, first["loc"]))) from None
    source, target = wire.edata.source, wire.edata.target
    true_hash = hashlib.sha256(f"{source}_{target}".encode()).hexdigest()
    if _HASH.fullmatch(wire.object) and wire.object.lower() != true_hash:
        raise _refused(WRONG_HASH)
    return MergeEvent((source,), target, wire.mid, wire.ets, wire.edata.tenant)


def _object(raw: bytes | None, max_bytes: int) -> dict[str, Any]:
    if raw is None or not raw.strip():
        raise _refused(EMPTY)
    if len(raw) > max_bytes:
        raise _refused(TOO_LARGE)
    if b"\0" in raw:
        raise _refused(NOT_TEXT)
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise _refused(NOT_TEXT) from None
    try:
        body = from_json(raw, allow_inf_nan=False)
    except (ValueError, RecursionError):
        raise _refused(NOT_JSON) from None
    if not isinstance(body, dict):
        raise _refused(NOT_AN_OBJECT)
    return body


def _refused(row: EventRule, where: str = "") -> InvalidEvent:
    return InvalidEvent(row.code, f"{row.what[:-1]} ({where})." if where else row.what, row.remedy)


def _compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _name(*parts: Any) -> str:
    # JSON keeps the parts apart: ("a", "bc") and ("ab", "c") are two names.
    return json.dumps(parts, separators=(",", ":"))


def merge_id_for(sources: Sequence[str], target: str, mid: str | None, position: Position | None) -> uuid.UUID:
    """Give the same merge the same id for ever: by its accounts and `mid`, without one by where its message stood.

    A refused message has no accounts: `merge_id_for((), "", None, position)` is its id.
    """
    accounts = (sorted(set(sources)), target)
    if mid is not None:
        return uuid.uuid5(_NAMESPACE, _name("mid", *accounts, mid))
    if position is None:
        raise InvalidRequest("NO_IDENTITY", f"A merge into {target!r} has neither a mid nor a position in a topic.",
                             "Give the event a mid.")  # fmt: skip
    where = position.topic, position.partition, position.offset, position.timestamp_ms
    return uuid.uuid5(_NAMESPACE, _name("position", *accounts, *where, hashlib.sha256(position.raw).hexdigest()))


def sync_events(
    merge_id: uuid.UUID, target: str, enrolments: Iterable[tuple[str, str]], settings: Settings, ets: int
) -> Iterator[tuple[str, bytes | None, bytes]]:
    """Yield (topic, key, value) of each sync event of (course, batch) pairs; the same call yields the same bytes."""
    both = settings.sync_dialect == "both"
    for course, batch in enrolments:
        if both or settings.sync_dialect == "batch-enrolment-sync":
            reset = {"reset": ["completionPercentage", "status", "progress"]}
            yield settings.sync_topic, None, _sync(merge_id, target, course, batch, "batch-enrolment-sync", ets, reset)
        if both or settings.sync_dialect == "user-enrolment-sync":
            value = _sync(merge_id, target, course, batch, "user-enrolment-sync", ets, {})
            yield settings.user_sync_topic, target.encode(), value


def _sync(
    merge_id: uuid.UUID, user: str, course: str, batch: str, action: str, ets: int, more: dict[str, list[str]]
) -> bytes:
    edata = {"action": action, "iteration": 1, "batchId": batch, "userId": user, "courseId": course, **more}
    return _compact({
        "eid": "BE_JOB_REQUEST", "ets": ets, "mid": f"LP.{ets}.{uuid.uuid5(merge_id, _name(course, batch, action))}",
        "actor": {"id": "Course Batch Updater", "type": "System"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
        "object": {"id": f"{batch}_{user}", "type": "CourseBatchEnrolment"},
        "edata": edata,
    })  # fmt: skip


@dataclass(frozen=True)
class FailInfo:
    """A failure, as a failed event says it.

    :param failed_id: of this failure; a later one of the same merge has another.
    :param data_error: the request is at fault (`DATA_ERROR`), not the machinery (`PROCESSING_ERROR`); unknown means
        that the code decides: those of `EVENT_RULES` are data errors.
    """

    failed_id: str
    code: str
    error: str
    remedy: str
    merge_id: uuid.UUID | str | None
    data_error: bool | None = None


def failed_event(raw: bytes | None, failure: FailInfo, settings: Settings) -> bytes:
    """Build the failed event: the original's keys as they are, beside them who failed and why.

    Bytes that are not a JSON object travel in `failInfo.raw` or `rawBase64`, more than `RAW_LIMIT` only as their hash.
    """
    at_fault = failure.code in _ROWS if failure.data_error is None else failure.data_error
    info: dict[str, Any] = {
        "errorCode": "DATA_ERROR" if at_fault else "PROCESSING_ERROR", "error": failure.error[:4000],
        "code": failure.code, "remedy": failure.remedy[:2000],
        "mergeId": str(failure.merge_id) if failure.merge_id else None, "failedId": failure.failed_id,
        "env": settings.env,
    }  # fmt: skip
    raw = raw or b""
    try:
        original = _object(raw, RAW_LIMIT)
        return _compact({**original, "jobName": "MergeUserCourses", "failInfo": info})
    except (InvalidEvent, ValueError, RecursionError):
        # No object, or one that JSON cannot carry on (1e999): the bytes themselves travel.
        return _compact({"jobName": "MergeUserCourses", "failInfo": {**info, **_raw(raw)}})


def kept_of(raw: bytes) -> tuple[bytes, str]:
    """Return what the journal keeps of a refused message, and a sentence where that is not the whole of it."""
    if len(raw) <= KEPT_WHOLE:
        return raw, ""
    digest = hashlib.sha256(raw).hexdigest()
    return raw[:KEPT_HEAD], f"of its {len(raw)} bytes (SHA-256 {digest}) the journal keeps the first {KEPT_HEAD}"


def _raw(raw: bytes) -> dict[str, Any]:
    size = {"rawBytes": len(raw)}
    if len(raw) > RAW_LIMIT:
        return {**size, "rawSha256": hashlib.sha256(raw).hexdigest()}
    packed = base64.b64encode(raw).decode()
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return {**size, "rawBase64": packed}
    # Control characters take six bytes each in JSON: a message of those would outgrow what brokers take.
    return {**size, "rawBase64": packed} if len(_compact(text)) > 2 * len(raw) + 2 else {**size, "raw": text}
