"""Cells that no Python program can read, or that are no number: the merge ends, names them, and disturbs nobody else."""

from __future__ import annotations

import json
import struct
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from account_merge.cli.main import run_merge
from account_merge.connection.cells import Handler, bind
from account_merge.model import MergeRequest
from account_merge.values import NAN, Unreadable, plain, usable
from tests.learners import BATCH, COURSE, account, aggregate, enrolment, lesson, put, rows

CC, ENR, AGG, ASM = "user_content_consumption", "user_enrolments", "user_activity_agg", "assessment_aggregator"
KEY = {CC: lesson, ENR: enrolment, AGG: aggregate}
MICROSECONDS = Unreadable(struct.pack(">q", 1648720639981000), "")
LONG_AGO = Unreadable(struct.pack(">q", -(2**63)), "")
JAVA = Unreadable(b"a\xc0\x80b\xed\xa0\xbd\xed\xb8\x80", "")  # NUL and an emoji as Java writes them


@dataclass(frozen=True)
class Poison:
    """One column with a value that cannot be used, and what a good value of the column looks like.

    :param beside: what of `value` can be used.
    """

    table: str
    column: str
    value: Any
    good: Any
    beside: Any = None
    more: dict[str, Any] = field(default_factory=dict)


POISONS = {
    "microseconds in a timestamp": Poison(CC, "last_access_time", MICROSECONDS, None),
    "a time before Christ": Poison(ENR, "completedon", LONG_AGO, None),
    "a text of Java's": Poison(CC, "progressdetails", JAVA, '{"page": 1}'),
    "NaN": Poison(CC, "completionpercentage", NAN, 20.0),
    "NaN in a map": Poison(
        AGG, "aggregates", {"completedCount": 1.0, "score:q": NAN}, {"score:q": 4.0, "max_score:q": 5.0},
        {"completedCount": 1.0},
    ),
    "a time in a map": Poison(AGG, "agg_last_updated", {"q": MICROSECONDS}, None),
    "a key of a map": Poison(ENR, "contentstatus", {JAVA: 2, "L1": 1}, {"L2": 2}, {"L1": 1}),
}  # fmt: skip


@pytest.fixture(scope="module")
def careful(cluster):
    """A session that reads and writes each cell as it is."""
    session = cluster.connect()
    session.client_protocol_handler = Handler
    return session


@pytest.fixture
def service(shared_service):
    return shared_service


def stored(careful, keyspace, table, row):
    """Puts a row; an element of a map by itself, as Cassandra takes it unread only so."""
    for column, value in row.items():
        odd = value if isinstance(value, dict) and any(isinstance(part, Unreadable) for part in value) else {}
        row = {c: v for c, v in row.items() if c != column or not odd}
        for key, held in odd.items():
            place = {c: v for c, v in row.items() if not isinstance(v, dict)}
            where = " AND ".join(f"{c} = ?" for c in place)
            statement = careful.prepare(f"UPDATE {keyspace}.{table} SET {column}[?] = ? WHERE {where}")
            careful.execute(bind(statement, [key, held, *place.values()]))
    names, marks = ", ".join(row), ", ".join("?" for _ in row)
    statement = careful.prepare(f"INSERT INTO {keyspace}.{table} ({names}) VALUES ({marks})")
    careful.execute(bind(statement, list(row.values())))


def read(careful, keyspace, table, user):
    column = "user_id" if table in (AGG, ASM) else "userid"
    found = careful.execute(f"SELECT * FROM {keyspace}.{table} WHERE {column} = %s ALLOW FILTERING", [user])
    return [{c: plain(v) for c, v in row._asdict().items() if v is not None and c != column} for row in found]


def merge(service, source, target):
    merge_id = service.opening.open_merge(MergeRequest((source,), target))
    return merge_id, run_merge(service, merge_id, publish=False)


def notes_of(report, table):
    return [note for t in report["tables"] if t["table"] == table for row in t["rows"] for note in row["notes"]]


def strict(report):
    """A report as JSON that any parser takes."""
    text = json.dumps(report, allow_nan=False)
    return json.loads(text, parse_constant=pytest.fail)


