"""Lines of a rescue: every form is read, a hostile line is refused by itself, the decision about the cut-over is explicit."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest

from account_merge.errors import InvalidRequest
from account_merge.intake.rescue_lines import LINE_LIMIT, ParsedLine, RejectedLine, decided, read
from account_merge.settings import Settings
from account_merge.sunbird.events import merge_id_for

SETTINGS = Settings.from_env({})
CUT = SETTINGS.replace(cutover=datetime(2023, 1, 1, tzinfo=UTC))
ETS = 1648720639981
EVENT = {
    "eid": "BE_JOB_REQUEST", "ets": ETS, "mid": "m-1",
    "edata": {"action": "merge-user-courses-and-cert", "fromAccountId": "old", "toAccountId": "new", "rootOrgId": "org"},
}  # fmt: skip
JSON = json.dumps(EVENT)
ID = merge_id_for(("old",), "new", "m-1", None)


def items(text, form="auto"):
    raw = text if isinstance(text, bytes) else text.encode()
    return list(read(io.BytesIO(raw), SETTINGS, form))


def codes(text, form="auto"):
    return [item.error.code if isinstance(item, RejectedLine) else item and "found" for item in items(text, form)]


LOGS = [
    f"2022-03-31 09:57:19,981 INFO  [a-1] UserMergeActor:mergeCertCourseDetails: Kafka producer topic::{JSON}",
    f"{{req=1}} Kafka producer topic::{JSON} [correlation {{x}}]",
    f"Kafka producer topic::{JSON}}}",
    json.dumps({"timestamp": "t", "level": "INFO", "message": f"Kafka producer topic::{JSON}"}),
    json.dumps({"log": json.dumps({"msg": f"Kafka producer topic::{JSON}"}) + "\n", "stream": "stdout"}),
    'msg="Kafka producer topic::' + JSON.replace('"', '\\"') + '"',
]


@pytest.mark.parametrize("line", LOGS)
@pytest.mark.parametrize("form", ["auto", "log"])
def test_the_published_event_is_found_whatever_the_logger_writes_around_it(line, form):
    (found,) = items(line, form)
    assert (found.merge_id, found.request.sources, found.request.target) == (ID, ("old",), "new")
    assert (found.request.dated, found.request.tenant, found.request.origin) == (ETS, "org", "rescue")
    assert json.loads(found.request.raw) == EVENT


def test_an_event_is_the_merge_that_it_is_on_the_topic():
    one, other = items(JSON + "\r\n\n" + LOGS[0])
    assert one.merge_id == other.merge_id == ID
    assert (one.line, other.line, one.by_event) == (1, 3, True)


def test_an_event_without_an_id_is_the_same_merge_whenever_its_line_is_given():
    raw = json.dumps({k: v for k, v in EVENT.items() if k != "mid"})
    (one,), (other,) = items(raw), items("\n" + raw)
    assert one.merge_id == other.merge_id != ID
    assert not one.by_event


@pytest.mark.parametrize(("head", "row"), [
    ("from,to,merged_at,reason", 'old,new,{},"a, b; c"'), ("toAccountId;reason;fromAccountId;merged_at", 'new;"a, b; c";old;{}'),
    ("\ufeffTo\tmerged_at\twho\tFROM\treason", "new\t{}\tx\told\ta, b; c"),
])  # fmt: skip
def test_csv_is_read_by_its_header(head, row):
    (found,) = items(head + "\n" + row.format("2022-03-31T15:27:19.981+05:30") + "\n")
    assert (found.line, found.request.sources, found.request.target) == (2, ("old",), "new")
    assert (found.request.dated, found.request.reason) == (ETS, "a, b; c")


def test_csv_and_events_may_stand_in_one_file_and_the_same_pair_at_another_time_is_another_merge():
    pair = "old,new,2022-03-31T09:57:19Z"
    found = items(
        "\n".join(["from,to,merged_at", pair, JSON, pair, "old,new,2022-04-01T00:00:00Z", "old,new,", "old,new"])
    )
    ids = [item.merge_id for item in found]
    assert ids[1] == ID
    assert ids[0] == ids[2]
    assert ids[4] == ids[5]
    assert len({ids[0], ids[1], ids[3], ids[4]}) == 4


@pytest.mark.parametrize(("line", "code"), [
    (b"\xff\xfe", "LINE_NOT_TEXT"), (b"old\0,new", "LINE_NOT_TEXT"), (b"old,new", "NO_EVENT"), (b"{", "NO_EVENT"),
    (b"{}", "NO_EVENT"), (b"x" * (LINE_LIMIT + 1), "LINE_TOO_LONG"), (b"x" * (3 * LINE_LIMIT), "LINE_TOO_LONG"),
    (b'{"edata": {}}', "ID_MISSING"), (b'{"edata": []}', "NO_EDATA"),
    (b'{"edata": {"fromAccountId": "a", "toAccountId": "a"}}', "SAME_ACCOUNT"),
    (b'topic::{"edata": {"fromAccountId": "a", "toAcc', "NO_EVENT"),
    (b'topic::{"edata": {"fromAccountId": " a", "toAccountId": "b"}} tail', "ID_UNCLEAN"),
    (b'{"ets": 1, "edata": {"action": "user-enrolment-sync", "fromAccountId": "a"}}', None),
])  # fmt: skip
def test_a_bad_line_is_refused_by_itself_and_stops_no_other(line, code):
    assert codes(line + b"\n" + JSON.encode()) == [code, "found"]
    assert codes(JSON.encode() + b"\n" + line) == ["found", code]


@pytest.mark.parametrize(("line", "code"), [
    ("old", "ID_BLANK"), (",new", "ID_BLANK"), ("old,old", "SAME_ACCOUNT"), ("old,new,yesterday", "BAD_TIME"),
    ("old,new,2022-03-31T09:57:19", "BAD_TIME"), ("old,new,2022-03-31", "BAD_TIME"), ('old,"new', "BAD_CSV"),
    ("old,new,,why", "BAD_CSV"), ("old\u200b,new", "ID_UNCLEAN"), ("o" * 129 + ",new", "ID_TOO_LONG"),
    ("old,new,0001-01-01T00:00:00+23:59", "BAD_TIME"), ("x" * 200_000 + ",new", "BAD_CSV"),
])  # fmt: skip
def test_a_bad_pair_is_refused_by_itself(line, code):
    found = codes("from,to,merged_at\n" + line + "\na,b")
    assert found == [code, "found"]


def test_without_a_header_nothing_is_taken_for_a_pair():
    assert codes("old,new", "csv") == ["NO_HEADER"]


def test_of_a_log_everything_else_is_passed_over():
    telemetry = '{"eid":"AUDIT","edata":{"props":[]},"cdata":[{"id":"old","type":"FromAccountId"}]}'
    request = 'PATCH {"request":{"fromAccountId":"old","toAccountId":"new"}}'
    assert codes("\n".join(["starting", telemetry, request, "{{{{", LOGS[0]]), "log") == [None] * 4 + ["found"]


def test_a_hostile_line_does_not_cost_the_square_of_its_length():
    worst = ["{" * 1_000_000 + "fromAccountId", '{"a":' * 190_000 + "fromAccountId", '{"fromAccountId": "' * 50_000,
             'fromAccountId {"\\"' * 55_000]  # fmt: skip
    assert codes("\n".join(worst)) == ["NO_EVENT"] * 4  # it would take days


def seeded(line, how, settings):
    (item,) = [i for i in read(io.BytesIO(line.encode()), settings) if i]
    assert isinstance(item, ParsedLine)
    return decided(item, how, settings).request.seeded


def test_what_is_dated_before_the_cutover_is_seeded():
    late = json.dumps(EVENT | {"ets": 1672531200000})
    pair = "from,to,merged_at\nold,new,{}"
    for line, right in ((JSON, True), (late, False), (pair.format("2022-12-31T23:59:59Z"), True),
                        (pair.format("2023-01-01T00:00:00Z"), False), (pair.format("2023-01-01T05:29:59+05:30"), True)):  # fmt: skip
        assert seeded(line, "by_date", CUT) is right
        assert seeded(line, "by_date", SETTINGS) is False
        assert seeded(line, "yes", CUT) is True
        assert seeded(line, "no", CUT) is False


@pytest.mark.parametrize("line", ["from,to\nold,new", json.dumps({"edata": EVENT["edata"]}), json.dumps(EVENT | {"ets": -5})])  # fmt: skip
def test_without_a_date_somebody_has_to_say_it(line):
    with pytest.raises(InvalidRequest, match="NO_DATE"):
        seeded(line, "by_date", CUT)
    assert seeded(line, "by_date", SETTINGS) is False
    assert seeded(line, "yes", CUT) is True
    assert seeded(line, "no", CUT) is False
