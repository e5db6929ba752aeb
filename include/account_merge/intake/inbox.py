"""From the merge topic to merges that can start: claim into the journal, commit, choose the next runs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Any, NotRequired, TypedDict

from account_merge.errors import InvalidEvent, MergeError, TransientError
from account_merge.intake.offsets import Offsets
from account_merge.intake.pace import Pace
from account_merge.journal import Journal, now
from account_merge.journal.fence import ALL
from account_merge.journal.merges import Opened
from account_merge.journal.outbox import Outbox
from account_merge.journal.queue import Parked, Queue
from account_merge.journal.scans import Note
from account_merge.lifecycle.draining import Draining
from account_merge.lifecycle.failures import SPARE
from account_merge.lifecycle.liveness import TAKING_BACK, UNDER_WAY, Life, Liveness
from account_merge.lifecycle.pause_switch import PauseSwitch, Stop
from account_merge.lifecycle.requests import request_of, time_ms
from account_merge.model import Merge, MergeRequest
from account_merge.settings import Settings
from account_merge.states import BULK_RUN, CLOSED, LOST, MERGE_DAG, RESUMABLE, UNDO_DAG, Origin, State
from account_merge.sunbird.events import Message, kept_of, merge_id_for, parse
from account_merge.sunbird.kafka import Topics

_PAGE = 200  # merges that are looked at together
_AT_ONCE = 1000  # merges under way whose runs one poll looks at


class NextRun(TypedDict):
    """A run of a DAG that Airflow is asked for.

    :param conf: `{merge_id, …}`: what the run's params are.
    :param reset_dag_run: the run is there, and is to end.
    """

    merge_id: str
    trigger_run_id: str
    dag_id: str
    conf: dict[str, Any]
    reset_dag_run: NotRequired[bool]


class Inbox:
    """The journal as inbox and queue."""

    def __init__(self, journal: Journal, topics: Topics, settings: Settings) -> None:
        self._journal, self._topics, self._settings = journal, topics, settings
        self._switch, self._alive, self._draining = PauseSwitch(journal), Liveness(journal, settings), Draining(journal)
        self._queue, self._outbox, self._offsets = Queue(journal), Outbox(journal), Offsets(journal, topics, settings)
        self.pace, self.bulk_run = Pace(journal), Note(journal, "bulk run")
        self._unanswered = timedelta(seconds=settings.delivery_timeout_seconds + SPARE)

    def has_work(self, runs: bool = True) -> dict[str, int]:
        """Count the messages past the committed offset; without any, say whether a merge or a failed event is due. Consume nothing.

        :param runs: a merge that has a run and whose row nobody changed for some time is due as well: its run may be
            orphaned or failed, which only Airflow knows.
        :raises TransientError: Kafka does not answer, and nothing else is due.
        """
        try:
            lag = self._offsets.lag()
        except TransientError:
            if any(self._due(runs)):  # needs no Kafka to begin
                return {"lag": 0, "due": 1}
            raise
        return {"lag": lag, "due": 0 if lag else int(any(self._due(runs)))}

    def _due(self, runs: bool) -> Iterator[bool]:
        """Yield whether there is something of each kind to do, lazily: the first that is answers the question."""
        stops = self._switch.active()
        if ALL not in stops and not self._draining.note() and self._room() > 0:
            yield bool(self._queue.requested(stops, None, 1))
            yield bool(self._queue.released(stops, 1))
            yield any(self._resumes(m) for m in self._queue.resumable(stops, _PAGE))
        yield self._outbox.due(now() - self._unanswered)
        yield runs and any(self._begun(stops))

    def _old(self, merge: Merge) -> bool:
        """Whether nothing changed in the merge's row for so long that it is worth a look at its run."""
        return merge.updated_at is None or now() - merge.updated_at > self._alive.shortest(merge)

    def _room(self) -> int:
        """Return how many more merges may have a run at the same time."""
        return self._settings.merges_under_way - self._queue.under_way((State.STARTED, State.RUNNING))

    # --- claiming ---------------------------------------------------------------------------------------------------
    def claim(self, limit: int = 1000, seconds: float = 120.0) -> dict[str, int]:
        """Write messages into the journal, batch by batch, each then committed, to the topic's end or until the time is up.

        No offset moves back.

        :param limit: messages of a batch; each is one transaction of the journal.
        :raises MergeError: the old job still consumes, or events were lost before they could be read.
        """
        topics, ends = self._topics, time.monotonic() + seconds
        topics.ensure_cutover()
        counts = {"claimed": 0, "repeated": 0, "refused": 0, "ignored": 0}
        lost, (starts, again) = self._offsets.lost(), self._offsets.starts()
        while True:
            messages = topics.read_new(limit, 10.0, starts)
            claimed = topics.positions()
            self._claim(messages, claimed, counts)
            self._offsets.commit(claimed, again)
            if not messages or self._offsets.lag() == 0 or time.monotonic() > ends:
                break
            starts, again = {partition: offset for (_, partition), offset in claimed.items()}, []
        if lost:
            raise MergeError(
                "EVENTS_LOST",
                f"{sum(lost.values())} messages of {self._settings.merge_topic} were deleted by retention before they were claimed "
                f"(partitions {', '.join(map(str, sorted(lost)))})",
                "Rescue the pairs from the user service's log (`rescue`); the poll goes on at the oldest message.",
            )
        return counts

    def _claim(self, messages: list[Message], claimed: Mapping[tuple[str, int], int], counts: dict[str, int]) -> None:
        read = [self._opened(message) for message in messages]
        with self._journal.transaction():
            new = self._journal.open_all([one for one in read if one is not None])
            self._offsets.claimed(claimed)
        for one in read:
            if one is None:
                counts["ignored"] += 1
            elif one.merge_id in new:
                new.discard(one.merge_id)
                counts["refused" if one.error else "claimed"] += 1
            else:
                counts["repeated"] += 1

    def _opened(self, message: Message) -> Opened | None:
        """Return the merge that a message asks for, or that it is refused as; None for an event of another action."""
        raw, position = message.value, message.position
        where = f"{message.topic}/{message.partition}/{message.offset}"
        try:
            event = parse(raw, self._settings)
        except InvalidEvent as error:
            # Corrected or valid later, it is dated by its own time, else by the message's.
            kept, doubt = kept_of(raw or b"")
            request = MergeRequest(
                (), "", origin=Origin.EVENT, raw=kept, dated=time_ms(message.timestamp_ms), doubt=doubt
            )
            return Opened(merge_id_for((), "", None, position), request, where, State.REFUSED, error)
        if event is None:
            return None
        request = request_of(event, raw or b"", self._settings, stamp_ms=message.timestamp_ms)
        return Opened(merge_id_for(event.sources, event.target, event.mid, position), request, where)

    # --- starting ---------------------------------------------------------------------------------------------------
    def next_runs(self, life: Life, limit: int = 1024, begin: bool = True) -> list[NextRun]:
        """Move the merges that can start to started, oldest first, and return a run for each; also the runs that are to end.

        :param life: see `Life`.
        :param begin: False: only merges whose run is orphaned.
        """
        stops = self._switch.active()
        orphaned = [one for one in self._orphaned(life, stops) if not self._given_back(one[0])]
        ready = [*orphaned, *((m, "") for m in self._startable(stops, min(limit, self._room()) if begin else 0))]
        chosen: list[NextRun] = []
        for merge, state in ready[:limit]:
            last = merge.run_ids[-1] if merge.run_ids else ""
            lost = last if state == LOST and not last.startswith(BULK_RUN) else ""  # that one has other merges as well
            if (run := self._begin(merge, lost)) is not None:
                chosen += [run, {**run, "trigger_run_id": lost, "reset_dag_run": True}] if lost else [run]
        self._queue.forget_unwanted()
        return chosen

    def _given_back(self, merge: Merge) -> bool:
        """Whether a merge is requested again because the bulk run that took it ended before it came to it: there may be hundreds."""
        last = merge.run_ids[-1] if merge.run_ids else ""
        if merge.state != State.STARTED or not last.startswith(BULK_RUN):
            return False
        note = f"run {last.removeprefix(BULK_RUN)} ended before it came to this merge"
        self._journal.move(merge, State.REQUESTED, note=note)
        return True

    def halted(self) -> bool:
        """Whether a switch stops all merges."""
        return ALL in self._switch.active()

    def take(self, run_id: str, at_most: int) -> None:
        """Move requested and waiting merges that can start to started for one run that does many, oldest first."""
        for merge in self._startable(self._switch.active(), at_most):
            if merge.state not in RESUMABLE:  # that one goes on in a run of its own
                runs = [*merge.run_ids, run_id]
                self._journal.change(merge, state=State.STARTED, attempt=merge.attempt + 1, run_ids=runs)

    def many_wait(self, most: int) -> bool:
        """Whether at least so many merges are requested that no switch stops."""
        stops = self._switch.active()
        halted = ALL in stops or bool(self._draining.note())
        return not halted and len(self._queue.requested(stops, None, most)) >= most

    def _startable(self, stops: Mapping[str, Stop], room: int) -> list[Merge]:
        """Return the merges that can start now, oldest first; those that another one blocks wait under its account.

        Of the merges that share an account only the oldest can start.

        :param stops: the switches that are on.
        :param room: merges, at most.
        """
        if ALL in stops or room <= 0 or self._draining.note():
            return []
        chosen, taken = list[Merge](), self._queue.starting()
        for page in self._pages(stops, room):
            held = self._queue.held(account for merge in page for account in merge.accounts)
            parked = []
            for merge in page:
                others = ((a, taken.get(a) or held.get(a)) for a in merge.accounts)
                blocked = next(((a, by) for a, by in others if by not in (None, merge.merge_id)), None)
                if blocked is None and len(chosen) < room:
                    chosen.append(merge)
                    taken |= dict.fromkeys(merge.accounts, merge.merge_id)
                elif blocked is not None and merge.state not in RESUMABLE:
                    parked.append(Parked(merge, *blocked))
            self._queue.park(parked)
            if len(chosen) >= room:
                break
        return chosen

    def _pages(self, stops: Collection[str], room: int) -> Iterator[list[Merge]]:
        """Yield merges that may be able to start, oldest first: what was held up before, with the first of those requested."""
        held_up = [*self._queue.released(stops, room + _PAGE), *self._queue.resumable(stops, room + _PAGE)]
        page = self._queue.requested(stops, None, _PAGE)
        yield sorted([*held_up, *page], key=lambda m: (m.created_at or now(), m.merge_id))
        while len(page) == _PAGE:
            page = self._queue.requested(stops, page[-1], _PAGE)
            yield page

    def _resumes(self, merge: Merge) -> bool:
        """Whether a failed or paused merge can go on. It cannot wait in a run of its own, so its accounts must be free."""
        return all(holder == merge.merge_id for holder in self._queue.held(merge.accounts).values())

    def _begun(self, stops: Mapping[str, Stop]) -> Iterator[Merge]:
        """Yield the merges that have a run, that no switch stops, and whose row nobody has changed for some time.

        An undo goes on whatever is stopped.
        """
        since = now() - self._alive.shortest_grace()
        yield from self._queue.untouched(since, [State.UNDOING], (), _AT_ONCE)
        if ALL not in stops:
            forward = State.STARTED, State.RUNNING, State.REDOING
            yield from self._queue.untouched(since, forward, stops, _AT_ONCE)
            yield from self._queue.resuming(since, stops, _AT_ONCE)

    def _begin(self, merge: Merge, lost: str = "") -> NextRun | None:
        """Move a merge to its next run; None when another process was faster.

        :param lost: the run that showed no sign of life, which this one replaces.
        """
        number, action = merge.attempt + 1, TAKING_BACK.get(merge.state, "")
        run_id = f"{action or 'merge'}__{merge.merge_id}__{number}"
        again = merge.state in RESUMABLE  # only `admit` moves these on
        state = merge.state if again or merge.state in UNDER_WAY else State.STARTED
        columns: dict[str, Any] = {"resume": "started"} if again else {}
        if lost:
            columns["note"] = f"run {lost} showed no sign of life: it is ended, run {run_id} goes on"
        if not self._journal.change(merge, state=state, attempt=number, run_ids=[*merge.run_ids, run_id], **columns):
            return None
        merge_id = {"merge_id": str(merge.merge_id)}
        accounts = {"source_accounts": list(merge.request.sources), "target_account": merge.request.target}
        undo = {"action": action, "dry_run": False, "reason": f"goes on in place of run {lost}" if lost else ""}
        return {
            "merge_id": str(merge.merge_id), "trigger_run_id": run_id, "dag_id": UNDO_DAG if action else MERGE_DAG,
            "conf": merge_id | (undo if action else accounts),
        }  # fmt: skip

    def start(self, merge: Merge) -> NextRun | None:
        """Move one requested merge to started, as `next_runs` does, and return its run; None leaves it to the poll.

        A run that is then not triggered is one that `next_runs` finds orphaned: nothing is lost between the two.
        """
        if merge.state != State.REQUESTED or self._switch.stop_for(merge) or self._draining.note():
            return None
        others = (m for account in merge.accounts for m in self._journal.find("accounts", account))
        apart = CLOSED | {State.PROPOSED}
        return (
            None if any(m.merge_id != merge.merge_id and m.state not in apart for m in others) else self._begin(merge)
        )

    def _orphaned(self, life: Life, stops: Mapping[str, Stop]) -> Iterator[tuple[Merge, str | None]]:
        """Yield the merges under way that nobody works on any more, with the state of their newest run in Airflow."""
        for merge in filter(self._old, self._begun(stops)):
            state = life(merge.run_ids[-1]) if merge.run_ids else None
            if self._alive.stalled(merge, state):
                yield merge, state
