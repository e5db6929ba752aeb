"""The trigger behind `WaitForWorkSensor`; the triggerer imports it from the plugins folder, which is on its path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from account_merge.errors import TransientError
from account_merge_airflow.connections import aload_settings

if TYPE_CHECKING:
    from account_merge.service import Service
    from account_merge.settings import Settings


def _make_service(settings: Settings) -> Service:
    """Return a service; importing its drivers takes a second or two, so this runs outside the triggerer's loop."""
    from account_merge.service import Service

    return Service(settings)


class WorkTrigger(BaseTrigger):
    """A trigger that looks every `interval` seconds, until it finds work or `window` seconds have passed.

    The event is `{"status": "work", "found": …}`, `{"status": "quiet"}` when the last look of the window found
    nothing, or `{"status": "unreachable", "error": …}` when that look failed: a short outage inside the window is not
    an error. It carries no connection data: those are read where it runs.
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
        deadline = time.monotonic() + self.window
        while True:
            error = ""
            try:
                found = await self._look()
                if any(found.values()):
                    yield TriggerEvent({"status": "work", "found": found})  # type: ignore[no-untyped-call]
                    return
            except TransientError as problem:
                error = str(problem)[:1000]
                self.log.warning("A look failed; the trigger tries again until the window ends: %s", error)
            if time.monotonic() + self.interval >= deadline:
                event = {"status": "unreachable", "error": error} if error else {"status": "quiet"}
                yield TriggerEvent(event)  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(self.interval)

    async def cleanup(self) -> None:
        """Close the connections, after a look that is still under way in its thread."""
        service, self._service = self._service, None
        if self._looking is not None and not self._looking.done():
            await asyncio.wait([self._looking], timeout=30)
        if service is not None:
            await asyncio.to_thread(service.close)

    async def _look(self) -> dict[str, int]:
        """Look once in a thread of its own: the drivers block, and the triggerer's loop must not."""
        if self._service is None:
            self._service = await asyncio.to_thread(_make_service, await aload_settings())
        # Shielded, so that a cancelled trigger closes the service only when its thread is done with it.
        self._looking = asyncio.ensure_future(asyncio.to_thread(self._service.inbox.has_work))
        found: dict[str, int] = await asyncio.shield(self._looking)
        return found
