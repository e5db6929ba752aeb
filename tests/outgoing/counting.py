"""Counts the requests of each step of some work, by server; of those to Cassandra also how many went out in sequence."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from account_merge.sunbird import few_rows, server_clock, store
from tests.outgoing import cassandra, kafka, postgres
from tests.outgoing.patches import Patches, Put

#: A session asks these once, or every few seconds, however many merges it does.
OF_SESSION = (cassandra.PREPARE, cassandra.CLOCK)


@dataclass(frozen=True)
class Request:
    """One request.

    :param kind: verb and table.
    """

    step: str
    server: str
    kind: str


class Requests:
    """The requests that were counted, in the order in which they left. Those of the session are left out."""

    def __init__(self) -> None:
        self.all: list[Request] = []
        #: Step -> the longest chain of requests to Cassandra each of which was sent after the answer of the one before.
        self.in_sequence: Counter[str] = Counter()
        self._step = ""
        self._lock = threading.Lock()
        self._answered = 0

    def at(self, step: str) -> None:
        """Count for this step from here on; for none where it is empty."""
        with self._lock:
            self._step, self._answered = step, 0

    def clear(self) -> None:
        """Forget all that was counted."""
        self.all.clear()
        self.in_sequence.clear()

    def of(self, step: str, server: str) -> int:
        """Return how many a step sent to a server."""
        return sum((one.step, one.server) == (step, server) for one in self.all)

    def table(self) -> str:
        """Return what each step asked, a line for each kind, for people."""
        kinds = Counter(self.all)
        return "\n".join(f"{one.step:28} {one.server:10} {number:4} {one.kind}" for one, number in kinds.items())

    def to(self, server: str) -> Callable[..., Any]:
        """Return what a hook calls around each request to a server."""

        def around(kind: str, send: Callable[[], Any], *_: Any) -> Any:
            if self._step and kind not in OF_SESSION:
                with self._lock:
                    self.all.append(Request(self._step, server, kind))
            return send()

        return around

    def begun(self, kind: str) -> Callable[[], None]:
        """Return what is called when a request to Cassandra that goes out now is answered."""
        step, place = self._step, self._answered + (kind not in OF_SESSION)
        with self._lock:
            self.in_sequence[step] = max(self.in_sequence[step], place)

        def ended() -> None:
            with self._lock:
                if step == self._step:
                    self._answered = max(self._answered, place)

        return ended


def whatever_the_time(put: Put = setattr) -> None:
    """Have what was read count for as long as the process lives: how many requests it sends then hangs on no clock.

    What a stopped process has read is then older than it ever gets elsewhere: it must be right all the same.
    """
    for module, name in ((few_rows, "_MOMENT"), (store, "_MOMENT"), (server_clock, "_FRESH"), (server_clock, "_VAGUE")):
        put(module, name, float("inf"))


@contextmanager
def counted() -> Iterator[Requests]:
    """Count the requests of this process; statements that it has prepared before are not known by name."""
    found, patches = Requests(), Patches()
    cassandra.hook(found.to("cassandra"), patches.put, found.begun)
    kafka.hook(found.to("kafka"), patches.put)
    postgres.hook(found.to("postgres"), patches.put)
    try:
        yield found
    finally:
        patches.take_out()
