"""Tables as clusters have them: whatever the order, direction and types of the key, each row meets its own, or none is written.

A merge, its repair and its undo on the same random rows are compared with what the sums say; the shape must not show.
"""

from __future__ import annotations

import random
import uuid
from itertools import permutations

import pytest

from account_merge import cursor
from account_merge.cli.main import run_merge
from account_merge.errors import NeedsAttention
from account_merge.model import MergeRequest
from account_merge.sunbird import detection, schema
from account_merge.sunbird import row_finder as sources
from account_merge.sunbird.store import Store
from tests.learners import account, aggregate, enrolment, put, rows

CC, ENR, AGG = "user_content_consumption", "user_enrolments", "user_activity_agg"
KEY = ("courseid", "batchid", "contentid")


def falling(*columns):
    return [(column, "DESC") for column in columns]


def key_of(*columns):
    return f"(userid), {', '.join(columns)}"


CONTENTS = {
    "text": lambda dice: f"L{dice.randrange(30)}{dice.choice(['', 'é', '𐀀', '￿'])}",
    "uuid": lambda dice: dice.choice(
        [uuid.UUID(int=dice.getrandbits(128), version=4), uuid.UUID(int=dice.getrandbits(128))]
    ),
    "timeuuid": lambda dice: uuid.UUID(int=dice.getrandbits(128), version=1),
    "inet": lambda dice: f"{dice.randrange(1, 255)}.1.{dice.randrange(255)}.7",
    "int": lambda dice: dice.randrange(-20, 20),
    "timestamp": lambda dice: dice.randrange(-(10**12), 10**13),
    "blob": lambda dice: dice.randbytes(2),
}
SHAPES = [
    *((" ".join(order), key_of(*order), (), "text") for order in permutations(KEY)),
    ("all fall", key_of(*KEY), falling(*KEY), "text"),
    ("another order falls", key_of("contentid", "courseid", "batchid"), falling("contentid", "courseid", "batchid"), "text"),
    ("one falls", key_of(*KEY), [("courseid", "ASC"), ("batchid", "DESC"), ("contentid", "ASC")], "text"),
    *((f"a {kind}", key_of(*KEY), (), kind) for kind in CONTENTS if kind != "text"),
]  # fmt: skip


def written(session, service, name, users, dice, content):
    """Random rows of each account, written a while ago; (key -> views) of each."""
    keyspace, have = service.settings.courses_keyspace, {user: {} for user in users}
    places = [(f"c{dice.randrange(4)}", f"b{dice.randrange(3)}", content(dice)) for _ in range(30)]
    for place in places:
        for user in users:
            if dice.random() < 0.7:
                have[user][place] = dice.randrange(1, 9)
                row = dict(zip(KEY, place, strict=True))
                put(session, keyspace, name, {"userid": user, **row, "viewcount": have[user][place]})
    return have


def views(session, service, name, user):
    found = session.execute(f"SELECT * FROM {service.settings.courses_keyspace}.{name} WHERE userid = %s", [user])
    return {tuple(getattr(row, c) for c in KEY): row.viewcount for row in found}


def undo(service, merge_id):
    assert service.undoing.run(merge_id, "undo", publish=False)["state"] == "undone"


@pytest.mark.parametrize(("key", "directions", "kind"), [s[1:] for s in SHAPES], ids=[s[0] for s in SHAPES])
def test_every_row_meets_its_own_whatever_the_order_of_the_table(session, shaped, monkeypatch, key, directions, kind):
    service, name = shaped(CC, key, directions, {"contentid": kind})
    source, target = account(), account()
    dice = random.Random(key + kind)
    written(session, service, name, (source, target), dice, CONTENTS[kind])
    have = {user: views(session, service, name, user) for user in (source, target)}
    want = {k: have[source].get(k, 0) + have[target].get(k, 0) for k in {**have[source], **have[target]}}
    write, calls = Store.write, []

    def dying(self, *arguments, **named):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("the worker is gone")
        return write(self, *arguments, **named)

    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    monkeypatch.setattr(Store, "write", dying)
    with pytest.raises(RuntimeError, match="the worker is gone"):
        run_merge(service, merge_id, publish=False)
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert views(session, service, name, target) == want
    repair = uuid.UUID(service.repairing.repair(merge_id, "tester", "why not")["merge_id"])
    assert run_merge(service, repair, publish=False)["state"] == "completed"
    assert views(session, service, name, target) == want
    undo(service, repair)
    undo(service, merge_id)
    assert views(session, service, name, target) == have[target]
    assert views(session, service, name, source) == have[source]


def a_detection_that_believes_every_order(monkeypatch):
    monkeypatch.setattr(schema.TableSchema, "lies_by", lambda *arguments: True)
    monkeypatch.setattr(detection, "_order", lambda clustering: "alike")


