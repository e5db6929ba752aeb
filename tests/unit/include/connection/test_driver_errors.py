"""Each kind of the driver's exceptions has its code; only what waiting mends is retried; no learner's value is told.

The exceptions are made as the driver makes them, of the server's own messages; those of 5.0 were read from a real server.
"""

from __future__ import annotations

import pytest
from cassandra import (
    AuthenticationFailed,
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    ReadFailure,
    Unauthorized,
    Unavailable,
    WriteTimeout,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.protocol import ErrorMessage, OverloadedErrorMessage, ServerError, SyntaxException
from hypothesis import example, given
from hypothesis import strategies as st

from account_merge.connection.driver_errors import driver_error, scrubbed
from account_merge.errors import TransientError
from account_merge.settings import Settings

SETTINGS = Settings.from_env({"CASSANDRA_CONTACT_POINTS": "one,two", "CASSANDRA_USERNAME": "merger"})


def refused(words):
    return InvalidRequest(f'Error from server: code=2200 [Invalid query] message="{words}"')


def failed_read(reason):
    return ReadFailure("1", error_code_map={"10.0.0.1": reason})


KINDS = [
    (OperationTimedOut(), "CASSANDRA_UNAVAILABLE"),
    (Unavailable("u"), "CASSANDRA_UNAVAILABLE"),
    (WriteTimeout("w", write_type=0), "CASSANDRA_UNAVAILABLE"),
    (ConnectionShutdown("gone"), "CASSANDRA_UNAVAILABLE"),
    (NoHostAvailable("none", {"one": OSError("refused")}), "CASSANDRA_UNAVAILABLE"),
    (NoHostAvailable("none", ["one"]), "CASSANDRA_UNAVAILABLE"),
    (OverloadedErrorMessage(0x1001, "Server is shutting down", None), "CASSANDRA_UNAVAILABLE"),
    (failed_read(0), "CASSANDRA_UNAVAILABLE"),
    (failed_read(1), "TOO_MANY_TOMBSTONES"),
    (failed_read(4), "TOO_LARGE"),
    (NoHostAvailable("none", {"one": OSError(), "two": AuthenticationFailed("Bad credentials")}), "CASSANDRA_SIGN_IN"),
    (Unauthorized('message="User x has no SELECT permission on <table k.t> or any of its parents"'), "NO_GRANT"),
    (refused("table nope does not exist"), "SCHEMA_CHANGED"),
    (refused("unconfigured table nope"), "SCHEMA_CHANGED"),
    (refused("keyspace nope does not exist"), "SCHEMA_CHANGED"),
    (refused("Undefined column name zz in table k.t"), "SCHEMA_CHANGED"),
    (refused("Unknown identifier zz"), "SCHEMA_CHANGED"),
    (refused("Batch too large"), "TOO_LARGE"),
    (refused("CQL Message of size 9000070 bytes exceeds allowed maximum of 8388608 bytes"), "TOO_LARGE"),
    (refused("Key length of 70000 is longer than maximum of 65535"), "TOO_LARGE"),
    (ServerError(0, "Encountered an oversized mutation (9/8) for keyspace: k. Top keys are: t.bob", None), "TOO_LARGE"),
    (refused("Cannot provide custom timestamp for counter updates"), "CASSANDRA_REFUSED"),
    (SyntaxException(0x2000, "line 1:0 no viable alternative at input 'SELEC' ([SELEC]...)", None), "CASSANDRA_REFUSED"),
    (
        DriverException('Failed decoding result column "completedon" of type timestamp: date value out of range'),
        "UNREADABLE_CELL",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code"), KINDS, ids=[f"{n}-{type(e).__name__}" for n, (e, _) in enumerate(KINDS)])
def test_each_kind_has_its_own_code_and_remedy(error, code):
    told = driver_error("answer a read of k.t", error, SETTINGS)
    assert told.code == code
    assert told.remedy
    assert isinstance(told, TransientError) == (code in ("CASSANDRA_UNAVAILABLE", "SCHEMA_CHANGED"))
    assert "merger" not in str(told)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unauthorized('message="User x has no MODIFY permission on <table k.t> or any"'), "lacks MODIFY on table k.t"),
        (refused("Batch too large"), "k.t: Batch too large"),
        (refused("Undefined column name zz in table k.t"), "Undefined column name zz in table k.t"),
        (refused("Cannot provide custom timestamp for counter updates"), "custom timestamp for counter updates"),
        (DriverException('Failed decoding result column "x" of type timestamp: y'), "column x is not a timestamp"),
    ],
)
def test_what_the_server_said_is_told(error, words):
    assert words in driver_error("acknowledge a write of k.t", error, SETTINGS).message


QUOTES = ["'{}'", '"{}"', "({})", "[{}]", "{{{}}}", "Top keys are: t.{}", "<{}>", "(String didn't: ({}))"]


@given(st.sampled_from(QUOTES), st.text(min_size=4).filter(lambda t: not set(t) & set("'\"()[]{}<>") and t.split()))
@example("'{}'", "Alice B")
def test_no_value_that_a_server_quotes_is_told(quote, value):
    said = f"Unable to make int from {quote.format(value)}"
    assert value.strip() not in driver_error("write", refused(said), SETTINGS).message
    assert "Unable to make int from" in scrubbed(said)


@given(st.text())
def test_any_message_of_a_server_has_a_code(said):
    for error in (refused(said), ErrorMessage(0, said, None)):
        assert driver_error("write", error, SETTINGS).code
