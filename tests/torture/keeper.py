"""Keeps a stack's processes up as a supervisor does: what ends is started again on its port and data; who hangs is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any

from local import airflow_parts, processes, servers
from local.processes import Entry, alive
from local.stack import AIRFLOW, ALL, READY, Stack

HUNG = 90.0  # s without an answer until a process that has answered is ended, as a liveness probe does
STARTING = 300.0  # s that one may take to answer for the first time: a busy machine starts a Cassandra in minutes


class Keeper:
    """One thread for each process of the stack; only they start processes.

    :ivar counts: (process, what): how often it was started again, died by itself, or hung.
    """

    def __init__(self, stack: Stack) -> None:
        self._ports = stack.ports()
        self.stack = Stack(replace(stack.config, ports=self._ports))
        self.counts: Counter[tuple[str, str]] = Counter()
        self.ready: dict[str, bool] = dict.fromkeys(ALL, True)
        self._not_before: dict[str, float] = {}
        self._expected: set[str] = set()
        self._stopped: set[str] = set()
        self._state, self._end = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._keep, args=(name,), daemon=True) for name in ALL]

    def __enter__(self) -> Keeper:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(60)

    def entry(self, name: str) -> Entry:
        """What the state file says of a process."""
        with self._state:
            return self.stack.state.load()[name]

    def expect_end(self, name: str, pause: float) -> None:
        """The process is about to be ended on purpose, and comes back after `pause` seconds."""
        self._not_before[name] = time.monotonic() + pause
        self._expected.add(name)
        self.ready[name] = False

    @contextlib.contextmanager
    def standing_still(self, name: str) -> Any:
        """While a process is stopped on purpose nobody takes it for hung."""
        self._stopped.add(name)
        try:
            yield
        finally:
            self._stopped.discard(name)

    def all_ready(self) -> bool:
        """Whether every process answers."""
        return all(self.ready.values())

    # --- one process --------------------------------------------------------------------------------------------------
    def _keep(self, name: str) -> None:
        answered, patience = time.monotonic(), HUNG
        while not self._end.wait(0.5 if self.ready[name] else 0.2):
            entry = self.entry(name)
            if not alive(entry):
                self.ready[name] = False
                if time.monotonic() >= self._not_before.get(name, 0):
                    self._start(name, entry)
                    answered, patience = time.monotonic(), STARTING
                continue
            if not self.ready[name]:
                self.ready[name] = name not in self._expected and self._answers(name, entry)
                answered = time.monotonic() if self.ready[name] or name in self._stopped else answered
                patience = HUNG if self.ready[name] else patience
                if time.monotonic() - answered > patience and self._others_ready(name):
                    self._end_hung(name, entry)
                    answered = time.monotonic()
            elif time.monotonic() - answered > 10:
                self.ready[name] = self._answers(name, entry) or name in self._stopped
                answered = time.monotonic() if self.ready[name] else answered

    def _answers(self, name: str, entry: Entry) -> bool:
        try:
            return READY[name](entry)
        except (OSError, ValueError, KeyError):
            return False

    def _others_ready(self, name: str) -> bool:
        """Airflow's components answer through its api-server and database."""
        if name not in AIRFLOW:
            return True
        return self.ready["postgres"] and (name == "api-server" or self.ready["api-server"])

    def _start(self, name: str, entry: Entry) -> None:
        processes.stop({name: entry})  # what it had started and left behind
        if name in self._expected:
            self.counts[name, "started again"] += 1
        else:
            self.counts[name, "died by itself"] += 1
        self._expected.discard(name)
        if name in AIRFLOW:
            made = airflow_parts.start(self.stack.config, name, self._ports)
        else:
            made = servers.START[name](self.stack.config, self._ports[name])
        with self._state:
            self.stack.state.put(name, made)
        self._not_before[name] = time.monotonic() + 3  # one that dies at once is not started in a hurry

    def _end_hung(self, name: str, entry: Entry) -> None:
        self.counts[name, "hung"] += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(entry["pid"], signal.SIGKILL)
