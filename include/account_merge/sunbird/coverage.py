"""Coverage: each table with something like a user id is merged by a rule, left alone with a reason, or unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypedDict

from account_merge.errors import NeedsAttention
from account_merge.rules import LEFT_ALONE, RULES
from account_merge.settings import Settings
from account_merge.sunbird.catalogue import columns_of
from account_merge.sunbird.schema import Tables

_WHO = "user|learner|student|member|participant|account|owner|actor|mentor|recipient"
_DID = "add|creat|updat|modifi|remov|manag|upload|request|approv|submitt|invit|enroll?"
#: Names of columns that may hold a user id, underscores left out: userid, fromuserid, mentors, recipient, createdby, …
USER_ID = re.compile(rf".*({_WHO})(ids?|s)?|.*({_DID})edby")


@dataclass(frozen=True)
class TableCoverage:
    """One table with a column that looks like a user id.

    :param state: `covered`, `ignored` or `unknown`.
    :param why: the rule's table, or the reason to leave it alone; empty when it is unknown.
    """

    keyspace: str
    table: str
    columns: tuple[str, ...]
    state: str
    why: str

    @property
    def name(self) -> str:
        """Keyspace and table."""
        return f"{self.keyspace}.{self.table}"


class CoverageSummary(TypedDict):
    """Numbers of the tables that the rules know, and the names of the others."""

    covered: int
    ignored: int
    unknown: list[str]


@dataclass(frozen=True)
class Coverage:
    """Coverage of this cluster's tables by the rules."""

    tables: tuple[TableCoverage, ...]

    def names(self, state: str) -> list[str]:
        """Return the tables in a state."""
        return [table.name for table in self.tables if table.state == state]

    def summary(self) -> CoverageSummary:
        """Return the numbers of tables by state, and the unknown ones by name."""
        return {
            "covered": len(self.names("covered")),
            "ignored": len(self.names("ignored")),
            "unknown": self.names("unknown"),
        }

    def need_known(self) -> None:
        """Refuse unknown tables, for sites where no table may be left out.

        :raises NeedsAttention: there is an unknown table.
        """
        unknown = self.names("unknown")
        if unknown:
            raise NeedsAttention(
                "UNKNOWN_TABLES",
                f"no merge is admitted: no rule knows {', '.join(unknown)}, which may hold what an account owns",
                "Give the table a rule, or name it with a reason in ACCOUNT_MERGE_IGNORED_TABLES; or set "
                "ACCOUNT_MERGE_UNKNOWN_TABLES=report. Then clear the task `admit`.",
            )


def like_user_ids(columns: Iterable[str]) -> tuple[str, ...]:
    """Return the columns whose names look like that of a user id."""
    return tuple(column for column in columns if USER_ID.fullmatch(column.replace("_", "").lower()))


def survey(session: Any, settings: Settings, tables: Tables) -> Coverage:
    """Compare the tables of the configured keyspaces with the rules. Reads names only."""
    merged = {(s.keyspace, s.name): logical for logical, s in tables.schemas.items()}
    reasons = {**LEFT_ALONE, **settings.ignored_tables}
    found = []
    for keyspace in sorted({settings.keyspace(rule.keyspace) for rule in RULES}):
        for table, columns in columns_of(session, keyspace).items():
            users = like_user_ids(columns)
            if (keyspace, table) in merged:
                found.append(TableCoverage(keyspace, table, users, "covered", merged[keyspace, table]))
            elif users:
                why = reasons.get(table, "")
                found.append(TableCoverage(keyspace, table, users, "ignored" if why else "unknown", why))
    return Coverage(tuple(found))
