"""The words that the journal stores for states, origins and entries, and the life of a merge: which state may follow which.

Each transition is one conditional statement in the journal.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """State of a merge, by the word that the journal stores."""

    PROPOSED = "proposed"
    REFUSED = "refused"
    REQUESTED = "requested"
    STARTED = "started"
    WAITING = "waiting"
    RUNNING = "running"
    FAILED = "failed"
    PAUSED = "paused"
    NEEDS_ATTENTION = "needs_attention"
    COMPLETED = "completed"
    ABANDONED = "abandoned"
    UNDOING = "undoing"
    UNDONE = "undone"
    REDOING = "redoing"
    REJECTED = "rejected"
    EXPIRED = "expired"
    ERASED = "erased"
    PREVIEW = "preview"  # never stored: a merge that is only planned


class Origin(StrEnum):
    """The way by which a merge came in, by the word that the journal stores."""

    EVENT = "event"
    UI = "ui"
    API = "api"
    CLI = "cli"
    REPAIR = "repair"  # its parent names it
    SETTLE = "settle"  # its parent names it
    REMAINS = "remains"  # the part of its parent that stayed where the parent's undo was given up
    RESCUE = "rescue"


class EntryKind(StrEnum):
    """Kind of an entry of a log, by the word that the journal stores."""

    CHANGES = "changes"
    FOLD = "fold"  # a newer write of the platform was folded in
    END = "end"  # the table is done
    #: Nobody may append any more: the merge is being undone or was abandoned. Its changes stand instead of those of the
    #: entry before it: rows that were not written as that says.
    CLOSED = "closed"
    SKIP = "skip"  # the scopes that stay as they are
    PLAN = "plan"  # digests of a proposed merge


#: Only a merge that was never admitted may return to `proposed`: its rows changed since a person approved it.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.PROPOSED: frozenset({State.REQUESTED, State.REJECTED, State.EXPIRED}),
    State.REFUSED: frozenset({State.REQUESTED, State.ERASED}),
    State.REQUESTED: frozenset({State.STARTED, State.WAITING, State.ABANDONED, State.REFUSED}),
    State.STARTED: frozenset(
        {State.RUNNING, State.WAITING, State.FAILED, State.REQUESTED, State.REFUSED, State.ABANDONED, State.PROPOSED}
    ),
    State.WAITING: frozenset({State.STARTED, State.ABANDONED}),
    State.RUNNING: frozenset({State.COMPLETED, State.FAILED, State.PAUSED, State.NEEDS_ATTENTION}),
    State.FAILED: frozenset({State.RUNNING, State.UNDOING, State.ABANDONED, State.PROPOSED}),
    State.PAUSED: frozenset({State.RUNNING, State.UNDOING, State.ABANDONED}),
    State.NEEDS_ATTENTION: frozenset({State.RUNNING, State.UNDOING, State.ABANDONED}),
    State.COMPLETED: frozenset({State.UNDOING, State.ERASED}),
    State.ABANDONED: frozenset({State.UNDOING, State.ERASED}),
    State.UNDOING: frozenset({State.UNDONE}),
    State.UNDONE: frozenset({State.REDOING, State.ERASED}),
    State.REDOING: frozenset({State.COMPLETED, State.UNDONE}),
    State.REJECTED: frozenset({State.ERASED}),
    State.EXPIRED: frozenset({State.ERASED}),
    State.ERASED: frozenset(),
}
#: The words of all states, as a person types them.
STATES: tuple[str, ...] = tuple(state.value for state in TRANSITIONS)
#: A lease that names a merge in one of these is free to take.
CLOSED = frozenset(
    {State.COMPLETED, State.UNDONE, State.ABANDONED, State.REJECTED, State.EXPIRED, State.REFUSED, State.ERASED}
)
#: States in which the merge may hold leases.
HOLDING = frozenset(
    {State.STARTED, State.RUNNING, State.FAILED, State.PAUSED, State.NEEDS_ATTENTION, State.UNDOING, State.REDOING}
)
#: Stopped half-way, with all accounts held: `admit` moves such a merge on to running.
RESUMABLE = frozenset({State.FAILED, State.PAUSED, State.NEEDS_ATTENTION})


def allowed(before: State, after: State) -> bool:
    """Whether a merge may go from one state to the other."""
    return after in TRANSITIONS[before]


#: Action -> the state during it, the state after it, and the states in which it may begin.
ACTIONS = {
    "undo": (State.UNDOING, State.UNDONE, frozenset({State.COMPLETED, State.ABANDONED}) | RESUMABLE),
    "redo": (State.REDOING, State.COMPLETED, frozenset({State.UNDONE})),
}
#: Action of one step -> the states in which it may begin, and the remedy in the others.
AT_ONCE = {
    "abandon": (
        frozenset({State.REQUESTED, State.STARTED, State.WAITING, State.RUNNING, State.UNDOING, State.REDOING})
        | RESUMABLE,
        "One that is completed can be undone; one that is proposed can be rejected.",
    ),
    "repair": (frozenset({State.COMPLETED}), "Only a completed merge can be repaired; a failed one is replayed."),
}
#: A failed event in one of these states is not published yet.
OWED = ("due", "sending")
#: The DAGs whose runs do merges, and take them back.
MERGE_DAG, UNDO_DAG = "account_merge", "account_merge_undo"
#: The DAG whose runs do many merges each, and how the id of such a run begins in a merge's row: its end tells of no merge.
BULK_DAG, BULK_RUN = "account_merge_bulk", "bulk__"
#: Airflow says that the run is running, and no task of it runs or is about to: its task was lost in the queue.
LOST = "lost"
#: How the run id of a merge that the command line does begins.
BY_COMMAND = "cli__"
