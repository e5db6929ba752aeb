"""What the driver raises: whatever a server answers is an error that the core knows."""

from __future__ import annotations

import inspect

import pytest
from cassandra import protocol

from account_merge.connection.driver_errors import DRIVER_ERRORS

MESSAGES = [c for _, c in inspect.getmembers(protocol, inspect.isclass) if issubclass(c, protocol.ErrorMessage)]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_a_server_s_error_is_one_of_the_driver_s(message: type[protocol.ErrorMessage]) -> None:
    """The driver raises some as they are: a server that shuts down answers that it is overloaded."""
    assert issubclass(message, DRIVER_ERRORS)
