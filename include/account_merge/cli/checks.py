"""Checks of connections and capabilities: what works here, what an older server lacks, and what that weakens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from account_merge.errors import MergeError
from account_merge.journal.durability import durability, server_version
from account_merge.rules import RULES
from account_merge.sunbird.row_finder import RowFinder

if TYPE_CHECKING:
    from account_merge.service import Service


@dataclass(frozen=True)
class Check:
    """Result of one check. One that is not `ok` has a remedy."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def run_checks(service: Service) -> list[Check]:
    """Run every check, each by a real request; one that fails does not stop the others."""
    lookups: tuple[tuple[str, Callable[[Service], Check]], ...] = (
        ("Cassandra", _cassandra),
        ("capabilities", _capabilities),
        ("journal", _journal),
        ("learners' tables", _tables),
        ("finding rows", _sources),
        ("coverage", _coverage),
        ("Kafka", _kafka),
    )
    found = []
    for name, look in lookups:
        try:
            found.append(look(service))
        except MergeError as error:
            found.append(Check(name, False, f"{error.code}: {error.message}", error.remedy))
    return found


def _cassandra(service: Service) -> Check:
    service.store.safe_timestamp()
    return Check(
        "Cassandra", True, f"answers at {', '.join(service.settings.cassandra_contact_points)}; the clocks agree"
    )


def _capabilities(service: Service) -> Check:
    can = service.capabilities
    lacks = []
    if not can.collection_write_times:
        lacks.append(
            "no write times of collections: one that the platform wrote with a clock ahead of ours is noticed only when it "
            "hides what a merge wrote; such a merge ends as needs_attention"
        )
    elif not can.element_write_times:
        lacks.append(
            "no write times of single elements: an element that a map or set has already is put above its newest one"
        )
    return Check("capabilities", True, f"Cassandra {can.server}; {'; '.join(lacks) or 'it has all that is used'}")


def _journal(service: Service) -> Check:
    journal = service.journal
    journal.check_version()
    weak = durability(journal)
    detail = f"PostgreSQL {server_version(journal)}, {journal.where}"
    return Check("journal", True, f"{detail}; {'; '.join(weak) or 'what it acknowledges is on the disk'}")


def _tables(service: Service) -> Check:
    present = [r.table for r in RULES if service.tables.of(r)]
    absent = [r.table for r in RULES if not service.tables.of(r)]
    detail = f"found {', '.join(present) or 'none'}" + (f"; absent: {', '.join(absent)}" if absent else "")
    remedy = "Name the keyspaces in ACCOUNT_MERGE_COURSES_KEYSPACE and its like, other table names in ACCOUNT_MERGE_TABLE_NAMES."
    return Check("learners' tables", bool(present), detail, remedy)


def _sources(service: Service) -> Check:
    found = RowFinder(service.store, service.tables, service.settings, ())
    notes, offers = [], []
    for rule in RULES:
        schema = service.tables.of(rule)
        note = found.unseen(rule)
        if schema and note:
            notes.append(f"{rule.table}: {note}")
            offers.append(f"CREATE INDEX ON {schema.full_name} ({schema.user.actual}) USING 'sai'")
    if not notes:
        return Check("finding rows", True, "every row of an account is found")
    return Check("finding rows", True, f"{'; '.join(notes)}. For an index: {'; '.join(offers)}")


def _coverage(service: Service) -> Check:
    found = service.coverage().summary()
    unknown = ", ".join(found["unknown"])
    detail = (
        f"tables with user ids: {found['covered']} merged, {found['ignored']} left alone, unknown: {unknown or 'none'}"
    )
    blocked = bool(unknown) and service.settings.unknown_tables == "block"
    remedy = "No merge is admitted: give them a rule, or name them with a reason in ACCOUNT_MERGE_IGNORED_TABLES."
    return Check("coverage", not blocked, detail, remedy if blocked else "")


def _kafka(service: Service) -> Check:
    return Check("Kafka", True, service.topics.health())
