"""Parts that the pages share: routers of HTML, and the buttons of a merge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from account_merge_airflow.web.dags import DAG_OF_BUTTON
from account_merge_airflow.web.service import Route


def router() -> APIRouter:
    """Return a router of pages."""
    return APIRouter(route_class=Route, include_in_schema=False, default_response_class=HTMLResponse)


@dataclass(frozen=True)
class Action:
    """A button on a merge, and the words of its dialog.

    :param does: sentences that say what will happen; `leaves`: what will not.
    """

    name: str
    title: str
    does: tuple[str, ...]
    leaves: tuple[str, ...] = ()
    danger: bool = False


ACTIONS = (
    Action("retry", "Retry",
           ("The merge goes on where it stopped; what was written already is not written twice.",
            "Sync events go out when it is done."),
           ("A retry does not remove the cause: look at the error first.",)),
    Action("undo", "Undo",
           ("Every row of the target becomes what it would be without this merge.",
            "The merge holds its accounts until the undo is done; then the target's sync events go out again."),
           ("It does not give the login back: the platform switched the source account off by itself.",
            "Values that were written after the merge stay, and the page lists them.",
            "Nothing is lost: an undone merge can be done again (redo)."), danger=True),
    Action("redo", "Redo",
           ("The undone merge stands again: its rows are written to the target once more.",
            "The target's sync events go out again."),
           ("Nothing is counted twice.",)),
    Action("repair", "Repair",
           ("A merge of the same accounts is opened, which moves only what is new since this one.",
            "The poll starts it within a minute or so."),
           ("What this merge moved is not moved again.",)),
    Action("abandon", "Abandon",
           ("The merge is given up: its accounts are free for other merges.",),
           ("Rows that it has written stay, and stay counted; nothing is restored.",
            "To take them back, undo it instead."), danger=True),
)  # fmt: skip


@dataclass(frozen=True)
class Button:
    """An action as the page offers it: pressable, or with the reason why not."""

    action: Action
    why_not: str = ""


def buttons(possible: Callable[[str], str], may_start: Callable[[str], bool]) -> list[Button]:
    """Return the buttons of one merge.

    :param possible: action -> why it is not possible now; empty when it is.
    """
    may = {dag: may_start(dag) for dag in set(DAG_OF_BUTTON.values())}
    found = []
    for action in ACTIONS:
        why_not, dag = possible(action.name), DAG_OF_BUTTON[action.name]
        if not why_not and not may[dag]:
            why_not = f"You may not start runs of the DAG {dag}: ask Airflow's administrator."
        found.append(Button(action, why_not))
    return found
