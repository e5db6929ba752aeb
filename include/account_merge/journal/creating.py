"""Making the journal's tables, and whether they are those of this program."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, insert, make_url, select
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from account_merge.errors import MergeError, NeedsAttention
from account_merge.journal import schema
from account_merge.journal.clock import now
from account_merge.journal.database import SESSION, Database
from account_merge.journal.database_errors import database_error

#: Two that create a journal at the same time wait for each other at this advisory lock; the number is ours alone.
_LOCK = 6_158_024_107
#: Alembic keeps the migration that runs in globals of the process: threads run theirs one after the other.
_ONE_AT_A_TIME = threading.Lock()


def create(database: Database) -> None:
    """Make the database where it does not exist, and its tables what this program needs.

    May be repeated, and done by several processes and threads at once.

    :raises MergeError: PostgreSQL does not answer, or this user may not do it.
    """
    try:
        _upgrade(database)
    except MergeError as error:
        if error.code != "NO_JOURNAL":
            raise
        _make_database(database)
        _upgrade(database)


def _upgrade(database: Database) -> None:
    try:
        with _ONE_AT_A_TIME, database.transactions.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if connection.execute(select(schema.journal.c.journal_id)).first() is None:
                own = {"journal_id": uuid.uuid4(), "hash_key": os.urandom(32), "created_at": now()}
                connection.execute(insert(schema.journal), own)
            _set_for_all(connection)
    except SQLAlchemyError as error:
        raise database_error(error, database.where) from error


def _set_for_all(connection: Connection) -> None:
    """Give every session of this database, also one behind a pooler, what ours set themselves."""
    name = connection.exec_driver_sql("SELECT quote_ident(current_database())").scalar_one()
    savepoint = connection.begin_nested()
    try:
        for setting, value in SESSION.items():
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET {setting} = '{value}'")
        savepoint.commit()
    except SQLAlchemyError:  # only the owner may: our own sessions set it anyway
        savepoint.rollback()


def _make_database(database: Database) -> None:
    url = make_url(database.settings.journal_url).set(drivername="postgresql+psycopg")
    engine = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            name = connection.dialect.identifier_preparer.quote(url.database or "")
            connection.exec_driver_sql(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
    except SQLAlchemyError as error:
        taken = psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation  # another create-journal was faster
        if isinstance(getattr(error, "orig", None), taken):
            return
        if isinstance(error, OperationalError):
            raise database_error(error, database.where) from error
        raise NeedsAttention(
            "NO_JOURNAL",
            f"the database of the journal {database.where} does not exist, and this user may not make it",
            "Let the server's administrator make it (encoding UTF8) and give it to this user; then create the journal again.",
        ) from error
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def check_version(database: Database) -> None:
    """Whether the journal's tables are those of this program.

    :raises NeedsAttention: `NO_JOURNAL`: they are older; `JOURNAL_AHEAD`: they are newer.
    """
    scripts = ScriptDirectory.from_config(_config())
    wanted = scripts.get_current_head()
    try:
        with database.engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        raise database_error(error, database.where) from error
    if found == wanted:
        return
    known = {script.revision for script in scripts.walk_revisions()}
    if found is None or found in known:
        raise NeedsAttention(
            "NO_JOURNAL",
            f"the journal {database.where} has version {found or 'none'}; this program needs version {wanted}",
            "Run `python -m account_merge create-journal` with this program's version.",
        )
    raise NeedsAttention(
        "JOURNAL_AHEAD",
        f"the journal {database.where} has version {found}, which this program does not know; it knows {wanted}",
        "Run the newer program: an older one may misread what the newer one wrote.",
    )
