"""The server's clock, as far from this machine's as it was a few seconds ago: it is not asked for each page of rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from account_merge.errors import TransientError
from account_merge.settings import Settings

_FRESH = 5.0  # s for which a measured distance of the two clocks is believed
_VAGUE = 500.0  # ms within which a distance must be known to be kept
_STEP = 0.2  # s by which this machine's clock may go otherwise than time itself, before the distance is measured anew


@dataclass(frozen=True)
class _Distance:
    """How far the server's clock is ahead of this machine's.

    :param least: ms; it is at least so far ahead. :param most: it is at most so far ahead: the answer took its time.
    :param wall: s; when that was measured, by this machine's clock. :param steady: the same by one that nobody sets.
    """

    least: float
    most: float
    wall: float
    steady: float

    @property
    def apart(self) -> float:
        """Seconds that the two clocks are apart, at least."""
        return max(0.0, self.least, -self.most) / 1000

    def holds(self) -> bool:
        """Whether it may still be used: not for long, not when this machine's clock was set since, nor when it is vague."""
        gone = time.monotonic() - self.steady
        return gone < _FRESH and abs(time.time() - self.wall - gone) < _STEP and self.most - self.least < _VAGUE


class ServerClock:
    """Gives timestamps that no later write of the platform can be below.

    :param ask: returns the server's clock (ms since the epoch).
    """

    def __init__(self, settings: Settings, ask: Callable[[], float]) -> None:
        self._settings, self._ask = settings, ask
        self._distance: _Distance | None = None

    def safe_timestamp(self) -> int:
        """Return the lower of this machine's and the server's clock, less `CLOCK_MARGIN` (µs).

        :raises TransientError: the two clocks are too far apart to give timestamps an order.
        """
        before = time.time()
        found = self._distance
        if found is None or not found.holds():
            found = self._distance = self._measured(before)
        if found.apart > self._settings.max_clock_skew_seconds:
            self._distance = None
            raise TransientError(
                "CLOCK_SKEW",
                f"this machine's clock and Cassandra's are {found.apart:.1f} s apart",
                "Synchronise the clocks (NTP); the task is tried again.",
            )
        return int((before * 1000 + min(0.0, found.least) - self._settings.clock_margin_seconds * 1000) * 1000)

    def _measured(self, before: float) -> _Distance:
        server = self._ask()
        after, steady = time.time(), time.monotonic()
        return _Distance(server - after * 1000, server - before * 1000, after, steady)
