"""The database itself holds what the code promises: whoever writes by hand, or a program with a fault, is refused."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy.exc import IntegrityError

from account_merge.journal import leases
from account_merge.model import MergeRequest
from tests.journal_sql import sql
from tests.learners import account

MERGE = (
    "INSERT INTO merges (merge_id, state, sources, target, tables, on_conflict, source_rows, dry_run, tenant, seeded, "
    "deactivate_sources, choices, doubt, origin, failed_event, created_at, state_at, updated_at) "
    "SELECT {merge_id}, state, sources, target, tables, on_conflict, source_rows, dry_run, tenant, seeded, "
    "deactivate_sources, choices, doubt, origin, failed_event, created_at, state_at, updated_at FROM merges WHERE merge_id = :id"
)
ENTRY = (
    "INSERT INTO log (merge_id, name, seq, kind, base, writer, counts, sealed, digest, created_at) "
    "VALUES ({merge_id}, 'a table', {seq}, {kind}, 0, :id, '{{}}', decode(repeat('00', 32), 'hex'), "
    "decode(repeat('00', 32), 'hex'), now())"
)
#: What nobody may do, each as SQL; `:id` is an admitted merge of source `a` into target `b`, `:other` one that is requested.
BROKEN = {
    "two merges of one id": MERGE.format(merge_id=":id"),
    "a state that nobody knows": "UPDATE merges SET state = 'almost' WHERE merge_id = :id",
    "no state": "UPDATE merges SET state = NULL WHERE merge_id = :id",
    "waiting for nothing": "UPDATE merges SET state = 'waiting', waiting_for = NULL WHERE merge_id = :id",
    "a merge of nobody": "UPDATE merges SET sources = '{}' WHERE merge_id = :id",
    "a merge into nobody": "UPDATE merges SET target = '' WHERE merge_id = :id",
    "erased without a former state": "UPDATE merges SET state = 'erased' WHERE merge_id = :id",
    "a settle of what is not completed": "UPDATE merges SET settle_at = now() WHERE merge_id = :id",
    "a policy that nobody knows": "UPDATE merges SET on_conflict = 'both' WHERE merge_id = :id",
    "a failed event in no state": "UPDATE merges SET failed_event = 'lost' WHERE merge_id = :id",
    "a parent that is not there": "UPDATE merges SET parent = gen_random_uuid() WHERE merge_id = :id",
    "two holders of an account": "INSERT INTO accounts (account_id, held_by, role) VALUES (:a, :other, 'target')",
    "a holder that is no merge": "UPDATE accounts SET held_by = gen_random_uuid() WHERE account_id = :a",
    "a holder without a role": "UPDATE accounts SET role = NULL WHERE account_id = :a",
    "a role without a holder": "UPDATE accounts SET held_by = NULL WHERE account_id = :a",
    "a role that nobody knows": "UPDATE accounts SET role = 'witness' WHERE account_id = :a",
    "a merge that is held and gone": "DELETE FROM merges WHERE merge_id = :id",
    "what an account gave, twice": "INSERT INTO moves (account_id, role, merge_id) VALUES (:a, 'source', :id)",
    "an undo of a source": "INSERT INTO moves (account_id, role, merge_id, operation) VALUES (:a, 'source', :id, 'undo-1')",
    "what an unknown account gave": "INSERT INTO moves (account_id, role, merge_id) VALUES ('nobody', 'source', :id)",
    "an account that has a past and is gone": "DELETE FROM accounts WHERE account_id = :a",
    "two entries of one number": ENTRY.format(merge_id=":id", seq=0, kind="'end'"),
    "an entry before the first": ENTRY.format(merge_id=":id", seq=-1, kind="'end'"),
    "an entry of no kind": ENTRY.format(merge_id=":id", seq=7, kind="'more'"),
    "an entry of no merge": ENTRY.format(merge_id="gen_random_uuid()", seq=0, kind="'end'"),
    "an attempt too many": "UPDATE log SET attempts = 1000 WHERE merge_id = :id",
    "a digest that is none": "UPDATE log SET digest = 'x' WHERE merge_id = :id",
    "a second key": "INSERT INTO journal (only_one, journal_id, hash_key, created_at) "
    "SELECT only_one, :other, hash_key, now() FROM journal",
    "another key beside it": "INSERT INTO journal (only_one, journal_id, hash_key, created_at) "
    "SELECT false, :other, hash_key, now() FROM journal",
    "a stop without a reason": "INSERT INTO stops (tenant, actor, reason, since) VALUES ('', 'a', '', now())",
}


@pytest.fixture(scope="module")
def admitted(shared_service):
    """The ids of an admitted merge and of a requested one, with the accounts of the first."""
    a, b = account(), account()
    merge_id = shared_service.opening.open_merge(MergeRequest((a,), b))
    other = shared_service.opening.open_merge(MergeRequest((account(),), account()))
    shared_service.admission.admit(merge_id)
    sql(shared_service, ENTRY.format(merge_id=":id", seq=0, kind="'changes'"), id=merge_id)
    return {"id": merge_id, "other": other, "a": a, "b": b}


@pytest.mark.parametrize("what", BROKEN)
def test_the_database_refuses(what, shared_service, admitted):
    statement = BROKEN[what]
    with pytest.raises(IntegrityError):
        sql(shared_service, statement, **{name: value for name, value in admitted.items() if f":{name}" in statement})


def test_the_tables_are_those_that_statements_name(shared_service):
    from sqlalchemy import inspect

    from account_merge.journal.schema import metadata

    there = inspect(shared_service.journal.engine)
    for table in metadata.tables.values():
        dialect = shared_service.journal.engine.dialect
        found = {column["name"]: column["type"].compile(dialect) for column in there.get_columns(table.name)}
        wanted = {column.name: column.type.compile(dialect) for column in table.columns}
        found.pop("only_one", None)
        assert found == wanted, table.name


def test_all_accounts_are_taken_or_none(shared_service):
    journal, shared, free = shared_service.journal, account(), account()
    first = journal.need(shared_service.opening.open_merge(MergeRequest((shared,), account())))
    second = journal.need(shared_service.opening.open_merge(MergeRequest((free, shared), account())))
    assert leases.acquire_all(journal, first).blocked is None
    blocked = leases.acquire_all(journal, second).blocked
    assert (blocked.account, blocked.by.merge_id) == (shared, first.merge_id)
    assert journal.holder(free) is None
    assert journal.gave(free) == frozenset()
    assert uuid.UUID(str(journal.holder(shared).merge_id)) == first.merge_id
