"""RULES: one row for each table that is merged. The table is the documentation, the code and the tests' parameters.

Adding a table means adding a row here; the engine names none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from account_merge.derive import (
    Derivation,
    Remark,
    attempts_count,
    best_score,
    count_of,
    follow,
    no_less,
    same_name,
    twins,
    union_count,
)
from account_merge.model import Key
from account_merge.strategies import (
    Strategy,
    earliest,
    earliest_text,
    either,
    follows,
    keep_target,
    keep_target_fill_gaps,
    latest,
    latest_text,
    maximum,
    per_key,
    total,
    union_by,
    union_of_attempts,
)


@dataclass(frozen=True)
class Example:
    """A worked example: what the source and the target have, and what the target has after the merge."""

    source: Mapping[str, Any]
    target: Mapping[str, Any] | None
    merged: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """What a row belongs to: a course and batch, say. Rows of several tables meet in one place.

    :param kind: places of two tables are the same when their kinds and values are.
    :param columns: key columns whose values name the place, in the order of the kind.
    :param constants: other key columns, which have one fixed value.
    :param prefix: what stands before the value in the last of the columns.
    :param parts: the setting whose file lists the parts of what the first column names (a course's units); a row may
        name a part instead.
    """

    kind: str
    columns: tuple[str, ...]
    constants: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    parts: str = ""

    def bind(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """The key columns that a place decides, with their values."""
        known = dict(zip(self.columns, values, strict=True))
        return {**self.constants, **known, self.columns[-1]: f"{self.prefix}{values[-1]}"}

    def of(self, known: Mapping[str, Any]) -> tuple[Any, ...]:
        """The place that these columns name."""
        *first, last = (known[column] for column in self.columns)
        return *first, str(last).removeprefix(self.prefix)


@dataclass(frozen=True)
class Look:
    """Rows of another table that a rule may look at: both accounts' rows of the same place.

    :param collect: columns whose values are collected (one: the value, more: a tuple).
    :param where: only rows with this value in this column.
    """

    name: str
    table: str
    collect: tuple[str, ...]
    where: tuple[str, Any] | None = None


@dataclass(frozen=True)
class TableRule:
    """What a merge does with one table.

    :param user: the column that holds the account.
    :param key: the rest of the primary key, in clustering order.
    :param columns: column -> strategy; a column that is not listed keeps the target's value and fills gaps.
    :param derive: what follows from several columns, applied in this order.
    :param belongs: the place of each row.
    :param gives: the account's rows tell which places of that kind it touched; other tables' rows are found through them.
    :param unseen: in words, the rows of an account that no such place leads to; empty where the places lead to all.
    :param looks: other tables' rows that the derivations need.
    :param enrolments: each row is one enrolment: the sync events are made from these.
    :param deactivated: what an inactive row shows, for `source_rows: deactivate`; empty where rows have no such state.
    :param remarks: what people should know of a merged row.
    :param last: merged after every other table.
    """

    table: str
    user: str
    key: tuple[str, ...]
    why: str
    columns: Mapping[str, Strategy]
    belongs: Place
    derive: tuple[Derivation, ...] = ()
    gives: bool = False
    unseen: str = ""
    looks: tuple[Look, ...] = ()
    enrolments: bool = False
    deactivated: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    last: bool = False
    examples: tuple[Example, ...] = ()

    def strategy(self, column: str) -> Strategy:
        """The strategy of a column, also of one that no rule knows."""
        return self.columns.get(column, keep_target_fill_gaps)

    def place(self, key: Key) -> tuple[Any, ...]:
        """The place that a key belongs to."""
        return self.belongs.of(dict(zip(self.key, key, strict=True)))


_DAY1, _DAY2 = datetime(2022, 3, 1, 10, 15, 30), datetime(2022, 3, 5, 10, 15, 30)
_certificates = union_by("identifier", "token", newer="lastIssuedOn")
_numbers = per_key(
    {"completedCount": maximum, "score:*": maximum, "max_score:*": maximum, "attempts_count:*": maximum, "*": maximum}
)

RULES: tuple[TableRule, ...] = (
    TableRule(
        "user_activity_agg",
        user="user_id",
        key=("activity_type", "activity_id", "context_id"),
        why="Course and unit progress and the best scores: certificates are issued from them, so no key is ever dropped.",
        columns={
            "aggregates": _numbers,
            "agg": _numbers,
            "agg_details": union_of_attempts,
            "agg_last_updated": per_key({"*": latest}),
        },
        derive=(
            no_less("aggregates", "agg"),
            best_score("aggregates", "agg"),
            best_score("agg"),
            union_count("aggregates", "completedCount", "finished", "agg"),
            union_count("agg", "completedCount", "finished"),
            attempts_count("aggregates", "agg_details", "attempts"),
            attempts_count("agg", "agg_details", "attempts"),
        ),
        belongs=Place(
            "course",
            ("activity_id", "context_id"),
            constants={"activity_type": "Course"},
            prefix="cb:",
            parts="course_hierarchy",
        ),
        unseen="progress of units",
        looks=(
            Look("finished", "user_content_consumption", ("contentid",), where=("status", 2)),
            Look("attempts", "assessment_aggregator", ("content_id", "attempt_id")),
        ),
        examples=(
            Example(
                source={"aggregates": {"completedCount": 1.0, "score:q": 7.0, "max_score:q": 10.0}},
                target={"aggregates": {"completedCount": 2.0, "score:q": 5.0, "max_score:q": 20.0}},
                merged={"aggregates": {"completedCount": 2.0, "score:q": 7.0, "max_score:q": 10.0}},
            ),
        ),
    ),
    TableRule(
        "user_enrolments",
        user="userid",
        key=("courseid", "batchid"),
        why="Course enrolments: an enrolment that only the source has moves whole; where both are enrolled, the further "
        "progress, the first completion and every certificate stand.",
        columns={
            "active": either,
            "addedby": follows,
            "certificates": _certificates,
            "certstatus": maximum,
            "completedon": earliest,
            "completionpercentage": maximum,
            "contentstatus": per_key({"*": maximum}),
            "datetime": latest,
            "enrolled_date": earliest,
            "enrolleddate": earliest_text,
            "issued_certificates": _certificates,
            "lastcontentaccesstime": latest,
            "lastreadcontentid": follows,
            "lastreadcontentstatus": follows,
            "progress": maximum,
            "status": maximum,
        },
        derive=(
            follow(("enrolled_date", "enrolleddate"), ("addedby",), first=True),
            follow("lastcontentaccesstime", ("lastreadcontentid", "lastreadcontentstatus")),
            twins("enrolled_date", "enrolleddate", first=True),
            count_of("progress", "contentstatus", 2),
        ),
        belongs=Place("course", ("courseid", "batchid")),
        gives=True,
        enrolments=True,
        deactivated={"active": False},
        remarks=(same_name("certificates"), same_name("issued_certificates")),
        examples=(
            Example(
                source={
                    "status": 2,
                    "progress": 2,
                    "contentstatus": {"a": 2, "b": 2},
                    "completedon": _DAY2,
                    "active": False,
                },
                target={"status": 1, "progress": 1, "contentstatus": {"c": 2}, "active": True},
                merged={
                    "status": 2,
                    "progress": 3,
                    "contentstatus": {"a": 2, "b": 2, "c": 2},
                    "completedon": _DAY2,
                    "active": True,
                },
            ),
        ),
    ),
    TableRule(
        "assessment_aggregator",
        user="user_id",
        key=("course_id", "batch_id", "content_id", "attempt_id"),
        why="Test attempts keep their id; of one attempt that both accounts have, the later one stands whole.",
        columns={
            "last_attempted_on": latest,
            "created_on": follows,
            "updated_on": follows,
            "total_score": follows,
            "total_max_score": follows,
            "grand_total": follows,
            "question": follows,
        },
        derive=(
            follow(
                "last_attempted_on",
                ("created_on", "updated_on", "total_score", "total_max_score", "grand_total", "question"),
            ),
        ),
        belongs=Place("course", ("course_id", "batch_id")),
        examples=(
            Example(
                source={"last_attempted_on": _DAY2, "total_score": 4.0},
                target={"last_attempted_on": _DAY1, "total_score": 9.0},
                merged={"last_attempted_on": _DAY2, "total_score": 4.0},
            ),
        ),
    ),
    TableRule(
        "user_content_consumption",
        user="userid",
        key=("courseid", "batchid", "contentid"),
        why="What the learner did in each lesson: effort adds up, the furthest point and the latest visit stand.",
        columns={
            "status": maximum,
            "progress": maximum,
            "viewcount": total,
            "completedcount": total,
            "completionpercentage": follows,
            "progressdetails": follows,
            "datetime": latest,
            "last_access_time": latest,
            "last_completed_time": latest,
            "last_updated_time": latest,
            "lastaccesstime": latest_text,
            "lastcompletedtime": latest_text,
            "lastupdatedtime": latest_text,
        },
        derive=(
            follow("progress", ("completionpercentage", "progressdetails")),
            twins("last_access_time", "lastaccesstime"),
            twins("last_completed_time", "lastcompletedtime"),
            twins("last_updated_time", "lastupdatedtime"),
        ),
        belongs=Place("course", ("courseid", "batchid")),
        gives=True,
        last=True,
        examples=(
            Example(
                source={"status": 2, "progress": 100, "viewcount": 3, "completedcount": 1, "last_access_time": _DAY2},
                target={"status": 1, "progress": 40, "viewcount": 2, "completedcount": 0, "last_access_time": _DAY1},
                merged={"status": 2, "progress": 100, "viewcount": 5, "completedcount": 1, "last_access_time": _DAY2},
            ),
        ),
    ),
)

TABLES: tuple[str, ...] = tuple(rule.table for rule in RULES)


def rule_for(table: str) -> TableRule:
    """The rule of a logical table; a KeyError names the tables that have one."""
    for rule in RULES:
        if rule.table == table:
            return rule
    raise KeyError(f"no rule for table {table!r}; tables with a rule: {', '.join(TABLES)}")


def rules_hash(rules: tuple[TableRule, ...] = RULES) -> str:
    """Changes when a rule's meaning may have changed: a merge is finished by the rules that it was begun with."""
    text = "\n".join(
        f"{r.table} {r.key} {sorted((c, s.name) for c, s in r.columns.items())} {[(d.columns, d.why) for d in r.derive]}"
        for r in rules
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check(rules: tuple[TableRule, ...]) -> None:
    for rule in rules:
        led = {column for derivation in rule.derive for column in derivation.columns}
        for column, strategy in rule.columns.items():
            if strategy is follows and column not in led:
                raise ValueError(f"{rule.table}.{column} follows a column, but no derivation leads it")
        unknown = {*rule.belongs.columns, *rule.belongs.constants} - {*rule.key}
        if unknown:
            raise ValueError(f"{rule.table} belongs to a place by {', '.join(sorted(unknown))}, which its key lacks")


_check(RULES)
__all__ = ["RULES", "TABLES", "Example", "Look", "Place", "TableRule", "keep_target", "rule_for", "rules_hash"]
