"""The composition root: the parts of a process, each made when it is first asked for.

Airflow's tasks, the pages, the command line and the tests all work with these parts. Every call may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, Self

from account_merge.connection.driver_errors import DRIVER_ERRORS, driver_error
from account_merge.connection.session import connect
from account_merge.engine.merge_tables import MergeTables
from account_merge.engine.resources import Resources
from account_merge.engine.skipped import SkippedScopes
from account_merge.intake.bulk import BulkMerges
from account_merge.intake.by_user_name import AdministratorMerges
from account_merge.intake.inbox import Inbox
from account_merge.intake.opening import Opening
from account_merge.intake.proposals import Proposals
from account_merge.intake.replay import Replays
from account_merge.intake.rescue import Rescue
from account_merge.intake.stranded import Stranded
from account_merge.journal import Journal
from account_merge.lifecycle.admission import Admission
from account_merge.lifecycle.approved_plan import ApprovedPlan
from account_merge.lifecycle.deactivation import ACCOUNT, Deactivation
from account_merge.lifecycle.draining import Draining
from account_merge.lifecycle.erasure import Erasure
from account_merge.lifecycle.failures import Failures
from account_merge.lifecycle.merging import Merging
from account_merge.lifecycle.pause_switch import PauseSwitch
from account_merge.lifecycle.repairing import Repairing
from account_merge.lifecycle.retention import Retention
from account_merge.lifecycle.settling import Settling
from account_merge.lifecycle.undo_order import UndoOrder
from account_merge.lifecycle.undoing import Undoing
from account_merge.model import Merge
from account_merge.reports.audit import Audit
from account_merge.reports.preflight import Preflight
from account_merge.reports.previews import Previews
from account_merge.reports.queries import Queries
from account_merge.reports.reader import ReportReader
from account_merge.rules import RULES, TABLES, TableRule
from account_merge.settings import Settings, bad_setting
from account_merge.sunbird import coverage
from account_merge.sunbird.catalogue import capabilities_of, described
from account_merge.sunbird.coverage import Coverage
from account_merge.sunbird.detection import detect
from account_merge.sunbird.kafka import Topics
from account_merge.sunbird.publishing import Publisher
from account_merge.sunbird.schema import Capabilities, Tables, TableSchema
from account_merge.sunbird.store import Store
from account_merge.sunbird.users import PlatformDirectory


class Service(AbstractContextManager["Service"]):
    """Opens PostgreSQL, Cassandra and Kafka when first needed, and closes what it opened.

    :raises InvalidRequest: a setting names a table without a rule.
    """

    def __init__(self, settings: Settings) -> None:
        if unknown := [name for name in settings.scan_tables if name not in TABLES]:
            problem = f"names {unknown[0][:60]!r}, which is none of {', '.join(TABLES)}"
            raise bad_setting("scan_tables", settings.scan_tables, problem)
        self.settings = settings

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the service may not be used afterwards."""
        if "_connection" in self.__dict__:
            self._connection[0].shutdown()
        for name in self.__dict__.keys() & {"journal", "topics", "publisher"}:
            getattr(self, name).close()

    def renewed(self) -> Self:
        """Return parts on the same open connections that detect the cluster's tables anew; closing one closes both."""
        fresh = type(self)(self.settings)
        fresh.__dict__["_connection"], fresh.__dict__["journal"] = self._connection, self.journal
        return fresh

    # --- connections ------------------------------------------------------------------------------------------------
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
        """The platform's topics, to read them."""
        return Topics(self.settings)

    @cached_property
    def publisher(self) -> Publisher:
        """The platform's topics, to write to them."""
        return Publisher(self.settings)

    @cached_property
    def journal(self) -> Journal:
        """Our own tables."""
        return Journal(self.settings)

    @cached_property
    def store(self) -> Store:
        """Learners' tables."""
        return Store(self._connection[1], self.settings, self._schema_changed)

    @cached_property
    def capabilities(self) -> Capabilities:
        """Capabilities of this Cassandra."""
        with self._asking("say what it can do"):
            return capabilities_of(self._connection[1])

    @cached_property
    def tables(self) -> Tables:
        """The rules' tables as this cluster has them."""
        found = Tables(lambda: self._detect(RULES))
        _ = found.schemas  # a table that no merge can work with raises at once
        return found

    def _detect(self, rules: Iterable[TableRule]) -> dict[str, TableSchema]:
        """Return the tables of these rules that the cluster has."""
        session, settings, able = self._connection[1], self.settings, self.capabilities
        named = [(rule, (settings.keyspace(rule.keyspace), settings.table(rule.table))) for rule in rules]
        with self._asking("show its schema"):
            there = described(session, [name for _, name in named])
        return {rule.table: detect(there[name], rule, *name, able) for rule, name in named if name in there}

    def _schema_changed(self) -> None:
        if "tables" in self.__dict__:
            self.tables.forget()

    def coverage(self) -> Coverage:
        """Return which tables with user ids the rules know; the cluster is asked each time."""
        return coverage.survey(self._connection[1], self.settings, self.tables)

    @cached_property
    def directory(self) -> PlatformDirectory:
        """The platform's users by name."""
        return PlatformDirectory(self._connection[1], self.store, self.settings)

    # --- the engine -------------------------------------------------------------------------------------------------
    @cached_property
    def _resources(self) -> Resources:
        return Resources(self.settings, self.store, self.tables, self.journal)

    @cached_property
    def skipped(self) -> SkippedScopes:
        """Scopes of a merge that stay as they are."""
        return SkippedScopes(self._resources)

    @cached_property
    def _merge_tables(self) -> MergeTables:
        return MergeTables(self._resources, self.skipped)

    # --- the life of a merge ----------------------------------------------------------------------------------------
    @cached_property
    def failures(self) -> Failures:
        """Failed events."""
        return Failures(self.journal, self.topics, self.publisher, self.settings)

    @cached_property
    def switch(self) -> PauseSwitch:
        """The kill switch."""
        return PauseSwitch(self.journal)

    @cached_property
    def draining(self) -> Draining:
        """Lets nothing new start, before an upgrade."""
        return Draining(self.journal)

    @cached_property
    def _plans(self) -> ApprovedPlan:
        return ApprovedPlan(self._merge_tables)

    @cached_property
    def admission(self) -> Admission:
        """Lets merges begin."""
        return Admission(self.journal, self._merge_tables, self.failures, self.switch, self._plans, self._may_begin)

    def _may_begin(self, merge: Merge) -> None:
        if self.settings.unknown_tables == "block":
            self.coverage().need_known()
        self.deactivation.check(merge)

    @cached_property
    def deactivation(self) -> Deactivation:
        """Source accounts deactivated after their merge."""
        return Deactivation(self._resources, lambda: self._detect((ACCOUNT,)).get(ACCOUNT.table), self.directory)

    @cached_property
    def merging(self) -> Merging:
        """The steps of a merge."""
        return Merging(
            self._merge_tables, self.admission, self.failures, self.switch, self.deactivation, self.publisher
        )

    @cached_property
    def _order(self) -> UndoOrder:
        return UndoOrder(self.journal, self.settings)

    @cached_property
    def undoing(self) -> Undoing:
        """Undo, redo and abandon."""
        return Undoing(self._merge_tables, self._order, self.switch, self.deactivation, self.publisher)

    @cached_property
    def repairing(self) -> Repairing:
        """Repairs by a person."""
        return Repairing(self.journal, self._order)

    @cached_property
    def settling(self) -> Settling:
        """Repairs by the clock."""
        return Settling(self.journal, self.settings, self.merging)

    @cached_property
    def retention(self) -> Retention:
        """Redacts images after the retention period."""
        return Retention(self._resources, self._plans)

    @cached_property
    def erasure(self) -> Erasure:
        """Erases a person on request."""
        return Erasure(self.journal, self.retention)

    # --- how merges come in -----------------------------------------------------------------------------------------
    @cached_property
    def inbox(self) -> Inbox:
        """From the topic to merges that can start."""
        return Inbox(self.journal, self.topics, self.settings)

    @cached_property
    def bulk(self) -> BulkMerges:
        """Many merges in one run."""
        return BulkMerges(self.journal, self.inbox, self.merging)

    @cached_property
    def opening(self) -> Opening:
        """Merges that people, programs and runs ask for."""
        return Opening(self.journal, self.settings, self.inbox)

    @cached_property
    def proposals(self) -> Proposals:
        """Merges that a second person approves."""
        return Proposals(self.journal, self.settings, self._plans)

    @cached_property
    def replays(self) -> Replays:
        """Failed merges and refused events, opened again."""
        return Replays(self.journal, self.settings)

    @cached_property
    def rescue(self) -> Rescue:
        """Merges of the past, named line by line."""
        return Rescue(self.journal, self.previews.preview_table, self.settings)

    @cached_property
    def by_user_name(self) -> AdministratorMerges:
        """Merges that an administrator asks for by user names."""
        return AdministratorMerges(self.journal, self.directory, self.settings)

    @cached_property
    def stranded(self) -> Stranded:
        """Search for accounts that are switched off, own learning rows and have no merge."""
        return Stranded(self._connection[1], self.store, self.journal, self.tables, self.settings)

    # --- reports for people -------------------------------------------------------------------------------------------
    @cached_property
    def previews(self) -> Previews:
        """Previews of merges and undos."""
        preflight = Preflight(self.journal, self.directory)
        return Previews(self._merge_tables, self.undoing, lambda: self.coverage().summary(), preflight)

    @cached_property
    def reader(self) -> ReportReader:
        """Reports of merges."""
        return ReportReader(self._merge_tables, self.deactivation, lambda: self.coverage().summary())

    @cached_property
    def queries(self) -> Queries:
        """Status, lists, and the history of an account or a merge."""
        return Queries(self.journal, self.switch, self.undoing, self.reader)

    @cached_property
    def audit(self) -> Audit:
        """Comparison of a merge's log with the log itself and with the tables."""
        return Audit(self._merge_tables, self.deactivation, self.reader)
