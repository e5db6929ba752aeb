"""Who changes merges in this process just now: the history of a merge's states names them."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """A person, or the task of a run that works by itself.

    :param name: the person; empty for a task that nobody triggered.
    """

    name: str = ""
    run_id: str = ""
    task_id: str = ""


_NOBODY = Actor()
_ACTOR: ContextVar[Actor] = ContextVar("actor", default=_NOBODY)


def act_as(actor: Actor) -> None:
    """Let the history name this actor for all that follows in this context (`contextvars`)."""
    _ACTOR.set(actor)


def actor() -> Actor:
    """Return who acts now."""
    return _ACTOR.get()
