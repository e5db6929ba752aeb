"""Errors of Cassandra's driver as people read them: each kind of exception has its code and remedy.

An error is transient only where waiting or looking again can help. No message holds a learner's value.
"""

from __future__ import annotations

import re

from cassandra import (
    AuthenticationFailed,
    CoordinationFailure,
    DriverException,
    RequestExecutionException,
    RequestValidationException,
    Unauthorized,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.protocol import ErrorMessage, ProtocolException
from cassandra.protocol import RequestValidationException as RefusedMessage

from account_merge.errors import MergeError, NeedsAttention, TransientError
from account_merge.settings import Settings

#: `ErrorMessage`: an error of the server for which the driver has no exception of its own ("Server is shutting down").
DRIVER_ERRORS = (
    DriverException, RequestExecutionException, ErrorMessage, NoHostAvailable, ConnectionException, OSError,
)  # fmt: skip

#: The server's words for a keyspace, table or column that it does not have: of 5.0, then of 3.11.
_GONE = re.compile(r"does not exist|undefined (column )?name|unconfigured table|unknown (identifier|keyspace/cf)", re.I)
_TOO_LARGE = re.compile(r"too large|exceeds allowed maximum|oversized|longer than maximum", re.I)
_GRANT = re.compile(r"has no (\w+) permission on <([^>]*)>")
_DECODING = re.compile(r"Failed decoding result column \"?([^\"]+?)\"? of type (\S+?):")
#: Why replicas failed, as protocol version 5 tells it (native_protocol_v5.spec, section 9): the page of a read met too
#: many tombstones; it was too large.
_TOMBSTONES, _READ_SIZE = 1, 4
#: Parts of a server's message that may quote a value, and what follows a partition's key.
_QUOTED = re.compile(r"(?s)top keys.*|'[^']*'|\"[^\"]*\"|\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|<[^<>]*>", re.I)
_WORD = re.compile(r"[A-Za-z]+(?:[._][A-Za-z]+)*[.,:;]?|\d{1,12}[.,:;]?")


def driver_error(doing: str, error: BaseException, settings: Settings) -> MergeError:
    """Return our error for one of the driver's: an outage, or another reason.

    :param doing: the request that Cassandra did not do, as in "answer a read of keyspace.table".
    """
    said = _said(error)
    signed_in = _caused_by(error, AuthenticationFailed)
    if signed_in or isinstance(error, AuthenticationFailed):
        return _sign_in(settings)
    if isinstance(error, Unauthorized):
        return _no_grant(doing, said)
    if _TOO_LARGE.search(said):
        return too_large(doing, scrubbed(said))
    if isinstance(error, CoordinationFailure):
        return _failed_read(doing, error, settings)
    if isinstance(error, RequestValidationException | RefusedMessage | ProtocolException):
        return schema_changed(doing, scrubbed(said)) if _GONE.search(said) else _refused(doing, scrubbed(said))
    if type(error) is DriverException and (found := _DECODING.search(str(error))):
        return _unreadable(doing, *found.groups())
    return _unavailable(doing, error, settings)


def _said(error: BaseException) -> str:
    """Return the server's own message; empty where the server said nothing."""
    text = str(getattr(error, "message", None) or error) if isinstance(error, ErrorMessage | DriverException) else ""
    found = re.search(r'message="(.*)"', text, re.S)
    return found.group(1) if found else text if isinstance(error, ErrorMessage) else ""


def _caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether a host that was tried answered so; the driver lists what each host answered."""
    answers = getattr(error, "errors", None) if isinstance(error, NoHostAvailable) else None
    return any(isinstance(answer, kind) for answer in answers.values()) if isinstance(answers, dict) else False


def scrubbed(said: str) -> str:
    """Return a server's message without quoted values: plain words, names of tables and columns, and sizes."""
    while (shorter := _QUOTED.sub("…", said)) != said:
        said = shorter
    return " ".join(part if _WORD.fullmatch(part) else "…" for part in said.split()) or "no reason"


def _unavailable(doing: str, error: BaseException, settings: Settings) -> TransientError:
    where = f"{','.join(settings.cassandra_contact_points)}:{settings.cassandra_port}"
    return TransientError(
        "CASSANDRA_UNAVAILABLE",
        f"Cassandra at {where} did not {doing}: {type(error).__name__}",
        "Nothing is lost: the same step goes on where it ended once Cassandra answers. Check it with `python -m account_merge check`.",
    )


def schema_changed(doing: str, why: str) -> TransientError:
    """Return the error of a keyspace, table or column that is gone. It is transient: the next attempt detects the tables anew."""
    return TransientError(
        "SCHEMA_CHANGED",
        f"Cassandra did not {doing}: {why}",
        "The next attempt looks at the tables anew. If it fails as well, compare the tables with docs/rules.md.",
    )


def _sign_in(settings: Settings) -> NeedsAttention:
    where = f"{','.join(settings.cassandra_contact_points)}:{settings.cassandra_port}"
    return NeedsAttention(
        "CASSANDRA_SIGN_IN",
        f"Cassandra at {where} does not accept the user and password",
        "Set CASSANDRA_USERNAME and CASSANDRA_PASSWORD, or login and password of the Airflow connection "
        "cassandra_account_merge; then try again.",
    )


def _no_grant(doing: str, said: str) -> NeedsAttention:
    found = _GRANT.search(said)
    lacks = f"{found[1]} on {found[2]}" if found else "a permission that Cassandra does not name"
    return NeedsAttention(
        "NO_GRANT",
        f"Cassandra did not {doing}: the user of the settings lacks {lacks}",
        f"Grant it ({f'GRANT {found[1]} ON {found[2]} TO …' if found else 'LIST ALL PERMISSIONS OF …'}), then try again.",
    )


def too_large(doing: str, why: str) -> NeedsAttention:
    """Return the error of a request that this server's limits do not allow."""
    return NeedsAttention(
        "TOO_LARGE",
        f"Cassandra did not {doing}: {why}",
        "Raise native_transport_max_request_data and commitlog_segment_size of the servers, or make the row smaller; then "
        "try again. Abandoning the merge frees its accounts.",
    )


def _failed_read(doing: str, error: CoordinationFailure, settings: Settings) -> MergeError:
    codes = set((error.error_code_map or {}).values())
    if _TOMBSTONES in codes:
        return NeedsAttention(
            "TOO_MANY_TOMBSTONES",
            f"Cassandra did not {doing}: a page holds more deleted cells than tombstone_failure_threshold allows",
            "Compact the table once gc_grace_seconds are over, or set ACCOUNT_MERGE_PAGE_ROWS lower; then try again.",
        )
    if _READ_SIZE in codes:
        return too_large(doing, "the answer is larger than read_size_fail_threshold allows")
    return _unavailable(doing, error, settings)


def _refused(doing: str, why: str) -> NeedsAttention:
    return NeedsAttention(
        "CASSANDRA_REFUSED",
        f"Cassandra did not {doing}; it said: {why}",
        "Trying again does not help. Compare the table with docs/rules.md and the server with `python -m account_merge check`.",
    )


def _unreadable(doing: str, column: str, cql_type: str) -> NeedsAttention:
    return NeedsAttention(
        "UNREADABLE_CELL",
        f"the driver did not {doing}: a cell of column {column} is not a {cql_type} that it can decode",
        "Correct or delete that cell, then try again.",
    )
