"""The DAGs whose runs the pages and the API start or show."""

from __future__ import annotations

import re
from dataclasses import dataclass

from account_merge.states import BULK_DAG, MERGE_DAG, UNDO_DAG

APPROVE_DAG, REPLAY_DAG, RESCUE_DAG = "account_merge_approve", "account_merge_replay", "account_merge_rescue"
SWITCH_DAG = "account_merge_switch"


@dataclass(frozen=True)
class OurDag:
    """A DAG of the product.

    :param started_by: pattern of paths below the app; a changing request to one of them starts a run of this DAG.
    :param buttons: the buttons on a merge's page that start a run of it.
    """

    id: str
    started_by: re.Pattern[str] | None = None
    buttons: tuple[str, ...] = ()


OUR_DAGS = (
    OurDag(MERGE_DAG),
    OurDag(APPROVE_DAG, re.compile(r"/merges/[^/]+/propose|/proposals")),
    OurDag(BULK_DAG),
    OurDag("account_merge_poll"),
    OurDag(REPLAY_DAG, re.compile(r"/merges/[^/]+/retry|/failed/replay"), ("retry",)),
    OurDag(RESCUE_DAG, re.compile(r"/uploads")),
    OurDag("account_merge_settle"),
    OurDag(SWITCH_DAG, re.compile(r"/switches")),
    OurDag(UNDO_DAG, re.compile(r"/merges/[^/]+/(undo|redo|repair|abandon)"), ("undo", "redo", "repair", "abandon")),
)
DAG_IDS = tuple(dag.id for dag in OUR_DAGS)
#: Button -> the DAG that does it: who may start runs of it may press the button.
DAG_OF_BUTTON = {button: dag.id for dag in OUR_DAGS for button in dag.buttons}


def started_by(path: str) -> str:
    """Return the DAG that a changing request to this path (below the app) starts; it is the merge's unless a row names it."""
    return next((dag.id for dag in OUR_DAGS if dag.started_by and dag.started_by.search(path)), MERGE_DAG)
