"""A journal of years: filled by SQL, the questions that are asked of it, and the plans by which PostgreSQL answers them.

Of the closed merges four of five are completed, three of four are settles, and each fourth pair goes on with the target of
the pair before it. Of the open ones many wait behind one failed merge; the others are requested, under way, failed, paused,
or wait for accounts that are free again.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import event

from account_merge.failed_search import KINDS, FailedMergeFilter
from account_merge.journal import Journal, lists, now
from account_merge.journal.outbox import Outbox
from account_merge.journal.queue import Parked, Queue
from account_merge.listings import MergeFilter
from account_merge.model import Merge
from account_merge.states import State

#: Nothing reads one of these from end to end.
LARGE = frozenset({"merges", "merge_accounts", "accounts", "moves", "log", "history", "failed_events"})
#: The account that one failed merge holds and that the others wait for.
HUB = "hub"
#: The account that the oldest 3,000 merges lead to.
OLD_HUB = "old hub"
TENANTS = ("tenant-1", "tenant-2")

_FILL = """
SET LOCAL session_replication_role = replica;  -- every row fits the others; nobody has to look

CREATE TEMP TABLE filled ON COMMIT DROP AS
SELECT n, open, md5(CASE WHEN open THEN 'open ' ELSE 'closed ' END || n)::uuid AS merge_id,
       CASE WHEN NOT open AND n % 4 > 0 THEN md5('closed ' || n - n % 4)::uuid END AS parent,
       CASE WHEN open THEN 'open source ' || n WHEN n / 4 % 4 = 3 THEN md5('target ' || n / 4 - 1)
            ELSE md5('source ' || n / 4) END AS source,
       CASE WHEN open AND n <= 3000 THEN 'hub' WHEN open THEN 'open target ' || n WHEN n <= 3000 THEN 'old hub'
            ELSE md5('target ' || n / 4) END AS target,
       CASE WHEN open AND n = 1 THEN 'failed' WHEN open AND n <= 3500 THEN 'waiting' WHEN open AND n <= 9000 THEN 'requested'
            WHEN open AND n <= 9030 THEN 'started' WHEN open AND n <= 9100 THEN 'running' WHEN open AND n <= 9150 THEN 'undoing'
            WHEN open AND n <= 9160 THEN 'redoing' WHEN open AND n <= 9260 THEN 'proposed' WHEN open AND n <= 9760 THEN 'failed'
            WHEN open AND n <= 9860 THEN 'paused' WHEN open THEN 'needs_attention'
            WHEN n % 50 = 48 THEN 'undone' WHEN n % 50 = 44 THEN 'abandoned' WHEN n % 100 = 40 THEN 'refused'
            WHEN n % 1000 = 80 THEN 'rejected' ELSE 'completed' END AS state,
       CASE WHEN open THEN now() - (10001 - n) * interval '10 s'
            ELSE now() - interval '1 day' - (:closed - n) * (interval '1000 days' / :closed) END AS at
FROM (SELECT n, false AS open FROM generate_series(1, :closed) n
      UNION ALL SELECT n, true FROM generate_series(1, 10000) n) AS every;

INSERT INTO merges (merge_id, state, attempt, sources, target, tables, on_conflict, source_rows, dry_run, tenant, seeded,
                    deactivate_sources, choices, doubt, origin, mid, topic_position, raw, parent, survivor, rules_hash, run_ids,
                    resume, waiting_for, waiting_holder, replayed_as, digests, note, error_code, error, failed_event, settles,
                    settle_at, expiry, created_at, state_at, updated_at, closed_at)
