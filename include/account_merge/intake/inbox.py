"""From the merge topic to merges that can start: claim into the journal, commit, choose the next runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, TypedDict

from account_merge.errors import InvalidEvent, MergeError
from account_merge.journal import Journal, now
from account_merge.lifecycle.liveness import TAKING_BACK, UNDER_WAY, Life, Liveness
from account_merge.lifecycle.pause_switch import ALL, PauseSwitch, Stop
from account_merge.lifecycle.requests import request_of, time_ms
from account_merge.model import Merge, MergeRequest
from account_merge.settings import Settings
from account_merge.states import CLOSED, LOST, MERGE_DAG, RESUMABLE, UNDO_DAG, Origin, State
from account_merge.sunbird.events import Message, merge_id_for, parse
from account_merge.sunbird.kafka import Topics


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
        self._switch, self._alive = PauseSwitch(journal), Liveness(journal, settings)

    def has_work(self) -> dict[str, int]:
        """Count the messages past the committed offset; without any, say whether a merge or a failed event is due. Consume nothing."""
        lag = self._topics.lag()
        return {"lag": lag, "due": 0 if lag else int(any(True for _ in self._due()))}

    def _due(self) -> Iterator[Merge]:
        """Yield the merges that the poll has something to do for, lazily: the first one answers the question."""
        find = self._journal.find
        stops = self._switch.active()
        yield from self._startable(stops)
        yield from find("failed_event", "due")
        yield from (m for m in find("failed_event", "sending") if self._old(m))
        yield from (m for m in self._begun(stops) if self._old(m))

    def _old(self, merge: Merge) -> bool:
        """Whether nothing changed in the merge's row for so long that it is worth a look at its run."""
        return merge.updated_at is None or now() - merge.updated_at > self._alive.shortest(merge)

    def claim(self, limit: int = 1000) -> dict[str, int]:
        """Write each message into the journal, then commit. No offset moves back.

        :raises MergeError: the old job still consumes, or events were lost before they could be read.
        """
        topics = self._topics
        topics.ensure_cutover()
        counts = {"claimed": 0, "repeated": 0, "refused": 0, "ignored": 0}
        lost = topics.lost()
        for message in topics.read_new(limit, timeout=10.0):
            counts[self._claim(message)] += 1
        topics.commit(topics.positions())
        if lost:
            number = sum(low - committed for _, committed, low in lost)
            raise MergeError(
                "EVENTS_LOST",
                f"{number} messages of {self._settings.merge_topic} were deleted by retention before they were claimed "
                f"(partitions {', '.join(str(p) for p, _, _ in lost)})",
                "Rescue the pairs from the user service's log (`rescue`); the poll goes on at the oldest message.",
            )
        return counts

    def _claim(self, message: Message) -> str:
        raw, position = message.value, message.position
        where = f"{message.topic}/{message.partition}/{message.offset}"
        try:
            event = parse(raw, self._settings)
        except InvalidEvent as error:
            # Corrected or valid later, it is dated by its own time, else by the message's.
            request = MergeRequest((), "", origin=Origin.EVENT, raw=raw or b"", dated=time_ms(message.timestamp_ms))
            opened = self._journal.open(merge_id_for((), "", None, position), request, where, State.REFUSED, error)
            return "refused" if opened else "repeated"
        if event is None:
            return "ignored"
        request = request_of(event, raw or b"", self._settings, stamp_ms=message.timestamp_ms)
        merge_id = merge_id_for(event.sources, event.target, event.mid, position)
        return "claimed" if self._journal.open(merge_id, request, where) else "repeated"

    def _startable(self, stops: Mapping[str, Stop]) -> list[Merge]:
        """Return the merges that can start now, oldest first. Of those that share an account only the oldest one can.

        A requested merge that an older open merge blocks is started all the same: its run says which merge it waits for.

        :param stops: the switches that are on.
        """
        if ALL in stops:
            return []
        under_way = [m for state in (State.STARTED, State.RUNNING) for m in self._journal.find("state", state)]
        busy = {account for merge in under_way for account in merge.accounts}
        waiting = [m for m in self._journal.find("state", State.WAITING, but=stops) if self._free(m)]
        resumed = [m for m in self._journal.find("resume", "wanted", but=stops) if self._resumes(m)]
        again = [m for m in [*waiting, *resumed] if not busy & set(m.accounts)]
        ready = [*self._journal.find("state", State.REQUESTED, but=stops), *again]
        # Until `admit` has the accounts of a resumed merge, nobody may overtake it.
        resuming = [m for m in self._journal.find("resume", "started") if m.state in RESUMABLE]
        taken = {account for merge in resuming for account in merge.accounts}
        chosen = []
        for merge in sorted(ready, key=lambda m: (m.created_at or now(), str(m.merge_id))):
            if any(self._journal.holder(account) for account in merge.accounts):
                chosen.append(merge)
            elif not taken & set(merge.accounts):
                taken |= set(merge.accounts)
                chosen.append(merge)
        return chosen

    def _free(self, merge: Merge) -> bool:
        holder = self._journal.holder(merge.waiting_for) if merge.waiting_for else None
        return holder is None or holder.merge_id == merge.merge_id or holder.state in CLOSED

    def _resumes(self, merge: Merge) -> bool:
        """Whether a failed or paused merge can go on. It cannot wait in a run of its own, so its accounts must be free."""
        holders = (self._journal.holder(account) for account in merge.accounts)
        return merge.state in RESUMABLE and all(h is None or h.merge_id == merge.merge_id for h in holders)

    def _begun(self, stops: Mapping[str, Stop]) -> list[Merge]:
        """Return the merges that have a run and that no switch stops; an undo goes on whatever is stopped."""
        find, under_way = self._journal.find, [m for m in self._journal.find("state", State.UNDOING)]
        if ALL in stops:
            return under_way
        searches = (("state", State.STARTED), ("state", State.RUNNING), ("state", State.REDOING), ("resume", "started"))
        found = [m for search in searches for m in find(*search, but=stops)]
        return [m for m in found if m.resume is None or m.state in RESUMABLE] + under_way

    def next_runs(self, life: Life, limit: int = 1024) -> list[NextRun]:
        """Move the merges that can start to started, oldest first, and return a run for each; also the runs that are to end.

        :param life: see `Life`.
        """
        stops = self._switch.active()
        ready = [*self._orphaned(life, stops), *((merge, "") for merge in self._startable(stops))]
        chosen: list[NextRun] = []
        for merge, state in ready[:limit]:
            lost = merge.run_ids[-1] if state == LOST else ""
            if (run := self._begin(merge, lost)) is not None:
                chosen += [run, {**run, "trigger_run_id": lost, "reset_dag_run": True}] if lost else [run]
        return chosen

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
        if merge.state != State.REQUESTED or self._switch.stop_for(merge):
            return None
        sharing = {m.merge_id: m for account in merge.accounts for m in self._journal.find("accounts", account)}
        others = (
            m for m in sharing.values() if m.merge_id != merge.merge_id and m.state not in CLOSED | {State.PROPOSED}
        )
        return None if any(others) else self._begin(merge)

    def _orphaned(self, life: Life, stops: Mapping[str, Stop]) -> Iterator[tuple[Merge, str | None]]:
        """Yield the merges under way that nobody works on any more, with the state of their newest run in Airflow."""
        for merge in (m for m in self._begun(stops) if self._old(m)):
            state = life(merge.run_ids[-1]) if merge.run_ids else None
            if self._alive.stalled(merge, state):
                yield merge, state
