"""The life of a merge: which state may follow which. Each transition is one conditional write in the journal."""

from __future__ import annotations

#: Only a merge that was never admitted may return to `proposed`: its rows changed since a person approved it.
TRANSITIONS: dict[str, frozenset[str]] = {
    "proposed": frozenset({"requested", "rejected", "expired"}),
    "refused": frozenset({"requested", "erased"}),
    "requested": frozenset({"started", "abandoned", "refused"}),
    "started": frozenset({"running", "waiting", "failed", "requested", "refused", "abandoned", "proposed"}),
    "waiting": frozenset({"started", "abandoned"}),
    "running": frozenset({"completed", "failed", "paused", "needs_attention"}),
    "failed": frozenset({"running", "undoing", "abandoned", "proposed"}),
    "paused": frozenset({"running", "undoing", "abandoned"}),
    "needs_attention": frozenset({"running", "undoing", "abandoned"}),
    "completed": frozenset({"undoing", "erased"}),
    "abandoned": frozenset({"undoing", "erased"}),
    "undoing": frozenset({"undone"}),
    "undone": frozenset({"redoing", "erased"}),
    "redoing": frozenset({"completed", "undone"}),
    "rejected": frozenset({"erased"}),
    "expired": frozenset({"erased"}),
    "erased": frozenset(),
}
STATES = tuple(TRANSITIONS)
#: A lease that names a merge in one of these is free to take.
CLOSED = frozenset({"completed", "undone", "abandoned", "rejected", "expired", "refused", "erased"})
#: States in which the merge may hold leases.
HOLDING = frozenset({"started", "running", "failed", "paused", "needs_attention", "undoing", "redoing"})
#: Begun and stopped half-way, with all accounts kept: `admit` moves it on to running.
RESUMABLE = frozenset({"failed", "paused", "needs_attention"})


def allowed(before: str, after: str) -> bool:
    """Whether a merge may go from one state to the other."""
    return after in TRANSITIONS[before]


#: What each action goes through and ends in, and from which states it may begin.
ACTIONS = {
    "undo": ("undoing", "undone", frozenset({"completed", "abandoned"}) | RESUMABLE),
    "redo": ("redoing", "completed", frozenset({"undone"})),
}
#: From which states the actions of one step may begin, and what else helps.
AT_ONCE = {
    "abandon": (
        frozenset({"requested", "started", "waiting", "running", "undoing", "redoing"}) | RESUMABLE,
        "One that is completed can be undone; one that is proposed can be rejected.",
    ),
    "repair": (frozenset({"completed"}), "Only a completed merge can be repaired; a failed one is replayed."),
}
#: The DAGs whose runs do merges, and take them back.
MERGE_DAG, UNDO_DAG = "account_merge", "account_merge_undo"
#: Airflow says that the run is running, and no task of it runs or is about to: its task was lost in the queue.
LOST = "lost"
#: How the run id of a merge that the command line does begins.
BY_COMMAND = "cli__"
