"""Errors of PostgreSQL and its driver as people read them: each kind has its code and remedy. None quotes a value."""

from __future__ import annotations

import re

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from account_merge.errors import MergeError, NeedsAttention, TransientError

#: SQLSTATE of a table, column, schema or database that is not there.
_GONE = frozenset({"42P01", "42703", "3F000", "3D000"})
#: Classes of SQLSTATE after which the same call may succeed: connection, rollback of a transaction, resources, an operator's
#: intervention, a lock that others have, a standby that takes no changes.
_PASSES = re.compile(r"08...|40...|53...|57...|55P03|25006")
_SIGN_IN = re.compile(r"28...")
#: What libpq says when it cannot connect; it gives no SQLSTATE then.
_NO_DATABASE = re.compile(r'database ".*" does not exist')
_REFUSED = re.compile(
    r"password authentication failed|no pg_hba.conf entry|role \".*\" does not exist|authentication failed"
)


def database_error(error: SQLAlchemyError, where: str) -> MergeError:
    """Return our error for one of PostgreSQL's or its driver's.

    :param where: host, port and name of the database.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(cause, "sqlstate", None) or ""
    said = str(cause) if not state else ""
    if state in _GONE or _NO_DATABASE.search(said):
        return not_created(where)
    if _SIGN_IN.fullmatch(state) or _REFUSED.search(said):
        return NeedsAttention(
            "JOURNAL_SIGN_IN",
            f"PostgreSQL does not let this user into the journal {where}",
            "Correct user and password in ACCOUNT_MERGE_JOURNAL_URL or the Airflow connection account_merge_journal.",
        )
    if state == "42501":
        return NeedsAttention(
            "JOURNAL_NO_GRANT",
            f"the user of the journal {where} lacks a right on one of its tables",
            "Run create-journal with the user that owns the database, then grant SELECT, INSERT, UPDATE and DELETE.",
        )
    if isinstance(cause, psycopg.Error) and state and not _PASSES.fullmatch(state):
        diag = cause.diag
        what = diag.constraint_name or diag.column_name or diag.table_name or type(cause).__name__
        return NeedsAttention(
            "JOURNAL_REFUSED",
            f"the journal {where} refuses a statement ({state}, {what})",
            "Trying again does not help. Report the traceback in the task's log; nothing was changed by this statement.",
        )
    return TransientError(
        "JOURNAL_UNAVAILABLE",
        f"PostgreSQL did not answer for the journal {where}: {type(cause).__name__}{f' {state}' if state else ''}",
        "Nothing is lost: the same step goes on where it ended once PostgreSQL answers. Check it with `python -m account_merge check`.",
    )


def not_created(where: str) -> NeedsAttention:
    """Return the error of a journal that was never created, or is older than this program."""
    return NeedsAttention(
        "NO_JOURNAL",
        f"the journal {where} does not exist or is older than this program",
        "Run `python -m account_merge create-journal` with this program's version.",
    )
