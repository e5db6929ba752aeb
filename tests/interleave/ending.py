"""What two operations came to: brought to its end, told without names, and compared with what one after the other gives."""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from account_merge.errors import MergeError
from account_merge.journal.identity import ERASED
from account_merge.model import Merge
from account_merge.states import CLOSED, State
from tests.interleave.operations import OPERATIONS, told
from tests.interleave.scene import LATE, UNITS, Scene, run
from tests.journal_sql import sql

#: The poll goes on with a merge in one of these by itself.
GOES_ON = {State.REQUESTED, State.STARTED, State.WAITING, State.RUNNING}
#: A process that was held between two looks at the clocks says that they differ; a person has its merge done again.
PASSES = ("CLOCK_SKEW",)
#: Such an answer is never an operation's last.
ENDLESS = ("BUSY", "JOURNAL_UNAVAILABLE", "JOURNAL_REFUSED")
_ROUNDS = 10


class Ending:
    """The end of two operations on one label's accounts.

    :param asked: the operations: (name, link).
    :param answers: what each of them answered.
    """

    def __init__(self, scene: Scene, asked: Sequence[tuple[str, str]], answers: Sequence[dict[str, Any]]) -> None:
        self._scene, self._journal = scene, scene.service.journal
        self._asked, self._answers = asked, list(answers)
        self._links = dict.fromkeys(link for _, link in asked)
        self._letters = sorted(set("".join(self._links)))

    # --- what is left -----------------------------------------------------------------------------------------------
    def reach(self) -> None:
        """Let merging go on, start what waits, and do again what was refused for the other's sake, until nothing moves."""
        self._scene.service.switch.resume(self._scene.label, "operator")
        for _ in range(_ROUNDS):
            before = self._standing()
            for merge in self.merges().values():
                self._go_on(merge)
            published = "UPDATE merges SET failed_event = 'sent' WHERE tenant = :label AND failed_event = 'due'"
            sql(self._scene.service, published, label=self._scene.label)  # as the poll does
            for number, (name, link) in enumerate(self._asked):
                if self._answers[number].get("again") or OPERATIONS[name].daily:
                    self._answers[number] = told(OPERATIONS[name], self._scene, link)
                    self._scene.service.switch.resume(self._scene.label, "operator")
            if self._standing() == before:
                return
        raise AssertionError(f"{self._scene.label} never comes to rest: {before}")

    def _standing(self) -> list[Any]:
        merges = ((name, m.state, m.operation, m.expiry) for name, m in self.merges().items())
        return [*merges, *(answer["code"] for answer in self._answers)]

    def _go_on(self, merge: Merge) -> None:
        actions = {State.UNDOING: "undo", State.REDOING: "redo"}
        try:
            if merge.state in actions:
                self._scene.service.undoing.run(merge.merge_id, actions[merge.state], publish=False)
            elif merge.state in GOES_ON or merge.resume == "wanted" or _passed(merge):
                run(self._scene, merge.merge_id)
        except MergeError as error:
            print(f"{self._scene.label}: {merge.merge_id} cannot go on: {error}", file=sys.stderr)

    # --- what it is ---------------------------------------------------------------------------------------------------
    def merges(self) -> dict[str, Merge]:
        """Every merge of these accounts by a name: `ab`, `again ab`, `ab/repair-1`."""
        ids = {f"{name}{link}": self._scene.merge_id(link, name) for link in self._links for name in ("", "again ")}
        todo = [(name, merge) for name, i in ids.items() if (merge := self._journal.get(i))]
        found: dict[str, Merge] = {}
        while todo:
            name, parent = todo.pop()
            numbers: Counter[str] = Counter()
            for child in self._journal.find("parent", parent.merge_id):
                numbers[child.request.origin] += 1
                todo.append((f"{name}/{child.request.origin}-{numbers[child.request.origin]}", child))
            found[name] = parent
        return dict(sorted(found.items()))

    def told(self) -> dict[str, Any]:
        """The end in JSON: views, merges, where each account lives, who holds it, and what was refused."""
        merges = self.merges()
        names = {merge.merge_id: name for name, merge in merges.items()}
        return {
            "views": {letter: self._scene.views(letter) for letter in self._letters},
            "merges": {name: self._merge(merge) for name, merge in merges.items()},
            "lives": {letter: self._lives(letter) for letter in self._letters},
            "held": {letter: self._holder(letter, names) for letter in self._letters},
            "codes": [answer["code"] for answer in self._answers],
        }

    def _merge(self, merge: Merge) -> list[str]:
        survivor = self._letter(merge.survivor or "")
        return [merge.state, merge.effective_state, survivor, merge.operation or "", merge.expiry or ""]

    def _lives(self, letter: str) -> str:
        names = [self._scene.account(one) for one in self._letters]
        try:
            return self._letter(self._journal.survivor(self._scene.account(letter), names))
        except MergeError as error:
            return error.code

    def _holder(self, letter: str, names: Mapping[uuid.UUID, str]) -> str:
        holder = self._journal.holder(self._scene.account(letter))
        return names.get(holder.merge_id, "another merge") if holder and holder.state not in CLOSED else ""

    def _letter(self, account: str) -> str:
        hashes = {self._journal.erased_id(self._scene.account(one)): one for one in self._letters}
        return hashes.get(account, "?") if account.startswith(ERASED) else account.partition("-")[0]

    def faults(self) -> list[str]:
        """What holds after every order: an operation ends as one of ours does, and repeated, it comes to an end."""
        found = [answer["fault"] for answer in self._answers if "fault" in answer]
        return found + [f"{answer['code']} for ever" for answer in self._answers if answer["code"] in ENDLESS]


def _passed(merge: Merge) -> bool:
    return merge.state == State.FAILED and merge.error_code in PASSES


def unit_faults(end: Mapping[str, Any], redone: bool) -> Iterator[str]:
    """Each unit is counted once over the accounts that live for themselves; a late one that no repair moved, at most once.

    :param redone: one of the operations is a redo. It brings what its merge brought: what reached the source since is late.
    """
    alone = [letter for letter, lives in end["lives"].items() if letter == lives]
    for what, units, least in (("unit", UNITS, 0 if redone else 1), ("late unit", LATE, 0)):
        for letter, unit in units.items():
            counted = sum(end["views"][one] // unit % 10 for one in alone)
            if letter in end["lives"] and not least <= counted <= 1:
                yield f"the {what} of {letter} is counted {counted} times: {end['views']} of {alone}"