def joins_that_check_nothing(monkeypatch):
    monkeypatch.setattr(cursor, "_checked", lambda stream, *arguments: iter(stream))


@pytest.mark.parametrize("checked", [True, False], ids=["the join checks", "nothing checks"])
@pytest.mark.parametrize(
    ("key", "directions", "kind"),
    [
        (key_of(*KEY), falling(*KEY), "text"),
        (key_of("contentid", "batchid", "courseid"), (), "text"),
        (key_of(*KEY), (), "uuid"),
    ],
    ids=["falls", "another order", "uuid"],
)
def test_an_order_that_detection_believes_is_found(session, shaped, monkeypatch, checked, key, directions, kind):
    """The fault put in: the join stops before it pairs wrong rows; without its check as well, the sums above show it."""
    a_detection_that_believes_every_order(monkeypatch)
    if not checked:
        joins_that_check_nothing(monkeypatch)
    service, name = shaped(CC, key, directions, {"contentid": kind})
    source, target = account(), account()
    written(session, service, name, (source, target), random.Random(3), CONTENTS[kind])
    have = {user: views(session, service, name, user) for user in (source, target)}
    want = {k: have[source].get(k, 0) + have[target].get(k, 0) for k in {**have[source], **have[target]}}
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    answer = run_merge(service, merge_id, publish=False)
    got = views(session, service, name, target)
    if checked:
        assert (answer["state"], answer["error"]["code"]) == ("needs_attention", "OUT_OF_ORDER")
        assert all(got[k] in (have[target].get(k), want[k]) for k in got)
    else:
        assert got != want


@pytest.mark.parametrize(
    ("key", "directions"),
    [(key_of("courseid", "batchid"), falling("courseid", "batchid")), (key_of("batchid", "courseid"), ())],
    ids=["falls", "another order"],
)
def test_what_leads_to_other_tables_may_lie_in_any_order(session, shaped, key, directions):
    service, name = shaped(ENR, key, directions)
    keyspace, (source, target) = service.settings.courses_keyspace, (account(), account())
    places = [(f"c{i % 4}", f"b{i % 3}") for i in range(12)]
    for n, (course, batch) in enumerate(places):
        for user, score in ((source, n), (target, 20 - n)):
            put(session, keyspace, name, {**enrolment(user, active=True), "courseid": course, "batchid": batch})
            row = {**aggregate(user, aggregates={"score:q": float(score)}), "activity_id": course}
            put(session, keyspace, AGG, {**row, "context_id": f"cb:{batch}"})
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(ENR, AGG)))
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    best = {
        (r["activity_id"], r["context_id"]): r["aggregates"]["score:q"] for r in rows(session, keyspace, AGG, target)
    }
    assert best == {(c, f"cb:{b}"): float(max(n, 20 - n)) for n, (c, b) in enumerate(places)}


def test_more_rows_than_can_be_sorted_are_refused_before_anything_is_written(session, shaped, monkeypatch):
    monkeypatch.setattr(sources, "MOST_SORTED", 5)
    service, name = shaped(CC, key_of("contentid", "batchid", "courseid"))
    source, target = account(), account()
    have = written(session, service, name, (source, target), random.Random(1), CONTENTS["text"])
    # A merge that leaves the table out can be previewed; what could not be looked at is named.
    balance = service.previews.balance(MergeRequest((source,), target, tables=(ENR,)))
    assert "leave the table out" in balance.not_looked_for[CC]
    assert not balance.nothing_lost
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    answer = run_merge(service, merge_id, publish=False)
    assert (answer["state"], answer["error"]["code"]) == ("needs_attention", "UNKNOWN_KEY")
    assert "ACCOUNT_MERGE_TABLE_NAMES" in answer["error"]["remedy"]
    assert views(session, service, name, target) == have[target]


@pytest.mark.parametrize(
    ("types", "says"),
    [
        ({"userid": "uuid"}, "userid .* is a uuid"),
        ({"courseid": "uuid"}, "courseid .* is a uuid"),
        ({"contentid": "frozen<list<text>>"}, "contentid .* is a frozen"),
        ({"contentid": "frozen<tuple<int, text>>"}, "contentid .* is a frozen"),
    ],
    ids=str,
)
def test_a_key_that_nobody_can_put_in_order_is_refused(shaped, types, says):
    service, _ = shaped(CC, key_of(*KEY), (), types)
    with pytest.raises(NeedsAttention, match=says) as refused:
        service.previews.preview(MergeRequest((account(),), account()))
    assert refused.value.code == "UNKNOWN_KEY"
    assert refused.value.remedy
