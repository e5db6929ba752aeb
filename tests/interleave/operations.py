"""What people, runs and the clock do with accounts: each operation with what has to stand before it.

An operation is what its DAG or command does, without the sync events: `tests/crash` has these.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from account_merge.errors import MergeError, TransientError
from account_merge.journal import now
from account_merge.states import CLOSED, State
from tests.interleave.scene import CC, Scene, run

#: An operation that ended so is done again once the other one has ended: its remedy says that, and it changed nothing.
AGAIN = {
    "ACCOUNT_HELD": "wait until the merge that holds the account is done, then try again",
    "STILL_OPEN": "finish the open merge, then erase again",
    "NOT_RUNNING": "the merge was moved on by the other one: its cleared task finds what there is to do now",
    "LEASE_LOST": "clear the task `admit`",
    **dict.fromkeys(
        ("CANNOT_UNDO", "CANNOT_REDO", "CANNOT_ABANDON", "CANNOT_REPAIR"), "it can be done in other states"
    ),
}


@dataclass(frozen=True)
class Operation:
    """One operation on a link's accounts.

    :param do: does it, or goes on with it.
    :param stands: the state of the link's merge before it, see `scene.BEFORE`.
    :param late: the source gets views after its merge.
    :param daily: it is done every day, or every five minutes: what it did not find or get yet, the next run does.
    """

    do: Callable[[Scene, str], Any]
    stands: str = "completed"
    late: bool = False
    daily: bool = False


def told(operation: Operation, scene: Scene, link: str) -> dict[str, Any]:
    """Do an operation; return what it was refused with, whether to do it again, and what it saw.

    An error that is none of ours is a fault, whatever it says.
    """
    try:
        return {"code": "", "saw": operation.do(scene, link)}
    except TransientError as error:
        return {"code": error.code, "again": True}
    except MergeError as error:
        return {"code": error.code, "again": error.code in AGAIN}
    except Exception as error:  # noqa: BLE001 - told to the one who asked, who fails
        return {"code": "", "fault": f"{type(error).__name__}: {error}"[:500]}


def merge(scene: Scene, link: str) -> None:
    """A merge, from the request on."""
    scene.service.opening.open_merge(scene.request(link), scene.merge_id(link))
    run(scene, scene.merge_id(link))


def repeat(scene: Scene, link: str) -> None:
    """All tasks of an old merge are cleared."""
    merge_id = scene.merge_id(link)
    scene.service.admission.admit(merge_id)
    scene.service.merging.merge_table(merge_id, CC)
    scene.service.merging.publish_sync(merge_id, publish=False)


def again(scene: Scene, link: str) -> None:
    """The same accounts are asked for by another event: a merge of its own."""
    scene.service.opening.open_merge(scene.request(link), scene.merge_id(link, "again "))
    run(scene, scene.merge_id(link, "again "))


def repair(scene: Scene, link: str) -> None:
    """A person asks for what came since; the poll starts it."""
    answer = scene.service.repairing.repair(scene.merge_id(link), "operator", "")
    child = uuid.UUID(answer["merge_id"])
    if scene.service.journal.need(child).state not in CLOSED:
        run(scene, child)


def settle(scene: Scene, link: str) -> None:
    """The clock has come for this merge, if it has, whatever else is due."""
    parent = scene.service.journal.need(scene.merge_id(link))
    due = [parent] if parent.state == State.COMPLETED and parent.settle_at and parent.settle_at <= now() else []
    scene.service.settling.due = lambda: iter(due)  # type: ignore[method-assign]
    scene.service.settling.run()


def undo(scene: Scene, link: str) -> None:
    """The merge is taken back."""
    scene.service.undoing.run(scene.merge_id(link), "undo", publish=False)


def redo(scene: Scene, link: str) -> None:
    """The merge stands again."""
    scene.service.undoing.run(scene.merge_id(link), "redo", publish=False)


def abandon(scene: Scene, link: str) -> None:
    """The merge is given up as it is."""
    scene.service.undoing.abandon(scene.merge_id(link), "not wanted")


def expire(scene: Scene, link: str) -> None:
    """The retention of this merge is over, whatever else is due; the undo window just was not."""
    retention, due = scene.service.retention, [scene.service.journal.need(scene.merge_id(link))]
    retention._days, retention._due = 0.0, lambda: (one for one in due if retention._may(one))  # type: ignore[method-assign]
    if retention.run()["held"]:
        raise TransientError("HELD", "an open merge has one of the accounts", "The next run finds it due again.")


def erase(scene: Scene, link: str) -> None:
    """The person who has the source account is erased."""
    scene.service.erasure.erase(scene.account(link[0]), "officer", "asked for", dry_run=False)


def pause(scene: Scene, link: str) -> int:
    """The kill switch of all these merges; returns how many entries there are once it is on."""
    scene.service.switch.pause(scene.label, "operator", "look")
    return scene.entries()


def approve(scene: Scene, link: str) -> None:
    """A second person approves a merge, and the poll starts it."""
    merge_id = scene.merge_id(link)
    scene.service.proposals.approve(merge_id, "another")
    if scene.service.journal.need(merge_id).state not in CLOSED:
        run(scene, merge_id)


OPERATIONS = {
    "merge": Operation(merge, "requested"),
    "again": Operation(again),
    "repeat": Operation(repeat),
    "repair": Operation(repair, late=True),
    "settle": Operation(settle, late=True, daily=True),
    "undo": Operation(undo),
    "redo": Operation(redo, "undone"),
    "abandon": Operation(abandon, "failed"),
    "expire": Operation(expire, daily=True),
    "erase": Operation(erase),
    "pause": Operation(pause),
    "approve": Operation(approve, "proposed"),
}
