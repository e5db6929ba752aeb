"""The sensor that waits for work: it looks and consumes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowSkipException

from account_merge.errors import TransientError
from account_merge_airflow.connections import open_service
from account_merge_airflow.triggers import WorkTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class WaitForWorkSensor(BaseSensorOperator):
    """A sensor that succeeds as soon as there is work, and skips itself when the window passes without any.

    Work is a message past the group's committed offset, or a due merge in the journal. The sensor moves neither, so one
    that is killed, repeated or doubled loses nothing. It looks once on the worker; then the triggerer goes on looking and
    no worker is held.

    :param window: how long one run looks, in seconds.
    :param interval: pause between two looks, in seconds.
    """

    ui_color = "#e2f0d9"

    def __init__(self, *, window: float = 50.0, interval: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window = window
        self.interval = interval

    def execute(self, context: Context) -> dict[str, int]:
        """Look now; without work hand over to the trigger."""
        try:
            with open_service() as service:
                found = service.inbox.has_work()
        except TransientError as error:
            self.log.warning("The first look failed; the triggerer tries again until the window ends: %s", error)
        else:
            if any(found.values()):
                return self._found(found)
        # The trigger ends by itself at the end of the window; the timeout is for a triggerer that is gone.
        self.defer(
            trigger=WorkTrigger(window=self.window, interval=self.interval),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.window + 60),
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, int]:
        """End as the trigger's last look tells."""
        if event["status"] == "work":
            return self._found(event["found"])
        if event["status"] == "unreachable":
            raise TransientError(
                "CANNOT_LOOK",
                f"For {self.window:g} s no look at Kafka and the journal succeeded; the last one failed with: {event['error']}",
                "Nothing is lost: events wait in Kafka, merges in the journal. Run `python -m account_merge check`.",
            )
        raise AirflowSkipException(f"No merge event and no due merge for {self.window:g} s: there is nothing to claim.")

    def _found(self, found: Mapping[str, int]) -> dict[str, int]:
        self.log.info("Work: %d messages not yet claimed, %d merges due.", found.get("lag", 0), found.get("due", 0))
        return dict(found)