def united(poison, both):
    """What the target must have of the column, as elements where it holds several."""
    parts = [v for v in both if v is not None]
    if not parts or not isinstance(parts[0], dict | list):
        return parts[0] if parts else None
    return {k: v for part in parts for k, v in part.items()} if isinstance(parts[0], dict) else sum(parts, [])


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("name", POISONS)
def test_the_rest_merges_and_the_cell_is_named(name, side, careful, session, keyspace, service):
    poison = POISONS[name]
    source, target = account(), account()
    bad, good = (source, target) if side == "source" else (target, source)
    for table, key in KEY.items():
        extra = {"status": 1} if table != AGG else {}
        put(session, keyspace, table, key(source, **(extra | ({"status": 2} if extra else {}))))
        put(session, keyspace, table, key(target, **extra))
    stored(careful, keyspace, poison.table, KEY[poison.table](bad, **{poison.column: poison.value}))
    if poison.good is not None:
        put(session, keyspace, poison.table, KEY[poison.table](good, **{poison.column: poison.good}))
    before = {table: read(careful, keyspace, table, target) for table in KEY}

    strict(service.previews.preview(MergeRequest((source,), target)).to_dict())
    merge_id, answer = merge(service, source, target)
    assert answer["state"] == "completed", answer["error"]
    report = strict(service.reader.report(merge_id).to_dict())
    assert any(note.startswith(poison.column) for note in notes_of(report, poison.table))
    assert [r["status"] for r in read(careful, keyspace, CC, target)] == [2]
    assert [r["status"] for r in read(careful, keyspace, ENR, target)] == [2]
    after = read(careful, keyspace, poison.table, target)[0].get(poison.column)
    whole = poison.beside if side == "source" else poison.value
    expected = united(poison, (whole, poison.good) if poison.good is not None else (whole,))
    if side == "target" and poison.good is not None and not isinstance(poison.good, dict | list):
        expected = poison.good  # what cannot be used never wins
    if isinstance(expected, dict) and "score:q" in expected:
        expected["score:q"] = 4.0
    as_set = sorted(after, key=str) if isinstance(after, list) else after
    assert as_set == (sorted(expected, key=str) if isinstance(expected, list) else expected)
    assert list(service.audit.differences(merge_id)) == []

    service.undoing.run(merge_id, by="t", reason="t", publish=False)
    assert {table: read(careful, keyspace, table, target) for table in KEY} == before


def test_a_row_that_moves_whole_leaves_the_cell_behind(careful, session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, viewcount=3))
    stored(careful, keyspace, CC, lesson(source, last_access_time=MICROSECONDS))
    merge_id, answer = merge(service, source, target)
    assert answer["state"] == "completed"
    assert [(r["viewcount"], r.get("last_access_time")) for r in rows(session, keyspace, CC, target)] == [(3, None)]
    assert any("last_access_time" in note for note in notes_of(service.reader.report(merge_id).to_dict(), CC))
    assert read(careful, keyspace, CC, source)[0]["last_access_time"] == MICROSECONDS


@pytest.mark.parametrize("side", ["source", "target", "both"])
def test_a_key_that_cannot_be_read_stays_and_is_named(side, careful, session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, CC, lesson(source, "L1", viewcount=3))
    put(session, keyspace, CC, lesson(source, "z", viewcount=4))
    for user, where in ((source, "source"), (target, "target")):
        if side in (where, "both"):
            stored(careful, keyspace, CC, lesson(user, JAVA, viewcount=5))
            stored(careful, keyspace, ENR, enrolment(user, status=1) | {"courseid": JAVA})
    strict(service.previews.preview(MergeRequest((source,), target)).to_dict())
    before = read(careful, keyspace, CC, target)
    merge_id, answer = merge(service, source, target)
    assert answer["state"] == "completed", answer["error"]
    found = {r["contentid"]: r["viewcount"] for r in read(careful, keyspace, CC, target)}
    assert found == {"L1": 3, "z": 4} | ({} if side == "source" else {JAVA: 5})
    notes = notes_of(strict(service.reader.report(merge_id).to_dict()), CC)
    assert any("key cannot be read" in note for note in notes) == (side != "target")
    service.undoing.run(merge_id, by="t", reason="t", publish=False)
    assert read(careful, keyspace, CC, target) == before


def test_neighbours_in_the_same_process_are_not_disturbed(careful, session, keyspace, service):
    """A preview and a merge of a poisoned account run while others merge over the same session."""
    stop, failed = threading.Event(), []

    def poisoned():
        while not stop.is_set():
            source, target = account(), account()
            stored(careful, keyspace, CC, lesson(source, viewcount=1, last_access_time=LONG_AGO))
            stored(careful, keyspace, CC, lesson(target, "other", viewcount=1, progressdetails=JAVA))
            try:
                strict(service.previews.preview(MergeRequest((source,), target)).to_dict())
                assert merge(service, source, target)[1]["state"] == "completed"
            except Exception as error:  # noqa: BLE001 - told below
                failed.append(error)

    thread = threading.Thread(target=poisoned)
    thread.start()
    try:
        for _ in range(12):
            source, target = account(), account()
            put(session, keyspace, CC, lesson(source, viewcount=3))
            assert merge(service, source, target)[1]["state"] == "completed"
            assert [r["viewcount"] for r in rows(session, keyspace, CC, target)] == [3]
    finally:
        stop.set()
        thread.join()
    assert failed == []


def test_the_attempts_of_an_account_with_a_bad_time_in_a_question_merge(careful, session, keyspace, service):
    source, target = account(), account()
    put(session, keyspace, ENR, enrolment(source, status=1))  # leads to them
    key = {"course_id": COURSE, "batch_id": BATCH, "content_id": "q", "user_id": source}
    put(session, keyspace, ASM, key | {"attempt_id": "1", "total_score": 3.0, "total_max_score": 5.0})
    stored(careful, keyspace, ASM, key | {"attempt_id": "2", "total_score": NAN, "last_attempted_on": MICROSECONDS})
    merge_id, answer = merge(service, source, target)
    assert answer["state"] == "completed", answer["error"]
    found = {r["attempt_id"]: r.get("total_score") for r in rows(session, keyspace, ASM, target)}
    assert found == {"1": 3.0, "2": None}
    notes = notes_of(strict(service.reader.report(merge_id).to_dict()), ASM)
    assert {note.split(" ")[0] for note in notes} == {"total_score", "last_attempted_on"}
    assert usable({"a": NAN}) is None