SELECT merge_id, state, 1, ARRAY[source], target, '{}', 'combine', 'keep', false, 'tenant-' || n % 20, false, false, '', '',
       CASE WHEN parent IS NOT NULL THEN 'settle' WHEN n % 40 = 0 THEN 'ui' ELSE 'event' END, 'LP.' || merge_id,
       CASE WHEN parent IS NULL THEN 'dev.lms.user.account.merge/0/' || n END,
       CASE WHEN parent IS NULL THEN convert_to(repeat('{"mid": "LP.', 40), 'UTF8') END,
       parent, target, md5('rules'), ARRAY['merge__' || merge_id || '__1'],
       CASE WHEN open AND state IN ('failed', 'paused') AND n % 4 = 0 THEN 'wanted'
            WHEN open AND state IN ('failed', 'paused') AND n % 40 = 1 AND n > 1 THEN 'started' END,
       CASE WHEN state = 'waiting' AND n <= 3000 THEN 'hub' WHEN state = 'waiting' THEN 'open target ' || n END,
       CASE WHEN state = 'waiting' THEN md5('open 1')::uuid END,
       CASE WHEN state = 'refused' AND n % 800 < 700 THEN md5('closed ' || n + 1)::uuid END,
       '{}', CASE WHEN parent IS NOT NULL THEN 'nothing new' END,
       CASE WHEN state = 'refused' THEN 'ID_BLANK' WHEN state IN ('failed', 'needs_attention') THEN 'CASSANDRA_UNAVAILABLE' END,
       CASE WHEN state = 'refused' THEN 'An account id is blank (edata.fromAccountId).' END,
       CASE WHEN open AND state = 'failed' AND n % 10 = 5 THEN 'due' WHEN open AND state = 'failed' AND n % 20 = 7 THEN 'sending'
            WHEN open AND state = 'failed' AND n % 20 = 9 THEN 'undeliverable'
            WHEN state IN ('failed', 'refused', 'needs_attention') THEN 'sent' ELSE 'none' END,
       CASE WHEN parent IS NULL AND state = 'completed' THEN 3 ELSE 0 END,
       CASE WHEN parent IS NULL AND state = 'completed' AND at > now() - interval '20 days' THEN
            CASE WHEN n % 12 = 0 THEN now() - n % 100 * interval '1 min' ELSE at + interval '21 days' END END,
       CASE WHEN NOT open AND at < now() - interval '370 days' THEN 'done' END,
       at, at + interval '8 s', at + interval '8 s', CASE WHEN NOT open THEN at + interval '8 s' END
FROM filled ORDER BY at;

INSERT INTO merge_accounts SELECT source, merge_id FROM filled UNION ALL SELECT target, merge_id FROM filled;

INSERT INTO accounts
SELECT account, max(merge_id::text) FILTER (WHERE holds)::uuid, max(role) FILTER (WHERE holds),
       bool_or(state = 'waiting' AND role = 'target' OR state = 'requested' AND n % 100 = 0)
FROM (SELECT source AS account, 'source' AS role, * FROM filled UNION ALL SELECT target, 'target', * FROM filled) AS named,
     LATERAL (SELECT open AND state IN ('running', 'undoing', 'redoing', 'failed', 'paused', 'needs_attention')) AS more (holds)
GROUP BY account;

INSERT INTO moves (account_id, role, merge_id)
SELECT account, role, merge_id FROM
  (SELECT at, source AS account, 'source' AS role, merge_id, state, open FROM filled
   UNION ALL SELECT at, target, 'target', merge_id, state, open FROM filled) AS moved
WHERE state NOT IN ('refused', 'rejected', 'requested', 'waiting', 'proposed', 'started') ORDER BY at;

INSERT INTO log (merge_id, name, seq, kind, base, writer, counts, payload, salt, sealed, digest, created_at)
SELECT merge_id, 'user_enrolments', 0, 'end', 1, merge_id, '{}', '', '', sha256(''), sha256(''), at FROM filled WHERE n % 4 = 0;

INSERT INTO failed_events (merge_id, number, state, code, error, remedy, refused)
SELECT merge_id, 1, CASE WHEN open AND n % 50 = 0 THEN 'due' ELSE 'sent' END, 'CASSANDRA_UNAVAILABLE', '', '', false
FROM filled WHERE n % 20 = 0 AND state NOT IN ('refused', 'rejected', 'requested', 'waiting', 'proposed');

