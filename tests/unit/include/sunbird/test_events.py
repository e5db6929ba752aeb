"""The wire: accepted forms, each way to be refused, ids that never change, published bytes to the letter."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from account_merge.errors import InvalidEvent, InvalidRequest
from account_merge.settings import Settings
from account_merge.sunbird.events import (
    ACCEPTED,
    EVENT_RULES,
    RAW_LIMIT,
    EventRule,
    FailInfo,
    MergeEvent,
    Position,
    failed_event,
    merge_id_for,
    parse,
    sync_events,
)

SETTINGS = Settings.from_env({})
OLD, NEW = "b964d83a-c40f-4b3c-85e7-68b764efd14b", "191e6b5a-8581-46bd-b779-b3b534984649"
PLACE = Position("dev.lms.user.account.merge", 1, 42, 1648720639981, b"bytes")
BAD = [(row, example) for row in EVENT_RULES for example in row.examples]
MERGE = uuid.UUID("00000000-0000-0000-0000-000000000001")


def event(**edata: Any) -> bytes:
    return json.dumps({"mid": "m", "edata": {"fromAccountId": "a", "toAccountId": "b", **edata}}).encode()


def failed(raw: bytes | None, code: str = "STORE_AWAY", **more: Any) -> dict[str, Any]:
    made = failed_event(raw, FailInfo("id-1", code, "what happened", "what to do", MERGE, **more), SETTINGS)
    assert len(made) < 900_000
    return dict(json.loads(made))


@pytest.mark.parametrize("raw", [raw for _, raw in ACCEPTED], ids=[name for name, _ in ACCEPTED])
def test_parse_accepts_each_form_of_the_wild(raw: bytes) -> None:
    found = parse(raw, SETTINGS)
    assert found is not None
    assert (found.sources, found.target) == ((OLD,), NEW)
    assert found.mid == json.loads(raw)["mid"]


@pytest.mark.parametrize(("row", "raw"), BAD, ids=[f"{row.code}-{n}" for n, (row, _) in enumerate(BAD)])
def test_parse_refuses_each_example_by_its_row(row: EventRule, raw: bytes) -> None:
    with pytest.raises(InvalidEvent) as refused:
        parse(raw, SETTINGS)
    assert refused.value.code == row.code
    assert refused.value.remedy == row.remedy
    for value in ("old-account", "new-account", "padding"):
        assert value not in refused.value.message


def test_parse_names_the_key_that_is_wrong() -> None:
    with pytest.raises(InvalidEvent, match=r"edata\.toAccountId"):
        parse(event(toAccountId=""), SETTINGS)


def test_parse_refuses_a_tombstone() -> None:
    with pytest.raises(InvalidEvent, match="EMPTY_EVENT"):
        parse(None, SETTINGS)


@pytest.mark.parametrize("action", ["batch-enrolment-sync", "merge-user", 7, ["x"], {"a": 1}, False])
def test_parse_ignores_events_of_another_action_whatever_their_ids(action: Any) -> None:
    assert parse(event(action=action, fromAccountId=None), SETTINGS) is None


@pytest.mark.parametrize("action", [None, "", "merge-user-courses-and-cert", "Merge-User-Courses-And-Cert"])
def test_parse_takes_events_of_this_action_and_of_none(action: Any) -> None:
    assert parse(event(action=action), SETTINGS) == MergeEvent(("a",), "b", "m")


@pytest.mark.parametrize("mid", [None, "", "  ", 17, {"x": 1}])
def test_parse_takes_a_mid_that_is_no_name_for_absent(mid: Any) -> None:
    raw = json.dumps({"mid": mid, "ets": "late", "edata": {"fromAccountId": "a", "toAccountId": "b"}}).encode()
    assert parse(raw, SETTINGS) == MergeEvent(("a",), "b", None, None)


@pytest.mark.parametrize(("ets", "read"), [("1648720639981", 1648720639981), (1648720639981.0, 1648720639981),
                                           (" 17 ", 17), ("late", None), ("9" * 99, None), (True, None), ([1], None)])  # fmt: skip
def test_parse_takes_the_time_as_a_number_in_any_form(ets: Any, read: int | None) -> None:
    raw = json.dumps({"ets": ets, "edata": {"fromAccountId": "a", "toAccountId": "b"}}).encode()
    assert parse(raw, SETTINGS) == MergeEvent(("a",), "b", None, read)
    assert parse(raw[:-1] + b', "ets": 1e999}', SETTINGS) == MergeEvent(("a",), "b", None, None)


@pytest.mark.parametrize(("given", "tenant"), [({"rootOrgId": " org-1 "}, "org-1"), ({}, ""), ({"rootOrgId": None}, ""),
                                               ({"rootOrgId": ["org-1"]}, ""), ({"rootOrgId": "x" * 129}, "")])  # fmt: skip
def test_parse_takes_the_tenant_and_refuses_nothing_for_its_sake(given: dict[str, Any], tenant: str) -> None:
    found = parse(event(**given), SETTINGS)
    assert found is not None
    assert found.tenant == tenant


@pytest.mark.parametrize("odd", [None, "text", [], {"id": 5}, {"id": None}, {"id": "f" * 63}, {"id": "g" * 64}])
def test_parse_lets_an_object_be_whose_id_is_no_hash(odd: Any) -> None:
    raw = json.dumps({"object": odd, "edata": {"fromAccountId": "a", "toAccountId": "b"}}).encode()
    assert parse(raw, SETTINGS) is not None


def test_parse_accepts_the_hash_in_capitals() -> None:
    digest = hashlib.sha256(b"a_b").hexdigest().upper()
    raw = json.dumps({"object": {"id": digest}, "edata": {"fromAccountId": "a", "toAccountId": "b"}}).encode()
    assert parse(raw, SETTINGS) is not None


def test_parse_obeys_the_limits_of_the_settings() -> None:
    assert parse(event(fromAccountId="x" * 128), SETTINGS) is not None
    with pytest.raises(InvalidEvent, match="ID_TOO_LONG"):
        parse(event(fromAccountId="xxxxx"), SETTINGS.replace(max_id_length=4))
    with pytest.raises(InvalidEvent, match="EVENT_TOO_LARGE"):
        parse(event(pad="x" * 1024), SETTINGS.replace(max_event_bytes=1024))


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["edata", "object", "id", "action", "fromAccountId", "toAccountId", "mid"]), inner, max_size=4),
    max_leaves=12).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_parse_answers_anything_with_an_event_none_or_a_row(raw: bytes) -> None:
    try:
        found = parse(raw, SETTINGS)
    except InvalidEvent as error:
        answer = error.code
    else:
        answer = "accepted" if found is None or found.sources[0] != found.target else "merged into itself"
    assert answer in {"accepted", *(row.code for row in EVENT_RULES)}


def test_merge_id_never_changes_from_release_to_release() -> None:
    assert merge_id_for([OLD], NEW, "LP.1.x", None) == uuid.UUID("1dfddae9-9316-5a04-9649-0e167719cb1b")
    assert merge_id_for([OLD], NEW, None, PLACE) == uuid.UUID("210c6278-9a15-551a-bf3a-7ca32245bb4c")
    assert merge_id_for((), "", None, PLACE) == uuid.UUID("569522ee-c0f8-5491-84fc-1747c901fb8e")


def test_merge_id_is_of_pair_and_mid_alone_when_there_is_a_mid() -> None:
    one = merge_id_for(["a"], "b", "m", PLACE)
    assert one == merge_id_for(["a"], "b", "m", None)
    assert merge_id_for(["a", "c", "a"], "b", "m", None) == merge_id_for(["c", "a"], "b", "m", None)
    others = [
        merge_id_for(*request, None)
        for request in (
            (["a"], "b", "n"),
            (["b"], "a", "m"),
            (["a", "c"], "b", "m"),
            (["ac"], "b", "m"),
            (["a"], "bm", ""),
        )
    ]
    assert len({one, *others}) == 6


def test_merge_id_without_a_mid_is_of_the_messages_place() -> None:
    places = [
        PLACE,
        *(
            Position(**{**vars(PLACE), key: value})
            for key, value in {"topic": "t", "partition": 0, "offset": 43, "timestamp_ms": 1, "raw": b"other"}.items()
        ),
    ]
    assert len({merge_id_for(["a"], "b", None, place) for place in places}) == 6
    with pytest.raises(InvalidRequest, match="NO_IDENTITY"):
        merge_id_for(["a"], "b", None, None)


def test_sync_events_are_the_retired_jobs_to_the_letter() -> None:
    [(topic, key, value)] = sync_events(MERGE, "user", [("course", "batch")], SETTINGS, 1700000000000)
    found = json.loads(value)
    assert (topic, key) == ("dev.coursebatch.job.request", None)
    assert found.pop("mid").startswith("LP.1700000000000.")
    assert found == {
        "eid": "BE_JOB_REQUEST", "ets": 1700000000000, "actor": {"id": "Course Batch Updater", "type": "System"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
        "object": {"id": "batch_user", "type": "CourseBatchEnrolment"},
        "edata": {"action": "batch-enrolment-sync", "iteration": 1, "batchId": "batch", "userId": "user",
                  "courseId": "course", "reset": ["completionPercentage", "status", "progress"]},
    }  # fmt: skip


def test_sync_events_of_the_other_dialect_have_the_user_as_key_and_no_reset() -> None:
    settings = SETTINGS.replace(sync_dialect="user-enrolment-sync")
    [(topic, key, value)] = sync_events(MERGE, "user", [("course", "batch")], settings, 1)
    assert (topic, key) == ("dev.batch.enrolment.sync.request", b"user")
    assert json.loads(value)["edata"] == {
        "action": "user-enrolment-sync", "iteration": 1, "batchId": "batch", "userId": "user", "courseId": "course"
    }  # fmt: skip


def test_sync_events_repeat_byte_for_byte_and_differ_by_mid() -> None:
    settings = SETTINGS.replace(sync_dialect="both")
    enrolments = [("c1", "b1"), ("c1", "b2"), ("c2", "b1")]
    first = list(sync_events(MERGE, "user", enrolments, settings, 5))
    assert first == list(sync_events(MERGE, "user", iter(enrolments), settings, 5))
    assert len(first) == len({json.loads(value)["mid"] for _, _, value in first}) == 6


def test_failed_event_leaves_the_originals_keys_as_they_are() -> None:
    for _, raw in ACCEPTED:
        found = failed(raw)
        info = found.pop("failInfo")
        assert found.pop("jobName") == "MergeUserCourses"
        assert found == json.loads(raw)
        assert info == {"errorCode": "PROCESSING_ERROR", "error": "what happened", "code": "STORE_AWAY", "env": "dev",
                        "remedy": "what to do", "mergeId": str(MERGE), "failedId": "id-1"}  # fmt: skip


def test_failed_event_sent_to_the_merge_topic_is_the_same_merge_again() -> None:
    for _, raw in ACCEPTED:
        assert parse(json.dumps(failed(raw)).encode(), SETTINGS) == parse(raw, SETTINGS)
        assert failed(json.dumps(failed(raw)).encode()) == failed(raw)


@pytest.mark.parametrize(("row", "raw"), BAD, ids=[f"{row.code}-{n}" for n, (row, _) in enumerate(BAD)])
def test_failed_event_of_a_refused_message_is_a_data_error_and_carries_it(row: EventRule, raw: bytes) -> None:
    found = failed(raw, row.code)
    info = found["failInfo"]
    assert (info["errorCode"], info["code"]) == ("DATA_ERROR", row.code)
    if "rawBytes" not in info:
        assert found.items() >= {k: v for k, v in json.loads(raw).items() if k != "failInfo"}.items()
    elif len(raw) > RAW_LIMIT:
        assert info["rawSha256"] == hashlib.sha256(raw).hexdigest()
    else:
        assert raw == (info["raw"].encode() if "raw" in info else base64.b64decode(info["rawBase64"]))


def test_failed_event_says_whose_fault_when_told() -> None:
    assert failed(b"{}", data_error=True)["failInfo"]["errorCode"] == "DATA_ERROR"
    assert failed(b"{}", "NO_EDATA", data_error=False)["failInfo"]["errorCode"] == "PROCESSING_ERROR"


@pytest.mark.parametrize("raw", [b"\x01" * RAW_LIMIT, b"\xff" * RAW_LIMIT, b'"' * RAW_LIMIT, b'{"a": 1e999}', None,
                                 b'{"a":' * 5000 + b"1" + b"}" * 5000, b"{" + b" " * RAW_LIMIT + b"}",
                                 b'{"a": "' + b"\xc3\xa9" * 130_000 + b'"}'])  # fmt: skip
def test_failed_event_always_fits_a_brokers_message(raw: bytes | None) -> None:
    assert failed(raw)["failInfo"]["failedId"] == "id-1"
