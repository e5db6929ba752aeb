"""A merge's life: closed over its states, every open state has a way out, a closed one never writes again."""

from __future__ import annotations

import pytest

from account_merge.states import CLOSED, HOLDING, STATES, TRANSITIONS, allowed

START = {"proposed", "requested", "refused"}
#: from each state, what may follow, in the words of the design: an independent copy
WANTED = """
proposed requested rejected expired
refused requested erased
requested started waiting abandoned refused
started running waiting failed requested refused abandoned proposed
waiting started abandoned
running completed failed paused needs_attention
failed running undoing abandoned proposed
paused running undoing abandoned
needs_attention running undoing abandoned
completed undoing erased
abandoned undoing erased
undoing undone
undone redoing erased
redoing completed undone
rejected erased
expired erased
erased
"""


def reachable(first: set[str]) -> set[str]:
    found, todo = set(first), list(first)
    while todo:
        for state in TRANSITIONS[todo.pop()] - found:
            found.add(state)
            todo.append(state)
    return found


def test_the_table_is_the_designed_one() -> None:
    wanted = {line.split()[0]: set(line.split()[1:]) for line in WANTED.strip().splitlines()}
    assert {state: set(after) for state, after in TRANSITIONS.items()} == wanted


def test_transitions_are_closed_over_the_states() -> None:
    assert set().union(*TRANSITIONS.values()) <= set(STATES)
    assert set(STATES) >= CLOSED | HOLDING
    assert not any(state in TRANSITIONS[state] for state in STATES)


def test_a_merge_that_may_hold_accounts_is_never_closed() -> None:
    assert not CLOSED & HOLDING
    assert set(STATES) - CLOSED - HOLDING == {"proposed", "requested", "waiting"}


def test_every_state_is_reachable() -> None:
    assert reachable(START) == set(STATES)


@pytest.mark.parametrize("state", [s for s in STATES if s not in CLOSED])
def test_every_open_state_can_be_brought_to_an_end(state: str) -> None:
    assert reachable({state}) & CLOSED


@pytest.mark.parametrize("state", sorted(CLOSED - {"refused"}))
def test_a_closed_merge_never_runs_again(state: str) -> None:
    """Only undoing and redoing lead out of a closed state: a task of a finished merge has no way to write."""
    assert TRANSITIONS[state] <= {"undoing", "redoing", "erased"}
    assert not allowed(state, "running")


@pytest.mark.parametrize("state", sorted(CLOSED - {"erased"}))
def test_whatever_is_closed_can_be_erased(state: str) -> None:
    assert allowed(state, "erased")


@pytest.mark.parametrize("state", ["rejected", "expired", "erased"])
def test_the_last_states_lead_nowhere_but_to_erasure(state: str) -> None:
    assert reachable({state}) == {state, "erased"}


def test_only_admission_and_resuming_lead_to_running() -> None:
    assert {s for s in STATES if allowed(s, "running")} == {"started", "failed", "paused", "needs_attention"}
    assert {s for s in STATES if allowed(s, "started")} == {"requested", "waiting"}


def test_an_unknown_state_is_an_error_and_not_a_no() -> None:
    with pytest.raises(KeyError):
        allowed("finished", "running")
