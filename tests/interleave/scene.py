"""Accounts that meet: what each has, and the merges that stand between them before anything begins.

Each unit that a learner earned is a power of ten, so that a total of views says which units are in it, and how often.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from account_merge.errors import MergeError
from account_merge.journal import now
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.states import BY_COMMAND, State
from tests.crash.scenes import learners
from tests.journal_sql import empty as empty_journal
from tests.journal_sql import sql
from tests.learners import lesson, put, rows

CC = "user_content_consumption"
NAMES = uuid.UUID("3b5c8e0e-5f0e-4c62-9a26-0a6b1f3a2c55")
#: Views that each account has before the first merge; and those that reach it after its own merge, where a test wants such.
UNITS = {letter: 10**place for place, letter in enumerate("zabdc")}
LATE = {letter: 10**5 * unit for letter, unit in UNITS.items()}
#: The order in which merges of a chain were done: the source of an earlier one may be nobody's target later.
CHAIN = "zdabc"


@dataclass(frozen=True)
class Scene:
    """The accounts of one label."""

    service: Service
    label: str

    def account(self, letter: str) -> str:
        """The name of an account."""
        return f"{letter}-{self.label}"

    def merge_id(self, link: str, name: str = "") -> uuid.UUID:
        """The id of a link's merge (`ab`: a into b), or of another merge of the same accounts."""
        return uuid.uuid5(NAMES, f"{name}{link}/{self.label}")

    def request(self, link: str, **asked: str) -> MergeRequest:
        """What the merge of a link asks for."""
        source, target = map(self.account, link)
        return MergeRequest((source,), target, (CC,), tenant=self.label, **asked)  # type: ignore[arg-type]

    def put(self, letter: str, views: int) -> None:
        """The account's views, as the platform writes them."""
        put(
            learners(self.service),
            self.service.settings.courses_keyspace,
            CC,
            lesson(self.account(letter), viewcount=views),
        )

    def views(self, letter: str) -> int:
        """The account's views now."""
        found = rows(learners(self.service), self.service.settings.courses_keyspace, CC, self.account(letter))
        return sum(row.get("viewcount", 0) for row in found)

    def entries(self) -> int:
        """How many entries that merge there are: the switch stops no undo, and nobody who closes a log."""
        mine = "SELECT merge_id FROM merges WHERE tenant = :label"
        merging = "name NOT LIKE 'undo-%' AND kind <> 'closed'"
        counted = f"SELECT count(*) AS number FROM log WHERE {merging} AND merge_id IN ({mine})"
        return int(sql(self.service, counted, label=self.label)[0].number)


def prepare(scene: Scene, standing: Mapping[str, str], late: Iterable[str]) -> None:
    """Seeds the accounts and brings each link's merge to where it stands.

    :param standing: link -> state of its merge.
    :param late: links whose source gets views after the merge; its settle is due then.
    """
    for letter in sorted(set("".join(standing))):
        scene.put(letter, UNITS[letter])
    for link in sorted(standing, key=lambda one: (list(BEFORE).index(standing[one]), *map(CHAIN.index, one))):
        BEFORE[standing[link]](scene, link)
    for link in late:
        scene.put(link[0], scene.views(link[0]) + LATE[link[0]])
        due = "UPDATE merges SET settle_at = :at WHERE merge_id = :id AND state = 'completed'"
        sql(scene.service, due, at=now() - timedelta(seconds=1), id=scene.merge_id(link))


def run(scene: Scene, merge_id: uuid.UUID) -> None:
    """Do the tasks of a merge that have something to do, as its DAG does."""
    service = scene.service
    admitted = service.admission.admit(merge_id, f"{BY_COMMAND}{merge_id}")["proceed"]
    if admitted and service.merging.merge_table(merge_id, CC)["proceed"]:
        service.merging.publish_sync(merge_id, publish=False)


def _requested(scene: Scene, link: str) -> None:
    scene.service.opening.open_merge(scene.request(link), scene.merge_id(link))


def _completed(scene: Scene, link: str) -> None:
    _requested(scene, link)
    run(scene, scene.merge_id(link))


def _undone(scene: Scene, link: str) -> None:
    _completed(scene, link)
    scene.service.undoing.run(scene.merge_id(link), publish=False)


def _failed(scene: Scene, link: str) -> None:
    """It failed before it wrote anything, and its failed event is out; or it waits for another one that did."""
    _requested(scene, link)
    if not scene.service.admission.admit(scene.merge_id(link))["proceed"]:
        return
    failed = MergeError("RUN_FAILED", "the run failed")
    scene.service.failures.record(scene.service.journal.need(scene.merge_id(link)), failed, State.FAILED)
    sql(scene.service, "UPDATE merges SET failed_event = 'sent' WHERE merge_id = :id", id=scene.merge_id(link))


def _proposed(scene: Scene, link: str) -> None:
    scene.service.proposals.propose(scene.request(link, requested_by="one"), scene.merge_id(link))


#: State -> how a link's merge gets there. One that is undone left its source free for another; those that hold accounts come
#: when those that are closed are done, and a plan is made of what is there then.
BEFORE = {
    "undone": _undone,
    "completed": _completed,
    "failed": _failed,
    "proposed": _proposed,
    "requested": _requested,
}


def empty(service: Service) -> None:
    """Empties the tables that are used here, and the journal, which stays the same journal."""
    learners(service).execute(f"TRUNCATE {service.tables.schemas[CC].full_name}", timeout=60)
    empty_journal(service)
