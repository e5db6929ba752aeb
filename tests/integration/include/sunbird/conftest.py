"""The platform's topics to read and to write, and settings that lead to no broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from account_merge.settings import Settings
from account_merge.sunbird.publishing import Publisher


@pytest.fixture
def publisher(settings: Settings) -> Iterator[Publisher]:
    """To write to the same topics."""
    with Publisher(settings) as found:
        yield found
