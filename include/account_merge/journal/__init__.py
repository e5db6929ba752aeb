"""Our three tables: accounts (leases and survivors), merges (what was asked, and how far it is), log (every change).

Rows of the first two are written by conditional writes only, read with SERIAL consistency; every method may be repeated.
"""

from __future__ import annotations

import json
from importlib.resources import files

from cassandra import InvalidRequest
from cassandra.protocol import ConfigurationException, SyntaxException

from account_merge.connection.driver_errors import DRIVER_ERRORS
from account_merge.journal.accounts import Accounts
from account_merge.journal.cas import JournalSession, now

__all__ = ["JournalSession", "Journal", "now"]

SAI = " USING 'sai'"
#: Columns that journals of the first version lack.
ADDED = (
    ("log", "kept", "blob"),
    ("merges", "closed_at", "timestamp"),
    ("merges", "expiry", "text"),
    ("merges", "images_gone", "timestamp"),
    ("merges", "former", "text"),
    ("merges", "plan", "blob"),
    ("merges", "approved_by", "text"),
    ("merges", "approval_run", "text"),
)


class Journal(Accounts):
    """Merges, leases and survivors, and the making of the tables."""

    def create(self) -> None:
        """Make the keyspace, tables, columns and the hash key where they do not exist; changes nothing that exists.

        Where the server knows no storage-attached index, a secondary one serves the searches.
        """
        options = json.dumps(dict(self.settings.journal_replication)).replace('"', "'")
        statements = [f"CREATE KEYSPACE IF NOT EXISTS {self.keyspace} WITH replication = {options}"]
        ddl = files("account_merge.journal").joinpath("journal.cql").read_text().replace("{keyspace}", self.keyspace)
        statements += [s.strip() for s in ddl.split(";\n") if s.strip()]
        for statement in statements:
            try:
                self._define(statement)
            except DRIVER_ERRORS as error:
                raise self.as_error(error) from error
        self._add_columns()
        self.make_hash_key()

    def _add_columns(self) -> None:
        for table, column, cql_type in ADDED:
            known = [row.column_name for row in self.read(
                "SELECT column_name FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?",
                [self.settings.journal_keyspace, table], serial=False)]  # fmt: skip
            if column in known:
                continue
            try:
                self.session.execute(f"ALTER TABLE {self.keyspace}.{table} ADD {column} {cql_type}", timeout=60)
            except InvalidRequest as error:  # a second create-journal at the same time was faster
                if "exist" not in str(error) and "conflict" not in str(error):
                    raise self.as_error(error) from error
            except DRIVER_ERRORS as error:
                raise self.as_error(error) from error

    def _define(self, statement: str) -> None:
        try:
            self.session.execute(statement, timeout=60)
        except (InvalidRequest, ConfigurationException, SyntaxException):
            if not statement.endswith(SAI):
                raise
            self.session.execute(statement.removesuffix(SAI), timeout=60)
