"""What a process works with: the connections, opened when first needed, and the modules on top of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Self

from account_merge.connection.driver_errors import DRIVER_ERRORS, driver_error
from account_merge.intake.by_user_name import ByName
from account_merge.intake.inbox import Inbox
from account_merge.intake.proposals import Proposals
from account_merge.intake.stranded import Stranded
from account_merge.journal import Journal
from account_merge.lifecycle.deactivation import ACCOUNT, Deactivation
from account_merge.lifecycle.erasure import Erasing
from account_merge.lifecycle.failures import Failures
from account_merge.lifecycle.merging import Merging
from account_merge.lifecycle.pause_switch import Switch
from account_merge.lifecycle.retention import Expiry
from account_merge.lifecycle.settling import Settling
from account_merge.lifecycle.undoing import Undoing
from account_merge.reports.looking import Looking
from account_merge.reports.preflight import Beforehand
from account_merge.reports.queries import Asking
from account_merge.rules import RULES
from account_merge.settings import Settings
from account_merge.sunbird import coverage
from account_merge.sunbird.coverage import Coverage
from account_merge.sunbird.directory import PlatformDirectory
from account_merge.sunbird.kafka import Topics
from account_merge.sunbird.schema import Capabilities, Tables, TableSchema, capabilities, detect
from account_merge.sunbird.store import Store, connect


class Parts:
    """Opens Cassandra and Kafka when first needed, and closes what it opened; each part is made once, when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; the service may not be used afterwards."""
        if "_connection" in self.__dict__:
            self._connection[0].shutdown()
        if "topics" in self.__dict__:
            self.topics.close()

    def renewed(self) -> Self:
        """The same parts on the same open connection, which look at the cluster's tables anew; closing one closes both."""
        fresh = type(self)(self.settings)
        fresh.__dict__["_connection"] = self._connection
        return fresh

    @cached_property
    def _connection(self) -> Any:
        return connect(self.settings)

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        try:
            yield
        except DRIVER_ERRORS as error:
            raise driver_error(doing, error, self.settings) from error

    @cached_property
    def topics(self) -> Topics:
        """The platform's topics."""
        return Topics(self.settings)

    @cached_property
    def journal(self) -> Journal:
        """Our own tables."""
        return Journal(self._connection[1], self.settings)

    @cached_property
    def store(self) -> Store:
        """Learners' tables."""
        return Store(self._connection[1], self.settings, self._schema_changed)

    @cached_property
    def failures(self) -> Failures:
        """Failed events."""
        return Failures(self.journal, lambda: self.topics, self.settings)

    @cached_property
    def switch(self) -> Switch:
        """The kill switch."""
        return Switch(self.journal)

    @cached_property
    def inbox(self) -> Inbox:
        """From the topic to merges that can start."""
        return Inbox(self.journal, lambda: self.topics, self.failures, self.settings)

    @cached_property
    def capabilities(self) -> Capabilities:
        """What this Cassandra can do."""
        with self._asking("say what it can do"):
            return capabilities(self._connection[1])

    @cached_property
    def tables(self) -> Tables:
        """The rules' tables as this cluster has them."""
        found = Tables(self._detected)
        _ = found.schemas  # a table that no merge can work with is told at once
        return found

    def _detected(self) -> dict[str, TableSchema]:
        session, settings, can = self._connection[1], self.settings, self.capabilities
        with self._asking("show its schema"):
            found = {
                r.table: detect(session, r, settings.keyspace(r.keyspace), settings.table(r.table), can) for r in RULES
            }
        return {table: schema for table, schema in found.items() if schema is not None}

    def _schema_changed(self) -> None:
        if "tables" in self.__dict__:
            self.tables.forget()

    @cached_property
    def merging(self) -> Merging:
        """The steps of a merge."""
        gate = (lambda: self.coverage().need_known()) if self.settings.unknown_tables == "block" else (lambda: None)
        return Merging(
            self.store, self.journal, self.tables, self.failures, lambda: self.topics, self.settings, self.deactivation,
            gate,
        )  # fmt: skip

    @cached_property
    def directory(self) -> PlatformDirectory:
        """Who a user name is."""
        return PlatformDirectory(self._connection[1], self.store, self.settings)

    @cached_property
    def by_name(self) -> ByName:
        """Merges that an administrator asks for by user names."""
        return ByName(self.journal, self.directory, self.settings)

    @cached_property
    def deactivation(self) -> Deactivation:
        """Source accounts deactivated after their merge."""
        keyspace, session = self.settings.keyspace(ACCOUNT.keyspace), self._connection[1]
        with self._asking("show its schema"):
            schema = detect(session, ACCOUNT, keyspace, ACCOUNT.table, self.capabilities)
        return Deactivation(self.store, self.journal, self.settings, schema, self.directory)

    def coverage(self) -> Coverage:
        """Which tables with user ids the rules know."""
        return coverage.look(self._connection[1], self.settings, self.tables)

    @cached_property
    def undoing(self) -> Undoing:
        """Undo, redo, abandon and repair."""
        return Undoing(self.merging)

    @cached_property
    def settling(self) -> Settling:
        """Repairs by the clock."""
        return Settling(self.merging)

    @cached_property
    def expiry(self) -> Expiry:
        """Images that go by the clock."""
        return Expiry(self.merging)

    @cached_property
    def erasing(self) -> Erasing:
        """Persons who go by law."""
        return Erasing(self.merging, self.expiry)

    @cached_property
    def looking(self) -> Looking:
        """Previews and reports."""
        beforehand = Beforehand(self.journal, self.directory)
        return Looking(self.merging, self.undoing, lambda: self.coverage().summary(), beforehand)

    @cached_property
    def asking(self) -> Asking:
        """What pages and programs ask for, and lists for them."""
        return Asking(self.looking, self.undoing, self.inbox)

    @cached_property
    def proposals(self) -> Proposals:
        """Merges that a second person approves."""
        return Proposals(self.looking)

    @cached_property
    def stranded(self) -> Stranded:
        """The search for accounts that are switched off, own learning rows and have no merge."""
        return Stranded(self._connection[1], self.store, self.journal, self.tables, self.settings)
