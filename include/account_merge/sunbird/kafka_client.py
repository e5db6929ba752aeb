"""Kafka's clients: how they are opened, with the options against loss and doubling, and which errors they raise.

The operator's own options come first and lose. The errors of a client become ours here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from confluent_kafka import KafkaError, KafkaException

from account_merge.errors import TransientError
from account_merge.settings import Settings
from account_merge.sunbird.kafka_errors import NO_RIGHTS, PERMANENT, away, bad_option, refused

_Client = TypeVar("_Client")
_Answer = TypeVar("_Answer")


class KafkaCalls:
    """Opens clients and calls them; raises our errors, which name what was being done.

    :param patience: s; how long a call waits for an answer.
    """

    def __init__(self, settings: Settings, log: logging.Logger) -> None:
        self._settings, self._log = settings, log
        self.patience = min(10.0, settings.delivery_timeout_seconds)
        self._no_rights: KafkaError | None = None

    def open(self, client: Callable[..., _Client], options: dict[str, Any]) -> _Client:
        """Return a client.

        :raises InvalidRequest: it does not know an option, or not with this value.
        """
        try:
            return client(options | {"error_cb": self._remember}, logger=self._log)
        except KafkaException as error:
            raise bad_option(error.args[0].str()) from None

    def _remember(self, error: KafkaError) -> None:
        if error.name() in NO_RIGHTS:
            self._no_rights = error

    def settled(self, ask: Callable[[], _Answer], passing: frozenset[str]) -> _Answer:
        """Ask again while the answer is an error that passes within a moment, as long as we wait for any answer."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return ask()
            except KafkaException as error:
                if error.args[0].name() not in passing or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Raise our error for what a client raises meanwhile.

        :param what: in words, which call failed then.
        """
        try:
            yield
        except KafkaException as error:
            self.fail(error.args[0], what)

    def fail(self, error: KafkaError, doing: str) -> NoReturn:
        """Raise our error for one of the client's; a refused user or password tells more than a call that timed out."""
        error, self._no_rights = self._no_rights or error, None
        if error.name() in PERMANENT:
            raise refused(doing, f"{error.name()}: {error.str()}")
        raise self.away(f"{doing} ({error.str()})")

    def away(self, doing: str) -> TransientError:
        """Return the error of a call that no broker answered in time."""
        return away(doing, self._settings.kafka_bootstrap_servers)


def common_options(settings: Settings) -> dict[str, Any]:
    """Return options of every client."""
    fixed = {"bootstrap.servers": settings.kafka_bootstrap_servers}
    return {"client.id": "account-merge", **settings.kafka_config, **fixed}


def consumer_options(settings: Settings) -> dict[str, Any]:
    """Return the options of a consumer: only we commit offsets, and it reads no aborted transaction and reports each end."""
    # We read to the end and stop: the broker need not wait there for more (its client's default is half a second).
    return (
        {"fetch.wait.max.ms": 20}
        | common_options(settings)
        | {
            "group.id": settings.consumer_group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )


def producer_options(settings: Settings) -> dict[str, Any]:
    """Return the options of a producer: all replicas in sync acknowledge each message once and in order, until the deadline."""
    timeout = int(settings.delivery_timeout_seconds * 1000)
    return common_options(settings) | {"enable.idempotence": True, "message.timeout.ms": timeout}
