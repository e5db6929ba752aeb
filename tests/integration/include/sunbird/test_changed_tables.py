"""Columns of every kind, and tables that change under a running worker: each has its answer, and nothing is dropped silently."""

from __future__ import annotations

import random
import uuid

import pytest

from account_merge.cli.checks import run_checks
from account_merge.cli.main import run_merge
from account_merge.errors import NeedsAttention
from account_merge.model import MergeRequest
from account_merge.sunbird.store import Store
from tests.learners import account, lesson, put, rows

CC = "user_content_consumption"
KEY = "(userid), courseid, batchid, contentid"


def merge(service, *accounts):
    merge_id = service.opening.open_merge(MergeRequest(accounts[:-1], accounts[-1], tables=(CC,)))
    return merge_id, run_merge(service, merge_id, publish=False)


def table_of(report, name=CC):
    return next(table for table in report.to_dict()["tables"] if table["table"] == name)


def test_static_columns_stay_and_are_named(session, shaped):
    service, name = shaped(CC, KEY, more="badge text static,")
    keyspace, (source, target) = service.settings.courses_keyspace, (account(), account())
    put(session, keyspace, name, lesson(source, viewcount=3, badge="gold"))
    put(session, keyspace, name, lesson(target, viewcount=2))
    planned = table_of(service.previews.preview(MergeRequest((source,), target)))
    merge_id, answer = merge(service, source, target)
    assert answer["state"] == "completed", answer
    found = rows(session, keyspace, name, target)
    assert [(row["viewcount"], row.get("badge")) for row in found] == [(5, None)]
    assert "column badge is not moved: it is static" in table_of(service.reader.report(merge_id))["note"]
    assert "badge" not in str(planned["rows"])
    checks = {check.name: check for check in run_checks(service)}
    assert f'"{name}"' not in checks["finding rows"].detail  # no index would help there


TYPES = {
    "frozen list": ("frozen<list<text>>", "['a', 'b']"),
    "frozen map": ("frozen<map<text, int>>", "{'a': 1}"),
    "tuple": ("frozen<tuple<int, text>>", "(1, 'a')"),
    "vector": ("vector<float, 3>", "[1.0, 2.0, 3.5]"),
    "frozen type of its own": ("frozen<{own}>", "{{a: 1, b: 'x'}}"),
    "type of its own": ("{own}", "{{a: 1, b: 'x'}}"),
    "list of types of its own": ("list<frozen<{own}>>", "[{{a: 1, b: 'x'}}, {{a: 2, b: null}}]"),
    "duration": ("duration", "1mo2d3s"),
    "inet": ("inet", "'10.0.0.1'"),
}


@pytest.mark.parametrize("kind", TYPES)
def test_a_column_of_any_kind_moves_whole_and_is_undone(session, shaped, kind):
    cql_type, value = TYPES[kind]
    own = f"own_{uuid.uuid4().hex[:8]}"
    keyspace = shaped.keyspace
    session.execute(f"CREATE TYPE {keyspace}.{own} (a int, b text)", timeout=60)
    cql_type, value = cql_type.format(own=own), value.replace("{{", "{").replace("}}", "}")
    service, name = shaped(CC, KEY, more=f"extra {cql_type},")
    source, target = account(), account()
    for content in ("both", "mine"):
        session.execute(
            f"INSERT INTO {keyspace}.{name} (userid, courseid, batchid, contentid, viewcount, extra) "
            f"VALUES (%s, 'c', 'b', %s, 1, {value})", [source, content]
        )  # fmt: skip
    put(
        session,
        keyspace,
        name,
        {"userid": target, "courseid": "c", "batchid": "b", "contentid": "both", "viewcount": 1},
    )
    before = {user: rows(session, keyspace, name, user) for user in (source, target)}
    merge_id, answer = merge(service, source, target)
    assert answer["state"] == "completed", answer
    assert [row["extra"] for row in rows(session, keyspace, name, target)] == [before[source][0]["extra"]] * 2
    assert service.undoing.run(merge_id, "undo", publish=False)["state"] == "undone"
    assert {user: rows(session, keyspace, name, user) for user in (source, target)} == before


def test_a_table_of_counters_is_refused_with_the_reason(session, with_settings, shared_service):
    keyspace, name = shared_service.settings.courses_keyspace, f"counted_{uuid.uuid4().hex[:8]}"
    session.execute(
        f"CREATE TABLE {keyspace}.{name} (userid text, courseid text, batchid text, contentid text, viewcount counter, "
        f"PRIMARY KEY ({KEY}))", timeout=60
    )  # fmt: skip
    with pytest.raises(NeedsAttention) as refused:
        with_settings(tables={CC: name}).previews.preview(MergeRequest((account(),), account()))
    assert refused.value.code == "NOT_A_TABLE"
    assert "viewcount" in refused.value.message
    session.execute(f"DROP TABLE {keyspace}.{name}", timeout=60)


