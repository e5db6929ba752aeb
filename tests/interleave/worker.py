"""The process of one lane: holds one operation at a request while another runs to its end, and tells what it came to.

usage: worker.py   one line of JSON on standard input asks: [command, jobs, mutation]; a line of JSON answers each job,
and `null` says that these were all.

    held     jobs [label, first, second, at]: the first is held at its request `at`, the second runs, the first goes on
    serial   jobs [label, first, second, turned]: the first runs to its end, then the second; or turned

Operations are [name, link]. Two processes do them, one each; the mutation, if one is named, is applied to the code under
test in both before anything else. This process prepares, looks on, and brings what is left to its end.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from account_merge.service import Service
from account_merge.settings import Settings
from tests.crash.leaving import Leaving
from tests.crash.scenes import journal_rows
from tests.crash.worker import WAITING
from tests.interleave import mutations
from tests.interleave.ending import Ending
from tests.interleave.operations import OPERATIONS, told
from tests.interleave.scene import Scene, prepare

#: s between two looks at a process, and until it is asked whether it waits for a lock.
LOOKS, PATIENCE = 0.002, 0.1
#: s that an operation may take before it counts as hanging.
HANGS = 90.0


def opened() -> Service:
    """The core on this lane's keyspaces; what it finds out once in its life is found out."""
    service = Service(Settings.from_env(os.environ))
    _ = service.tables, service.deactivation, service.journal.erased_id("nobody")
    return service


class Player:
    """A process that does one operation after another."""

    def __init__(self, mutation: str) -> None:
        self._channel, theirs = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            self._channel.close()
            try:
                _play(mutation, theirs)
            finally:
                os._exit(1)
        theirs.close()
        self._lines = self._channel.makefile("r")
        self.answer()  # it is ready

    def ask(self, scene: Scene, operation: tuple[str, str], at: int = 0) -> None:
        """Have it do an operation, held at a request."""
        self._channel.sendall((json.dumps([*operation, scene.label, at]) + "\n").encode())

    def answers(self, seconds: float = 0.0) -> bool:
        """Whether it has ended its operation within that time."""
        return bool(select.select([self._channel], [], [], seconds)[0])

    def answer(self) -> dict[str, Any]:
        """What it says of its operation."""
        if not self.answers(HANGS):
            raise SystemExit("an operation hangs")
        return dict(json.loads(self._lines.readline()))

    def held(self) -> bool:
        """Waits until it is held; False when it has ended before."""
        begun = time.monotonic()
        while not self.answers(LOOKS):
            found, status = os.waitpid(self.pid, os.WUNTRACED | os.WNOHANG)
            if found:
                assert os.WIFSTOPPED(status), f"a process ended: {status}"
                return True
            if time.monotonic() - begun > HANGS:
                raise SystemExit("an operation hangs")
        return False

    def go_on(self) -> None:
        """Lets it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """Ends the process."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._lines.close()
        self._channel.close()


def _play(mutation: str, channel: socket.socket) -> None:
    mutations.apply(mutation)
    leaving = Leaving(action="stop", uncounted=("prepare",))
    with opened() as service, channel.makefile("rw") as lines:

        def say(answer: dict[str, Any]) -> None:
            lines.write(json.dumps(answer) + "\n")
            lines.flush()

        say({})
        for line in iter(lines.readline, ""):
            name, link, label, at = json.loads(line)
            leaving.start(at)
            answer = told(OPERATIONS[name], Scene(service, label), link)
            leaving.stop()
            say({**answer, "kinds": leaving.kinds})


class Stage:
    """Two players, and the one who prepares for them and looks on."""

    def __init__(self, mutation: str) -> None:
        self.players = Player(mutation), Player(mutation)
        self._service = opened()

    def serial(self, label: str, first: tuple[str, str], second: tuple[str, str], turned: bool) -> dict[str, Any]:
        """One after the other."""
        scene, answers = self._prepared(label, first, second), [{}, {}]
        for number in (1, 0) if turned else (0, 1):
            self.players[number].ask(scene, (first, second)[number])
            answers[number] = self.players[number].answer()
        return self._end(scene, (first, second), answers)

    def held(self, label: str, first: tuple[str, str], second: tuple[str, str], at: int) -> dict[str, Any]:
        """The first is held while the second runs, or waits for a row that the first has locked."""
        scene, (one, other) = self._prepared(label, first, second), self.players
        one.ask(scene, first, at)
        was_held, blocked = one.held(), False
        other.ask(scene, second)
        if was_held:
            blocked = self._blocked(other)
            one.go_on()
        answers = one.answer(), other.answer()
        return {**self._end(scene, (first, second), answers), "held": was_held, "blocked": blocked}

    def _prepared(self, label: str, *asked: tuple[str, str]) -> Scene:
        """Where both operations are on the same accounts, the merge stands as the first one needs it."""
        scene = Scene(self._service, label)
        standing = {link: OPERATIONS[name].stands for name, link in reversed(asked)}
        prepare(scene, standing, {link: 0 for name, link in asked if OPERATIONS[name].late})
        return scene

    def _blocked(self, player: Player) -> bool:
        begun = time.monotonic()
        while not player.answers(PATIENCE):
            if journal_rows(self._service, WAITING)[0].number:
                return True
            if time.monotonic() - begun > HANGS:
                raise SystemExit("an operation hangs, and waits for no lock")
        return False

    def _end(self, scene: Scene, asked: Any, answers: Any) -> dict[str, Any]:
        ending = Ending(scene, asked, answers)
        faults = list(_appended(scene, asked, answers))
        ending.reach()
        return {
            "label": scene.label, "end": ending.told(), "faults": faults + ending.faults(), "kinds": answers[0]["kinds"],
            "first": [answer["code"] for answer in answers],
        }  # fmt: skip

    def close(self) -> None:
        """Ends the processes."""
        for player in self.players:
            player.end()
        self._service.close()


def _appended(scene: Scene, asked: Any, answers: Any) -> Any:
    for (name, _), answer in zip(asked, answers, strict=True):
        if name == "pause" and "saw" in answer and scene.entries() > answer["saw"]:
            yield "an entry was appended while merging was stopped"


def say(answer: Any) -> None:
    """One line to the one who asked."""
    print(json.dumps(answer), flush=True)


def main() -> None:
    """See the module's own words."""
    stages: dict[str, Stage] = {}
    for line in sys.stdin:
        command, jobs, mutation = json.loads(line)
        if mutation not in stages:
            while stages:
                stages.popitem()[1].close()
            stages[mutation] = Stage(mutation)
        for label, first, second, how in jobs:
            say(getattr(stages[mutation], command)(label, tuple(first), tuple(second), how))
        say(None)
    for stage in stages.values():
        stage.close()


if __name__ == "__main__":
    main()
