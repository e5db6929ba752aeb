"""Every state has a way out: whatever stopped a merge, one command ends it and its accounts are free."""

from __future__ import annotations

import contextlib
import io
import itertools

import pytest

from account_merge.cli.main import main, run_merge
from account_merge.merge_ids import request_id
from account_merge.model import MergeRequest
from account_merge.states import CLOSED, STATES
from account_merge.sunbird.store import Store
from tests.conftest import sampled
from tests.journal_sql import sql
from tests.learners import account, aggregate, lesson, put

CC, AGG = "user_content_consumption", "user_activity_agg"
TOP = 9223372036854775807  # µs: Cassandra's greatest write time, which nobody can outrank
OPEN = [state for state in STATES if state not in CLOSED]
#: State -> the command that ends it; what is not here is abandoned.
WAYS = {"proposed": "reject"}
BACK = {"undoing": "undo", "redoing": "redo"}
CAUSES = ["killed", "outranked", "not a number", "table dropped"]


@pytest.fixture
def service(own_world):
    return own_world()


class Stops(BaseException):
    """The process ends here."""


@pytest.fixture
def cause(request, session, service, monkeypatch):
    """Answers a function that lets a merge of these accounts fail from now on."""
    keyspace, again = service.settings.courses_keyspace, []

    def happens(source, target):
        if request.param == "killed":
            original, died = Store.write, []

            def dies(self, schema, account_id, changes, attempt=0, *more):
                if not died:
                    died.append(True)
                    raise Stops
                original(self, schema, account_id, changes, attempt)

            monkeypatch.setattr(Store, "write", dies)
        elif request.param == "outranked":
            put(session, keyspace, CC, lesson(target, viewcount=1, status=1, progress=30), TOP)
        elif request.param == "not a number":
            put(session, keyspace, AGG, aggregate(source, aggregates={"score:q": float("nan")}))
            put(session, keyspace, AGG, aggregate(target, aggregates={"score:q": 4.0}))
        else:
            session.cluster.refresh_keyspace_metadata(keyspace)
            session.cluster.refresh_table_metadata(keyspace, CC)
            again.append(session.cluster.metadata.keyspaces[keyspace].tables[CC].export_as_string())
            session.execute(f"DROP TABLE {keyspace}.{CC}", timeout=60)

    yield happens
    for statement in ";\n".join(again).split(";\n"):
        if statement.strip():
            session.execute(statement, timeout=60)


def attempt(work):
    """Does what may fail in whatever way."""
    with contextlib.suppress(Exception, Stops):
        work()


def reached(session, service, state, cause, source, target):
    """A merge in that state, stopped by the cause as far as that can be."""
    request = MergeRequest((source,), target, tables=(CC, AGG), requested_by="one")
    if state == "proposed":
        merge_id = request_id("run", request.sources, request.target)
        service.proposals.propose(request, merge_id)
        cause(source, target)
        return merge_id
    merge_id = service.opening.open_merge(request)
    if state in BACK:
        assert run_merge(service, merge_id, publish=False)["state"] == "completed"
        if state == "redoing":
            service.undoing.run(merge_id, publish=False)
        service.undoing.begin(merge_id, BACK[state])
    elif state != "requested":
        service.admission.admit(merge_id)
    cause(source, target)
    for table in (AGG, CC) if state != "requested" else ():
        work = service.undoing.table if state in BACK else service.merging.merge_table
        attempt(lambda work=work, table=table: work(merge_id, table))
    if state not in ("requested", *BACK):
        sql(
            service,
            "UPDATE merges SET state = :state, waiting_for = target WHERE merge_id = :id",
            state=state,
            id=merge_id,
        )
    assert service.journal.need(merge_id).state == state
    return merge_id


@pytest.mark.parametrize(("state", "cause"), sampled(itertools.product(OPEN, CAUSES), 16), indirect=["cause"])
def test_one_command_ends_it_and_frees_its_accounts(session, service, own_environment, monkeypatch, state, cause):
    source, target, third = account(), account(), account()
    put(session, service.settings.courses_keyspace, CC, lesson(source, viewcount=2, status=2, progress=100))
    merge_id = reached(session, service, state, cause, source, target)
    for name, value in own_environment.items():
        monkeypatch.setenv(name, value)
    assert main([WAYS.get(state, "abandon"), str(merge_id), "--reason", "it never ends"], io.StringIO()) == 0
    assert service.journal.need(merge_id).state in CLOSED
    assert service.journal.holder(source) is service.journal.holder(target) is None
    for account_id in (source, target):
        free = service.opening.open_merge(MergeRequest((account_id,), third, tables=("user_group",)))
        assert run_merge(service, free, publish=False)["state"] == "completed"
