"""The limit of attempts to sign in, in one process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque

_MOST_KEYS = 10_000


class Throttle:
    """A limit of events of one key within a minute, in this process.

    :param most: events a minute.
    """

    MINUTE = 60.0

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, key: str) -> float:
        """Return seconds until this key may do it once more; 0 when it may now."""
        with self._lock:
            seen, now = self._seen.get(key), time.monotonic()
            while seen and now - seen[0] >= self.MINUTE:
                seen.popleft()
            return self.MINUTE - (now - seen[0]) if seen and len(seen) >= self._most else 0.0

    def count(self, key: str) -> None:
        """Count one event of this key; of too many keys, forget those that were not seen for longest."""
        with self._lock:
            seen = self._seen.setdefault(key, deque(maxlen=self._most))
            seen.append(time.monotonic())
            self._seen.move_to_end(key)
            while len(self._seen) > _MOST_KEYS:
                self._seen.popitem(last=False)
