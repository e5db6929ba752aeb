"""All merges together write no more rows in a second than the setting says, in whatever process they are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from account_merge.journal import now
from account_merge.journal.write_rate import WriteRate
from account_merge.model import MergeRequest
from tests.journal_sql import sql
from tests.learners import account, lesson, put

CC = "user_content_consumption"
MOST, ROWS = 40, 100


@pytest.fixture
def limited(with_settings):
    """Two processes' services, as far as the journal can tell."""
    return [with_settings(max_rows_per_second=MOST) for _ in range(2)]


def too_early(service, merge_ids, since, like):
    """The log's entries that came before their time: a rate holds for any beginning of the stream of all entries."""
    entries = sql(
        service,
        "SELECT created_at, (SELECT sum(value::int) FROM json_each_text(counts)) AS rows FROM log "
        "WHERE merge_id = ANY(:ids) AND kind = 'changes' AND name LIKE :like ORDER BY created_at",
        ids=merge_ids, like=like,
    )  # fmt: skip
    done = largest = 0
    for entry in entries:
        done, largest = done + entry.rows, max(largest, entry.rows)
        assert entry.rows <= MOST
        if (entry.created_at.replace(tzinfo=None) - since).total_seconds() < (done - largest) / MOST:
            yield entry.created_at, done
    assert done == len(merge_ids) * ROWS


def test_merges_and_undos_of_two_processes_keep_one_rate(session, limited):
    keyspace = limited[0].settings.courses_keyspace
    sources = [account(), account()]
    for source in sources:
        for number in range(ROWS):
            put(session, keyspace, CC, lesson(source, f"M{number:03d}", viewcount=2))
    merge_ids = [
        service.opening.open_merge(MergeRequest((source,), account(), (CC,)))
        for service, source in zip(limited, sources, strict=True)
    ]
    for do, like in (("merging", CC), ("undoing", "undo-1/%")):
        begun = now()
        with ThreadPoolExecutor(2) as pool:
            runs = [
                pool.submit(getattr(service, do).run, merge_id, publish=False)
                for service, merge_id in zip(limited, merge_ids, strict=True)
            ]
        assert [run.result()["state"] for run in runs] == ["completed" if do == "merging" else "undone"] * 2
        assert list(too_early(limited[0], merge_ids, begun, like)) == []


def test_a_time_that_nobody_used_is_not_made_up_for(limited):
    rate = WriteRate(limited[0].journal, MOST)
    rate.wait(1)
    sql(limited[0], "UPDATE write_rate SET free_at = now() - interval '1 hour'")
    begun = now()
    for _ in range(3):
        rate.wait(MOST // 4)
    assert (now() - begun).total_seconds() >= 0.5


def test_without_a_limit_nothing_is_asked(service):
    rate = WriteRate(None, service.settings.max_rows_per_second)  # type: ignore[arg-type]
    rate.wait(10**9)
    assert rate.portion(10**9) == 10**9
