"""The sensor that waits for work: it looks and consumes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator
from airflow.triggers.base import StartTriggerArgs

from account_merge.errors import TransientError
from account_merge_airflow.triggers import WorkTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class WaitForWorkSensor(BaseSensorOperator):
    """A sensor that succeeds as soon as there is work, and is skipped when the window passes without any.

    Work is a message past the group's committed offset, or a due merge in the journal. The sensor moves neither, so one
    that is killed, repeated or doubled loses nothing. It begins and ends in the triggerer: no worker process is started.

    :param window: how long one run looks, in seconds.
    :param interval: pause between two looks, in seconds.
    """

    ui_color = "#e2f0d9"
    start_from_trigger = True

    def __init__(self, *, window: float = 240.0, interval: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window = window
        self.interval = interval
        # The trigger ends by itself at the end of the window, which begins anew when the triggerer is restarted; the
        # timeout is for a triggerer that is gone.
        self.patience = timedelta(seconds=2 * window + 60)
        path, arguments = WorkTrigger(window, interval).serialize()
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=path, trigger_kwargs=arguments, next_method="execute_complete", timeout=self.patience,
        )  # fmt: skip

    def execute(self, context: Context) -> NoReturn:
        """Hand over to the trigger, where Airflow starts the task in a worker (`dag.test`)."""
        self.defer(
            trigger=WorkTrigger(self.window, self.interval), method_name="execute_complete", timeout=self.patience
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> NoReturn:
        """Fail: the trigger hands over to a worker only when its last look failed."""
        raise TransientError(
            "CANNOT_LOOK",
            f"For {self.window:g} s no look at Kafka and the journal succeeded; the last one failed with: {event['error']}",
            "Nothing is lost: events wait in Kafka, merges in the journal. Run `python -m account_merge check`.",
        )
