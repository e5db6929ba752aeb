"""The plans of the journal's queries with years of closed merges: none reads a large table from end to end."""

from __future__ import annotations

import inspect
import os
from dataclasses import replace

import pytest
from sqlalchemy import text

from account_merge.journal import Journal, lists
from account_merge.journal.outbox import Outbox
from account_merge.journal.queue import Queue
from account_merge.settings import Settings
from tests import journal_queries
from tests.journal_queries import LARGE, asked, faults, fill, plans, questions
from tests.keyspaces import drop_journal, journal_beside

CLOSED = 200_000
#: Times that a question is asked until it is prepared, five times planned for its values, and then for any.
PREPARED = 14
#: What the outbox asks and changes of one event that it has read.
OF_ONE = {"owes", "mark"}


@pytest.fixture(scope="module")
def old_journal(stack):
    """A journal with so many closed merges, and 10,000 open ones."""
    given = stack.core_settings()
    url = journal_beside(given["ACCOUNT_MERGE_JOURNAL_URL"], f"t_plans_{os.getpid()}")
    journal = Journal(Settings.from_env(given | {"ACCOUNT_MERGE_JOURNAL_URL": url}))
    journal.create()
    fill(journal, CLOSED)
    yield journal
    journal.close()
    drop_journal(url)


def test_what_is_closed_costs_no_question_anything(old_journal):
    wrong = {}
    for question in questions(old_journal):
        made = plans(old_journal, question)
        assert made, f"{question.name} asks nothing"
        if told := faults(question, asked(old_journal, question), made):
            wrong[question.name] = told, [scan for plan in made for scan in plan.scans]
    assert not wrong


def test_a_prepared_question_costs_no_more(old_journal):
    """A session that prepares its statements may keep one plan for all values: it must be one by an index, too."""
    read = text("SELECT sum(seq_tup_read)::bigint FROM pg_stat_user_tables WHERE relname = ANY(:tables)")

    def rows_read():
        old_journal.value(text("SELECT pg_stat_force_next_flush()"))
        return old_journal.value(read, {"tables": sorted(LARGE)})

    def kept():
        return old_journal.value(text("SELECT coalesce(sum(generic_plans), 0) FROM pg_prepared_statements"))

    before, found = rows_read(), 0
    for question in questions(old_journal):
        found += asked(
            old_journal, replace(question, ask=lambda ask=question.ask: [ask() for _ in range(PREPARED)] + [kept()])
        )[-1]
    assert found > 0
    assert rows_read() == before


def test_every_question_of_queue_outbox_and_lists_is_asked():
    source = inspect.getsource(journal_queries)
    parts = {
        "queue": vars(Queue),
        "outbox": {name: found for name, found in vars(Outbox).items() if name not in OF_ONE},
    }
    of_queue = [f"{part}.{name}" for part, names in parts.items() for name in names if not name.startswith("_")]
    of_lists = [
        f"lists.{name}"
        for name, found in vars(lists).items()
        if inspect.isfunction(found) and found.__module__ == lists.__name__ and not name.startswith("_")
    ]
    assert len(of_queue) > 10
    assert not [name for name in (*of_queue, *of_lists) if name not in source]
