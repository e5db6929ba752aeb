"""The platform's topics to read and to write, and settings that lead to no broker."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from account_merge.settings import Settings
from account_merge.sunbird.kafka import Topics
from account_merge.sunbird.publishing import Publisher


@pytest.fixture
def topics(settings: Settings) -> Iterator[Topics]:
    """To read: topics and a group of this test alone."""
    with Topics(settings) as found:
        yield found


@pytest.fixture
def away(settings: Settings) -> Iterator[Settings]:
    """Settings that name a port where nobody listens: bound, so that nobody takes it meanwhile."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        yield settings.replace(kafka_bootstrap_servers=f"127.0.0.1:{port}", delivery_timeout_seconds=1.0)


@pytest.fixture
def publisher(settings: Settings) -> Iterator[Publisher]:
    """To write to the same topics."""
    with Publisher(settings) as found:
        yield found