INSERT INTO history (merge_id, at, before, after, actor, run_id, task_id)
SELECT merge_id, at, 'running', state, '', 'merge__' || merge_id || '__1', 'publish_sync_events' FROM filled;
"""


#: Indexes that no constraint needs: made when the rows are there, they cost half.
_INDEXES = """
SELECT relname, pg_get_indexdef(oid) FROM pg_class JOIN pg_index ON indexrelid = oid
WHERE relnamespace = 'public'::regnamespace AND NOT indisunique
"""


def fill(journal: Journal, closed: int) -> None:
    """Put so many closed merges and 10,000 open ones into an empty journal; its user has to be a superuser."""
    with journal.transactions.begin() as connection:
        indexes = connection.exec_driver_sql(_INDEXES).all()
        for name, _ in indexes:
            connection.exec_driver_sql(f"DROP INDEX {name}")
        for statement in _FILL.replace(":closed", str(closed)).split(";\n\n"):
            connection.exec_driver_sql(statement.replace("%", "%%"))
        for _, made in indexes:
            connection.exec_driver_sql(made)
    with journal.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM (ANALYZE)")


# --- questions ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Question:
    """A question of the journal.

    :param ask: what is called.
    :param least: things that it finds, at least.
    :param most: rows that it reads for that, at most: what is open, or what one account has, but never all merges.
    """

    name: str
    ask: Callable[[], Any]
    least: int = 1
    most: int = 20_000


def questions(journal: Journal) -> list[Question]:
    """Return every question of the queue, the outbox and the lists, and those about accounts that each merge asks."""
    return [*_of_the_queue(journal), *_of_the_lists(journal), *_of_accounts(journal)]


def _of_the_queue(journal: Journal) -> list[Question]:
    queue, outbox, moment = Queue(journal), Outbox(journal), now()
    page = queue.requested((), None, 200)
    failed = journal.need(uuid.UUID(bytes=_md5("open 1")))
    parked = [Parked(merge, HUB, failed.merge_id) for merge in page]
    settles, old = queue.to_settle(moment, None, 20), queue.with_images(moment - timedelta(365), None, 50)
    place = old[-1].closed_at, old[-1].merge_id
    forward = State.STARTED, State.RUNNING, State.REDOING
    names = [account for merge in page for account in merge.accounts]
    return [
        Question("requested", lambda: queue.requested((), None, 200), 200),
        Question("requested, the next page", lambda: queue.requested(TENANTS, page[-1], 200), 200),
        Question("is one requested", lambda: queue.requested((), None, 1)),
        Question("released", lambda: queue.released((), 264), 264),
        Question("released, two tenants stopped", lambda: queue.released(TENANTS, 264), 264),
        Question("is one released", lambda: queue.released((), 1)),
        Question("resumable", lambda: queue.resumable(TENANTS, 264), 100),
        Question("of a bulk run", lambda: queue.of_run("bulk__none", 1000), 0),
        Question("how many of a bulk run", lambda: queue.number_of_run("bulk__none"), 0),
        Question("starting", queue.starting, 60),
        Question("held", lambda: queue.held([*names, HUB])),
        Question("under way", lambda: queue.under_way((State.STARTED, State.RUNNING)), 100),
        Question("park 200", lambda: queue.park(parked), 0),
        Question("forget unwanted", queue.forget_unwanted, 0),
        Question("untouched undos", lambda: queue.untouched(moment, [State.UNDOING], (), 1000), 50),
        Question("untouched", lambda: queue.untouched(moment, forward, TENANTS, 1000), 90),
        Question("resuming", lambda: queue.resuming(moment, (), 1000), 10),
        Question("owing", lambda: outbox.owing(1000), 70),
        Question("is a failed event due", lambda: outbox.due(moment)),
        Question("failed events of a merge", lambda: outbox.of(failed)),
        Question("to settle", lambda: queue.to_settle(moment, None, 20), 20),
        Question("to settle, the next page", lambda: queue.to_settle(moment, settles[-1], 20), 20),
        Question("with images", lambda: queue.with_images(moment - timedelta(365), None, 50), 50),
        Question("with images, the next page", lambda: queue.with_images(moment - timedelta(365), place, 50), 50),
    ]


def _of_the_lists(journal: Journal) -> list[Question]:
    moment = now()
    first = lists.newest(journal, MergeFilter(), None, 50)
    place = first[-1].created_at, first[-1].merge_id
    long_ago = {"since": moment - timedelta(500), "until": moment - timedelta(499)}
    filters = {
        "newest": {}, "newest of an account": {"account": HUB}, "newest of an old account": {"account": OLD_HUB},
        "newest completed": {"state": "completed"},
        "newest rejected": {"state": "rejected"}, "newest failed of an origin": {"state": "failed", "origin": "ui"},
        "newest of an origin": {"origin": "ui"}, "newest but settles": {"but": "settle"}, "newest of a day": long_ago,
        "newest completed of a day": {"state": "completed", **long_ago},
    }  # fmt: skip
    searches = {
        "failed": {}, "failed: undeliverable": {"kinds": ("undeliverable",)}, "failed: all kinds, 1000": {"kinds": KINDS, "limit": 1000},
        "failed by code": {"codes": ("CASSANDRA_UNAVAILABLE",)}, "failed of an account": {"account": HUB},
        "failed of an old account": {"account": OLD_HUB},
        "failed since": {"since": moment - timedelta(20)},
    }  # fmt: skip
    columns = {
        "state": [s.value for s in State], "failed_event": ["due", "sending", "undeliverable"], "resume": ["wanted", "started"],
    }  # fmt: skip
    return [
        *(Question(name, partial(lists.newest, journal, MergeFilter(**asked), None, 50)) for name, asked in filters.items()),
        Question("newest, the next page", lambda: lists.newest(journal, MergeFilter(), place, 50), 50),
        *(Question(name, partial(lists.failed, journal, FailedMergeFilter(**asked))) for name, asked in searches.items()),
        *(Question(f"count by {column}", partial(lists.count, journal, column, values), 1, 2 * lists.MOST)
          for column, values in columns.items()),
        Question("count overdue", lambda: lists.count_overdue(journal, timedelta(hours=1))),
        Question("by day", lambda: lists.by_day(journal).days, 14, 2 * lists.MOST),
    ]  # fmt: skip


def _of_accounts(journal: Journal) -> list[Question]:
    chained = 10_003  # four merges of one pair; its source is the target of the pair before
    source, target = _md5(f"target {chained - 1}").hex(), _md5(f"target {chained}").hex()
    parent = uuid.UUID(bytes=_md5(f"closed {chained * 4}"))
    return [
        Question("search: oldest of all", journal.all, 1000),
        Question("search: waiting", lambda: journal.find("state", "waiting"), 2000),
        Question("search: of an account", lambda: journal.find("accounts", source), 5),
        Question("search: of the hub", lambda: journal.of_account(HUB), 2000),
        Question("search: of an old account", lambda: journal.of_account(OLD_HUB), 2000),
        Question("search: of a parent", lambda: journal.find("parent", parent), 3),
        Question("nameless", lambda: list(islice(journal.nameless(), 100)), 0),
        Question("holder", lambda: journal.holder(HUB)),
        Question("merged by, no merge", lambda: journal.merged_by(OLD_HUB), 0),
        Question("received, an old account", lambda: journal.received(OLD_HUB), 2000),
        Question("merged by", lambda: journal.merged_by(source)),
        Question("survivor", lambda: journal.survivor(source)),
        Question("gave", lambda: journal.gave(source), 4),
        Question("received", lambda: journal.received(target), 4),
        Question("operations", lambda: journal.operations(journal.need(parent)), 0),
        Question("history", lambda: journal.history(parent)),
    ]


def _md5(text: str) -> bytes:
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()


class _Undone(Exception):
    """Takes back what a question changed."""


def asked(journal: Journal, question: Question) -> Any:
    """Ask a question; what it changes is taken back."""
    answer = None
    try:
        with journal.transaction():
            answer = question.ask()
            raise _Undone
    except _Undone:
        return answer


def found(answer: Any) -> int:
    """Return how many things an answer holds; a number is itself."""
    if isinstance(answer, int) or answer is None:
        return answer or 0
    return 1 if isinstance(answer, str | Merge) else len(answer)


# --- plans --------------------------------------------------------------------------------------------------------------
@dataclass
class Plan:
    """How PostgreSQL answers one statement.

    :param scans: the way to each table: `Index Scan merges_requested`, say.
    :param read: rows that were read, with those that a filter dropped; 0 for a change, which is not made.
    :param ms: of PostgreSQL alone; 0 for a change.
    """

    top: str
    scans: list[str] = field(default_factory=list)
    sequential: list[str] = field(default_factory=list)
    read: int = 0
    ms: float = 0.0


def faults(question: Question, answer: Any, made: Sequence[Plan]) -> list[str]:
    """Say what is wrong with an answer and with its plans."""
    told = [f"reads all of {table}" for table in sorted(LARGE & {t for plan in made for t in plan.sequential})]
    if (read := sum(plan.read for plan in made)) > question.most:
        told.append(f"reads {read:,} rows")
    if found(answer) < question.least:
        told.append(f"finds {found(answer)} only")
    return told


def plans(journal: Journal, question: Question) -> list[Plan]:
    """Ask a question; return the plan of each of its statements, with its own parameters."""
    made: list[Plan] = []

    def explain(_: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
        query = statement.lstrip().upper().startswith(("SELECT", "WITH")) and "INSERT" not in statement.upper()
        with cursor.connection.cursor() as other:
            other.execute(f"EXPLAIN ({'ANALYZE, ' if query else ''}FORMAT JSON) {statement}", parameters)
            told = other.fetchone()[0]
        made.append(plan_of(json.loads(told) if isinstance(told, str) else told))

    event.listen(journal.engine, "before_cursor_execute", explain)
    try:
        asked(journal, question)
    finally:
        event.remove(journal.engine, "before_cursor_execute", explain)
    return made


def plan_of(told: list[Mapping[str, Any]]) -> Plan:
    """Return what counts of EXPLAIN's answer."""
    top = told[0]["Plan"]
    plan = Plan(top["Node Type"], ms=told[0].get("Planning Time", 0.0) + told[0].get("Execution Time", 0.0))
    for node in _nodes(top):
        kind, table, index = node["Node Type"], node.get("Relation Name"), node.get("Index Name")
        if kind == "Seq Scan" and table:
            plan.sequential.append(table)
        if "Scan" in kind and (index or table):
            plan.scans.append(f"{kind} {index or table}")
        dropped = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        if table:
            plan.read += int((node.get("Actual Rows", 0) + dropped) * node.get("Actual Loops", 1))
    return plan


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)
