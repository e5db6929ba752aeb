"""Counts what leaves a process for PostgreSQL, Cassandra and Kafka, and interrupts the process around one request.

Counted where a request leaves (see `tests.outgoing`). The code under test is not asked.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.outgoing import cassandra, kafka, postgres
from tests.outgoing.patches import Patches
from tests.proxy import Proxy

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
#: These leave nothing behind: what is done before one is what is done before the next.
READS = ("SELECT", cassandra.PREPARE, "BEGIN", "ROLLBACK")


@dataclass
class Leaving:
    """Counts from `start` on; interrupts the process before or after the request `at` (0: never).

    :param action: `kill`, `stop`, or `cut`: PostgreSQL does what was asked, and its answer is lost with the connection.
    :param uncounted: kinds of requests that are let through: a process that lives long does not ask them each time.
    :param proxy: loses it; the process reaches PostgreSQL through it.
    """

    at: int = 0
    after: bool = False
    action: str = "kill"
    uncounted: tuple[str, ...] = ()
    proxy: Proxy | None = None

    def __post_init__(self) -> None:
        self.kinds: list[str] = []
        self._counting = False
        put = Patches().put  # never taken out: the process is made for this
        for server in (cassandra, kafka, postgres):
            server.hook(self._around, put)

    def start(self, at: int | None = None) -> None:
        """Counts from here on: the process is what it is when its work begins.

        :param at: another request than the one before, for one work after another in the same process.
        """
        self.at = self.at if at is None else at
        self.kinds = []
        self._counting = True

    def stop(self) -> None:
        """Counts no further: the work is done."""
        self._counting = False

    def _around(
        self, kind: str, send: Callable[[], Any], reach: Callable[[], Any], client: Callable[[], int] | None = None
    ) -> Any:
        if not self._counting or kind in self.uncounted:
            return send()
        self.kinds.append(kind)
        here = len(self.kinds) == self.at
        if here and self.action == "cut":
            assert self.proxy
            assert client
            self.proxy.cut(client(), postgres.is_whole)
            return send()
        if here and not self.after:
            os.kill(os.getpid(), SIGNALS[self.action])
        result = send()
        if here and self.after:
            reach()
            os.kill(os.getpid(), SIGNALS[self.action])
        return result
