"""The commands print every kind of row, as tables and as JSON, and end with the status that programs were promised."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from account_merge.cli.main import main
from account_merge.errors import NeedsAttention
from account_merge.model import MergeRequest
from account_merge.states import STATES
from account_merge.sunbird.store import Store
from tests.learners import account, lesson, put

CC = "user_content_consumption"
INCLUDE = str(Path(__file__).parents[4] / "include")


@pytest.fixture
def service(own_world):
    return own_world()


@pytest.fixture
def call(own_environment, monkeypatch):
    """Runs a command in this process; answers its status and what it printed."""
    for name, value in own_environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments):
        out = io.StringIO()
        return main([str(a) for a in arguments], out), out.getvalue()

    return run


def no_constant(name):
    raise AssertionError(f"{name} is not JSON")


def kinds(text):
    """What happened to the rows of a report in JSON."""
    report = json.loads(text, parse_constant=no_constant)
    return {row["what"] for table in report["tables"] for row in table["rows"]}


def learners(session, service):
    """A source and a target whose merge makes a row, changes one and leaves one as it is."""
    source, target = account(), account()
    keyspace = service.settings.courses_keyspace
    put(session, keyspace, CC, lesson(source, "made", status=2, progress=100, viewcount=3))
    put(session, keyspace, CC, lesson(source, "changed", status=2, progress=100))
    put(session, keyspace, CC, lesson(target, "changed", status=1, progress=30))
    for user in (source, target):
        put(session, keyspace, CC, lesson(user, "same", status=2, progress=100))
    return source, target


def merged(session, service):
    source, target = learners(session, service)
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    service.admission.admit(merge_id)
    service.merging.merge_table(merge_id, CC)
    service.merging.publish_sync(merge_id, publish=False)
    return merge_id


def each_way(call, *command, says=()):
    """The command as JSON and as tables: both end with status 0; answers the JSON. It must be one that may be repeated."""
    status, text = call(*command, "--json")
    assert status == 0, text
    told, shown = call(*command)
    assert told == 0, shown
    for word in says:
        assert word in shown
    return text


def test_a_preview_and_a_merge_show_rows_made_changed_and_the_same(session, service, call):
    source, target = learners(session, service)
    accounts = ("--source", source, "--target", target, "--table", CC)
    text = each_way(call, "preview", *accounts, says=("made", "changed", "1 rows needed nothing"))
    assert kinds(text) == {"created", "changed", "same"}
    status, shown = call("merge", *accounts, "--no-publish")
    assert (status, "made" in shown, "1 rows needed nothing" in shown) == (0, True, True)


def test_show_prints_them_too(session, service, call):
    text = each_way(call, "show", merged(session, service), says=("made", "changed", "1 rows needed nothing"))
    assert kinds(text) == {"created", "changed", "same"}


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["tables", "JSON"])
def test_undo_and_redo_of_a_merge_that_made_a_row_end_well(session, service, call, form):
    merge_id = merged(session, service)
    assert kinds(each_way(call, "undo", "--dry-run", merge_id, says=("made", "(deleted)"))) >= {"deleted", "changed"}
    status, text = call("undo", "--no-publish", merge_id, *form)
    assert status == 0, text
    assert kinds(each_way(call, "show", merge_id, says=("(deleted)",))) == {"created", "changed", "same", "deleted"}
    assert kinds(each_way(call, "redo", "--dry-run", merge_id, says=("made",))) >= {"created", "changed"}
    status, text = call("redo", "--no-publish", merge_id, *form)
    assert status == 0, text
    assert kinds(each_way(call, "show", merge_id)) == {"created", "changed", "same", "deleted"}
    assert service.journal.need(merge_id).state == "completed"


def test_a_row_that_was_folded(session, service, call, monkeypatch):
    source, target = learners(session, service)
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    service.admission.admit(merge_id)
    original, calls = Store.write, []

    def overtaken(self, *arguments, **named):
        original(self, *arguments, **named)
        calls.append(1)
        if len(calls) == 1:
            put(session, service.settings.courses_keyspace, CC, lesson(target, "changed", status=1, progress=40))

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", overtaken)
        service.merging.merge_table(merge_id, CC)
    assert "folded" in kinds(each_way(call, "show", merge_id, says=("(folded)",)))


def test_a_row_that_was_left(session, service, call, monkeypatch):
    source, target = learners(session, service)
    merge_id = service.opening.open_merge(MergeRequest((source,), target, tables=(CC,)))
    service.admission.admit(merge_id)

    def refused(*_, **__):
        raise NeedsAttention("CASSANDRA_REFUSED", "Cassandra did not acknowledge a write", "Look at the table.")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", refused)
        with pytest.raises(NeedsAttention):
            service.merging.merge_table(merge_id, CC)
        status, text = call("abandon", merge_id, "--reason", "wrong person", "--json")
    assert (status, json.loads(text)["state"]) == (0, "abandoned")
    assert "left" in kinds(each_way(call, "show", merge_id, says=("(left)", "not written: the merge was given up")))


def test_rows_that_were_redacted(session, service, call):
    merge_id = merged(session, service)
    service.retention.expire(service.journal.need(merge_id))
    text = each_way(call, "show", merge_id, says=("1 created", "expired"))
    assert kinds(text) == set()
    counts = {t["table"]: t["counts"] for t in json.loads(text)["tables"]}
    assert counts[CC] == {"created": 1, "changed": 1, "same": 1}
    each_way(call, "check", merge_id, says=("expired",))


def test_a_state_that_there_is_not_is_refused_with_those_that_there_are(call, capsys):
    with pytest.raises(SystemExit) as ended:
        call("list", "--state", "bogus")
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert all(state in told for state in STATES)


def command(environment, line):
    """A shell's line that calls the command as `$AM`."""
    whole = (
        os.environ | environment | {"AM": f"{sys.executable} -m account_merge", "COLUMNS": "80", "PYTHONPATH": INCLUDE}
    )
    return subprocess.run(["bash", "-c", line], env=whole, capture_output=True, text=True, timeout=120)


def test_a_list_in_a_pipe_is_not_cut_and_may_be_closed_early(session, service, own_environment):
    state = "needs_attention"
    for _ in range(300):
        service.journal.open(uuid.uuid4(), MergeRequest((account(),), account()))
    merge_id = uuid.uuid4()
    service.journal.open(merge_id, MergeRequest((account(),), account()), state=state)
    found = command(own_environment, f"$AM list | grep {state}")
    assert (found.returncode, str(merge_id) in found.stdout) == (0, True), found.stderr
    for form in ("--json", ""):
        ended = command(own_environment, f"set -o pipefail; $AM list {form} | head -n 1 > /dev/null")
        assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("edge", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "9999-99-99"])
@pytest.mark.parametrize("name", ["--since", "--until"])
def test_a_time_at_the_edge_of_the_calendar_is_a_bad_filter(service, call, capsys, edge, name):
    for words in (("failed",), ("replay", "--dry-run")):
        status, _ = call(*words, name, edge)
        assert (status, "BAD_FILTER" in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize("edge", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "9999-12-31", "0001-01-01"])
def test_a_time_that_can_be_is_none(service, call, edge):
    for name in ("--since", "--until"):
        assert call("failed", name, edge)[0] == 0
