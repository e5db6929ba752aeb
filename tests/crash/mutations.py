"""Faults put into the code under test, each by its name, and the part of the matrix that must find each.

A fault changes one mechanism that the promise hangs on. What no part finds would be a mechanism without a test, or one
that another mechanism makes needless.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from account_merge.engine.table_undo import TableUndo
from account_merge.engine.table_work import TableWork
from account_merge.engine.unknown_writes import UnknownWrites
from account_merge.intake.inbox import Inbox
from account_merge.journal.accounts import Accounts
from account_merge.journal.database import Database
from account_merge.journal.fence import Fence
from account_merge.journal.log import Log
from account_merge.journal.log_ends import Endings
from account_merge.lifecycle import merging, undoing
from account_merge.lifecycle.merging import Merging
from account_merge.lifecycle.undoing import Undoing
from account_merge.states import ACTIONS
from account_merge.sunbird.store import Store

CC = "user_content_consumption"


@dataclass(frozen=True)
class Mutation:
    """A fault, and where it must show.

    :param put: puts it in.
    :param shows: what the matrix says of it, so that nothing else than the fault is found.
    :param work: the kind of work that is interrupted.
    :param kinds: beginnings of the kinds of requests that are interrupted: the last two of these.
    :param whens: before or after them.
    :param meanwhile: what goes on while the process is stopped; empty for a kill.
    """

    put: Callable[[], None]
    shows: str
    work: str
    kinds: tuple[str, ...]
    whens: tuple[str, ...] = ("before", "after")
    meanwhile: str = ""


def apply(name: str) -> None:
    """Puts the named fault in; none for an empty name."""
    if name:
        (MUTATIONS[name].put if name in MUTATIONS else POLL_MUTATIONS[name])()


def log_after_data() -> None:
    append = TableWork._append

    def appending(self: Any, draft: Any, changes: Any = ()) -> Any:
        self._store.write(self._schema, self.account, changes)
        return append(self, draft, changes)

    TableWork._append = appending  # type: ignore[method-assign]


def increments() -> None:
    write = Store.write

    def writing(self: Any, schema: Any, account: str, changes: Sequence[Any], attempt: int = 0, *more: Any) -> None:
        changes = list(changes)
        held = self.rows_by_key(schema, account, [change.key for change in changes])

        def added(change: Any, name: str, one: Any) -> Any:
            if not isinstance(one.value, int) or name not in ("viewcount", "completedcount"):
                return one
            row, before = held.get(change.key), (change.before or {}).get(name) or 0
            return one._replace(value=((row.values.get(name) or 0) if row else 0) + one.value - before)

        added_to = [c._replace(writes={n: added(c, n, w) for n, w in c.writes.items()}) for c in changes]
        write(self, schema, account, added_to, attempt)

    Store.write = writing  # type: ignore[method-assign]


def one_timestamp() -> None:
    Log.next_attempt = lambda self, entry: 0  # type: ignore[method-assign]


def no_lease() -> None:
    around = Fence.around
    Accounts.take = lambda *arguments, **named: None  # type: ignore[method-assign]
    Accounts.holds_all = lambda *arguments: True  # type: ignore[method-assign]
    Fence.around = lambda merge, stoppable: replace(around(merge, stoppable), accounts=0)  # type: ignore[method-assign]
    # What nobody holds nobody knows of: such a merge is taken for one that a restored journal has forgotten.
    UnknownWrites.watched = lambda self, rows: iter(rows)  # type: ignore[method-assign]


def no_fence() -> None:
    append, together = Log.append, Endings.append
    Log.append = lambda self, draft, fence=None: append(self, draft)  # type: ignore[method-assign]
    Endings.append = lambda self, fence: together(self, None)  # type: ignore[method-assign]


def neither_fence_nor_closed_entry() -> None:
    """Each of the two keeps a writer from going on with a merge that is being undone."""
    no_fence()
    undoing.close_all = lambda journal, logs: None


def no_rewriting_of_the_last_entry() -> None:
    TableWork.complete_logged = lambda self: self.log.last()  # type: ignore[method-assign]


def undo_leaves_what_is_right() -> None:
    TableUndo._also = lambda self, steps: {}  # type: ignore[method-assign]


def lost_races_count_as_won() -> None:
    run = Database.run
    Database.run = lambda *arguments: run(*arguments) or -1  # type: ignore[method-assign]


def order_checked_before_the_accounts_are_taken() -> None:
    begin, take = Undoing.begin, Undoing._take

    def beginning(self: Any, merge_id: uuid.UUID, action: str, *more: Any) -> Any:
        merge = self._journal.need(merge_id)
        under_way, _, first = ACTIONS[action]
        if merge.state in {under_way, *first}:
            self.check(merge, action)
        return begin(self, merge_id, action, *more)

    Undoing.begin = beginning  # type: ignore[method-assign]
    Undoing._take = lambda self, merge, check: take(self, merge, lambda: None)  # type: ignore[method-assign]


def new_ids_for_sync_events() -> None:
    events = merging.sync_events
    merging.sync_events = lambda merge_id, *more: events(uuid.uuid4(), *more)


def publish_before_verify() -> None:
    merge_table = Merging.merge_table

    def publishing(self: Any, merge_id: uuid.UUID, *more: Any) -> Any:
        merge = self._journal.need(merge_id)
        places = self._tables.skipped.enrolments(merge)
        events = merging.sync_events(merge_id, merge.target, places, self._settings, merging.opened_ms(merge))
        self._publisher.publish(events)
        return merge_table(self, merge_id, *more)

    Merging.merge_table = publishing  # type: ignore[method-assign]


def complete_before_publish() -> None:
    publish_sync = Merging.publish_sync

    def completing(self: Any, merge_id: uuid.UUID, publish: bool = True, *more: Any) -> Any:
        publish_sync(self, merge_id, publish=False)
        return publish_sync(self, merge_id, publish, *more)

    Merging.publish_sync = completing  # type: ignore[method-assign]


def offset_commit_before_journal() -> None:
    claim = Inbox._claim

    def claiming(self: Any, *arguments: Any) -> None:
        self._topics.commit(self._topics.positions())
        claim(self, *arguments)

    Inbox._claim = claiming  # type: ignore[method-assign]


LOGGED, WROTE = "INSERT log changes", (f"UPDATE {CC}", f"batch INSERT {CC}")
MUTATIONS = {
    "log_after_data": Mutation(log_after_data, "no entry of the log names", "merge", (LOGGED,), ("before",)),
    "increments": Mutation(increments, "rows: /user_content_consumption", "merge", WROTE, ("after",)),
    "one_timestamp": Mutation(
        one_timestamp, "user_enrolments", "merge", ("UPDATE user_enrolments",), ("before",), "second"
    ),
    "no_lease": Mutation(
        no_lease, "another merge of the same target became completed", "merge", (LOGGED,), ("after",), "other"
    ),
    "no_fence": Mutation(
        no_fence, "an entry was appended while merging was stopped", "merge", (LOGGED,), ("before",), "pause"
    ),
    "neither_fence_nor_closed_entry": Mutation(
        neither_fence_nor_closed_entry,
        "the process changed rows after it woke",
        "merge",
        (LOGGED,),
        ("before",),
        "undo",
    ),
    "no_rewriting_of_the_last_entry": Mutation(
        no_rewriting_of_the_last_entry, "rows: /user_content_consumption", "merge", (LOGGED,), ("after",)
    ),
    "undo_leaves_what_is_right": Mutation(
        undo_leaves_what_is_right,
        "the process changed rows after it woke",
        "merge",
        ("UPDATE user_enrolments",),
        ("before",),
        "undo",
    ),
    "lost_races_count_as_won": Mutation(
        lost_races_count_as_won, "no entry of the log names", "merge", (LOGGED,), ("before",), "second"
    ),
    "order_checked_before_the_accounts_are_taken": Mutation(
        order_checked_before_the_accounts_are_taken,
        "a later merge builds on it, and it is undone",
        "undo",
        ("SELECT merges to keep",),
        ("before",),
        "onward",
    ),
    "new_ids_for_sync_events": Mutation(new_ids_for_sync_events, "events: ", "merge", ("produce",), ("after",)),
    "publish_before_verify": Mutation(
        publish_before_verify, "sync events went out before the rows were right", "merge", (LOGGED,), ("before",)
    ),
    "complete_before_publish": Mutation(
        complete_before_publish, "events: ", "merge", ("produce", "flush"), ("before",)
    ),
}
#: These are found by the matrix of the poll.
POLL_MUTATIONS = {"offset_commit_before_journal": offset_commit_before_journal}