def test_a_column_that_is_added_meanwhile_is_named_and_a_repair_moves_it(session, shaped, monkeypatch):
    service, name = shaped(CC, KEY)
    keyspace, (source, target) = service.settings.courses_keyspace, (account(), account())
    put(session, keyspace, name, lesson(source, viewcount=3))
    write = Store.write

    def adding(self, *arguments, **named):
        monkeypatch.setattr(Store, "write", write)
        session.execute(f"ALTER TABLE {keyspace}.{name} ADD badge text", timeout=60)
        put(session, keyspace, name, lesson(source, badge="gold"))
        return write(self, *arguments, **named)

    monkeypatch.setattr(Store, "write", adding)
    merge_id, answer = merge(service, source, target)
    assert answer["state"] == "completed", answer
    assert "column badge was added meanwhile" in table_of(service.reader.report(merge_id))["note"]
    fresh = service.renewed()
    repair = uuid.UUID(fresh.repairing.repair(merge_id, "tester", "the new column")["merge_id"])
    assert run_merge(fresh, repair, publish=False)["state"] == "completed"
    assert [(row["badge"], row["viewcount"]) for row in rows(session, keyspace, name, target)] == [("gold", 3)]


def test_a_column_that_is_dropped_meanwhile_has_its_own_error_and_the_next_attempt_goes_on(session, shaped):
    service, name = shaped(CC, KEY, more="badge text,")
    keyspace, (source, target) = service.settings.courses_keyspace, (account(), account())
    put(session, keyspace, name, lesson(source, viewcount=3, badge="gold"))
    put(session, keyspace, name, lesson(target, viewcount=2))
    assert service.previews.preview(
        MergeRequest((source,), target)
    ).to_dict()  # the statements are prepared, the tables known
    session.execute(f"ALTER TABLE {keyspace}.{name} DROP badge", timeout=60)
    merge_id, answer = merge(service, source, target)
    assert answer["error"]["code"] == "SCHEMA_CHANGED"
    assert "badge" in answer["error"]["message"]
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert [row["viewcount"] for row in rows(session, keyspace, name, target)] == [5]


def test_a_table_that_is_dropped_meanwhile_has_its_own_error_and_the_next_attempt_says_so(session, shaped):
    service, name = shaped(CC, KEY)
    keyspace, (source, target) = service.settings.courses_keyspace, (account(), account())
    put(session, keyspace, name, lesson(source, viewcount=3))
    assert service.previews.preview(MergeRequest((source,), target)).to_dict()
    session.execute(f"DROP TABLE {keyspace}.{name}", timeout=60)
    merge_id, answer = merge(service, source, target)
    assert answer["error"]["code"] == "SCHEMA_CHANGED"
    assert run_merge(service, merge_id, publish=False)["state"] == "completed"
    assert "has no such table" in service.merging.merge_table(merge_id, CC)["note"]


def picture(size, seed):
    """A text that no compression makes much smaller."""
    signs = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
    return "".join(random.Random(seed).choices(signs, k=size))


def test_a_row_with_pictures_is_merged_although_its_images_together_pass_the_server_s_limit(session, shaped):
    service, name = shaped(CC, KEY)
    keyspace, (source, target) = service.settings.courses_keyspace, (account(), account())
    put(
        session,
        keyspace,
        name,
        lesson(source, status=2, progress=100, viewcount=1, progressdetails=picture(4_000_000, 1)),
    )
    put(
        session,
        keyspace,
        name,
        lesson(target, status=1, progress=40, viewcount=1, progressdetails=picture(4_000_000, 2)),
    )
    before = rows(session, keyspace, name, target)
    merge_id, answer = merge(service, source, target)
    assert answer["state"] == "completed", answer
    (row,) = rows(session, keyspace, name, target)
    assert (row["viewcount"], row["progress"], row["progressdetails"] == picture(4_000_000, 1)) == (2, 100, True)
    assert service.undoing.run(merge_id, "undo", publish=False)["state"] == "undone"
    assert rows(session, keyspace, name, target) == before


def test_a_row_whose_images_pass_what_one_request_of_cassandra_holds_is_merged(session, shaped):
    service, name = shaped(CC, KEY)
    keyspace, (source, target) = service.settings.courses_keyspace, (account(), account())
    for user, seed in ((source, 1), (target, 2)):
        row = lesson(user, "L2", viewcount=1, progress=seed, progressdetails=picture(7_000_000, seed))
        put(session, keyspace, name, row)
    _, answer = merge(service, source, target)
    assert (answer["state"], answer["error"]) == ("completed", None)
    assert [row["viewcount"] for row in rows(session, keyspace, name, target)] == [2]
