"""The trigger behind `WaitForWorkSensor`; the triggerer imports it from the plugins folder, which is on its path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from account_merge.errors import TransientError
from account_merge_airflow.connections import aload_settings

if TYPE_CHECKING:
    from account_merge.service import Service
    from account_merge.settings import Settings

#: Time between two looks for runs that may be orphaned, in seconds.
RUNS_AFTER = 60.0


def _make_service(settings: Settings) -> Service:
    """Return a service; importing its drivers takes a second or two, so this runs outside the triggerer's loop."""
    from account_merge.service import Service

    return Service(settings)


def _look(service: Service, runs: bool) -> dict[str, int]:
    """Look once; find nothing while the pause after a failed poll lasts."""
    return {} if service.inbox.pace.pause() else service.inbox.has_work(runs)


class WorkTrigger(BaseTrigger):
    """A trigger that looks every `interval` seconds, until it finds work or `window` seconds have passed.

    It ends the task itself, so that no worker process begins: successful with what it found, or skipped when the last look
    of the window found nothing. When that look failed, the event is `{"status": "unreachable", "error": …}`, and a worker
    says so: a short outage inside the window is not an error. Runs that may be orphaned are looked for once a minute
    and in the last look: only Airflow knows them, and asking it costs a task. It carries no connection data: those are
    read where it runs.
    """

    def __init__(self, window: float, interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.window = window
        self.interval = interval
        self._service: Service | None = None
        self._looking: asyncio.Future[Any] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Tell the triggerer how to make this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"window": self.window, "interval": self.interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is work or the window has passed."""
        begun = time.monotonic()
        deadline, runs_at = begun + self.window, begun + RUNS_AFTER
        while True:
            error, last = "", time.monotonic() + self.interval >= deadline
            runs = last or time.monotonic() >= runs_at
            try:
                found = await self._look(runs)
                if any(found.values()):
                    yield TaskSuccessEvent(xcoms={"return_value": dict[str, Any](found)})
                    return
                runs_at += RUNS_AFTER if runs else 0
            except TransientError as problem:
                error = str(problem)[:1000]
                self.log.warning("A look failed; the trigger tries again until the window ends: %s", error)
            if last:
                unreachable = {"status": "unreachable", "error": error}
                yield TriggerEvent(unreachable) if error else TaskSkippedEvent()  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(self.interval)

    async def cleanup(self) -> None:
        """Close the connections, after a look that is still under way in its thread."""
        service, self._service = self._service, None
        if self._looking is not None and not self._looking.done():
            await asyncio.wait([self._looking], timeout=30)
        if service is not None:
            await asyncio.to_thread(service.close)

    async def _look(self, runs: bool) -> dict[str, int]:
        """Look once in a thread of its own: the drivers block, and the triggerer's loop must not."""
        if self._service is None:
            self._service = await asyncio.to_thread(_make_service, await aload_settings())
        # Shielded, so that a cancelled trigger closes the service only when its thread is done with it.
        self._looking = asyncio.ensure_future(asyncio.to_thread(_look, self._service, runs))
        found: dict[str, int] = await asyncio.shield(self._looking)
        return found
