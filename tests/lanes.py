"""A lane: keyspaces, a journal and topics of its own, and a worker process that is told what to do line by line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from account_merge.service import Service
from account_merge.settings import Settings
from tests.keyspaces import own_keyspaces

#: So many side by side, where nothing else says it: a core each.
LANES = 2
ROOT = Path(__file__).resolve().parents[1]
_CROWDED = 300  # labels whose rows are in a lane's tables, which are read as a whole


class Lane:
    """A worker, and the core on the same keyspaces.

    :param environment: the variables of both.
    :param worker: the script of the worker.
    :param empty: empties the lane's tables.
    """

    def __init__(self, environment: Mapping[str, str], worker: Path, empty: Callable[[Service], None]) -> None:
        self.service = Service(Settings.from_env(environment))
        self._empty, self._labels = empty, 0
        path = os.pathsep.join([str(ROOT / "include"), str(ROOT)])
        self._worker = subprocess.Popen(
            [sys.executable, str(worker)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **environment, "PYTHONPATH": path},
        )  # fmt: skip

    def work(self, command: str, jobs: Sequence[Any], mutation: str = "") -> list[dict[str, Any]]:
        """The worker's answers, one for each job; fails when it does (its words are on standard error)."""
        assert self._worker.stdin
        assert self._worker.stdout
        self._worker.stdin.write(json.dumps([command, jobs, mutation]) + "\n")
        self._worker.stdin.flush()
        answers = []
        for line in self._worker.stdout:
            if (answer := json.loads(line)) is None:
                assert len(answers) == len(jobs)
                return answers
            answers.append(answer)
        raise AssertionError(f"the worker ended during {command}: {self._worker.wait()}")

    def room_for(self, labels: int) -> None:
        """Empties the tables when much is in them."""
        self._labels += labels
        if self._labels > _CROWDED + labels:
            self._empty(self.service)
            self._labels = labels

    def close(self) -> None:
        """Ends the worker and closes the connections."""
        with self._worker:
            self._worker.stdin.close()  # type: ignore[union-attr]
        self.service.close()


@contextmanager
def own_lanes(
    stack: Any,
    session: Any,
    worker: Path,
    settings: Mapping[str, str],
    empty: Callable[[Service], None],
    number: int = LANES,
) -> Iterator[list[Lane]]:
    """Lanes with these settings, their journals created; dropped at the end."""
    with ExitStack() as kept:
        environments = [kept.enter_context(own_keyspaces(stack, session)) for _ in range(number)]
        found = [Lane(environment | settings, worker, empty) for environment in environments]
        try:
            for lane in found:  # one after the other: Alembic's environment belongs to the whole process
                lane.service.journal.create()
            yield found
        finally:
            for lane in found:
                lane.close()
