"""RULES: one row for each table that is merged. The table is the documentation, the code and the tests' parameters.

Adding a table means adding a row here; the engine names none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from account_merge.rules.attempts import union_of_attempts
from account_merge.rules.derivations import (
    attempts_count,
    best_score,
    count_of,
    no_less,
    scores_of_attempts,
    twins,
    union_count,
)
from account_merge.rules.following import follow
from account_merge.rules.measures import Measure, each, elements, entries, number, same_elements, shows
from account_merge.rules.memberships import best_of_standing, of_standing, only_where
from account_merge.rules.remarks import same_name
from account_merge.rules.spec import Counts, Example, Limit, Lookup, Scope, TableRule
from account_merge.rules.strategies import (
    consent,
    earliest,
    earliest_text,
    either,
    follows,
    goes_with,
    highest,
    keep_target,
    latest,
    latest_text,
    maximum,
    per_key,
    total,
    union,
    union_by,
)

_DAY1, _DAY2 = datetime(2022, 3, 1, 10, 15, 30), datetime(2022, 3, 5, 10, 15, 30)
_CERTIFICATE = ("identifier", "token")
_certificates = union_by(*_CERTIFICATE, newer="lastIssuedOn")
_enrolled = Counts(
    "a row is an enrolment while it is active or, where nothing says whether it is, when it has an enrolled date, a status or "
    "progress: the platform writes last-read columns also where nobody is enrolled, and who left may enrol again",
    shows=("active", True),
    has=("enrolled_date", "enrolleddate", "status", "progress"),
)
_membership = highest("inactive", "active")
_role = replace(highest("member", "admin"), gap=goes_with.gap)  # nobody becomes an admin by a membership that ended
#: What the platform's fork has beside the last-read columns: it writes them together, from the content read last.
_last_read = ("lastreadcontentid", "lastreadcontentstatus", "lrc_progressdetails")
#: Rows of before the platform kept that time show only when they were last changed.
_read_at = ("lastcontentaccesstime", "datetime", "lastreadcontentstatus")
_numbers = per_key(
    {"completedCount": maximum, "score:*": maximum, "max_score:*": maximum, "attempts_count:*": maximum, "*": maximum}
)

#: Raised when a strategy or derivation gives another result under the same name.
REVISION = 2
RULES: tuple[TableRule, ...] = (
    TableRule(
        "user_activity_agg",
        user="user_id",
        key=("activity_type", "activity_id", "context_id"),
        why="Course and unit progress and the best scores: certificates are issued from them, so no key is ever dropped.",
        measures=(
            Measure(
                "points, best of each test", entries("score:", "agg", "aggregates"), where=("activity_type", "Course")
            ),
        ),
        columns={
            "aggregates": _numbers,
            "agg": _numbers,
            "agg_details": union_of_attempts,
            "agg_last_updated": per_key({"*": latest}),
        },
        derive=(
            no_less("aggregates", "agg"),
            best_score("aggregates", "agg_details", "agg"),
            best_score("agg", "agg_details"),
            union_count("aggregates", "completedCount", "finished", "agg"),
            union_count("agg", "completedCount", "finished"),
            scores_of_attempts("aggregates", "attempts", "agg"),
            attempts_count("aggregates", "agg_details", "attempts"),
            attempts_count("agg", "agg_details", "attempts"),
        ),
        scope=Scope(
            "course",
            ("activity_id", "context_id"),
            constants={"activity_type": "Course"},
            prefix="cb:",
            parts="course_hierarchy",
        ),
        unseen="progress of units",
        lookups=(
            Lookup("finished", "user_content_consumption", ("contentid",), where=("status", 2)),
            Lookup(
                "attempts",
                "assessment_aggregator",
                ("content_id", "attempt_id", "total_score", "total_max_score", "last_attempted_on"),
            ),
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
        measures=(
            Measure("enrolments", each),
            Measure(
                "certificates",
                elements("certificates", "issued_certificates"),
                same=same_elements(*_CERTIFICATE),
            ),
        ),
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
            "lrc_progressdetails": follows,
            "progress": maximum,
            "status": maximum,
        },
        forks=frozenset({"lrc_progressdetails"}),
        derive=(
            follow((("enrolled_date", "enrolleddate"),), ("addedby",), first=True),
            follow(_read_at, _last_read, unknown=True),
            twins("enrolled_date", "enrolleddate", first=True),
            count_of("progress", "contentstatus", 2),
        ),
        scope=Scope("course", ("courseid", "batchid")),
        lists_scopes=True,
        decides_skip=_enrolled,
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
            Example(
                source={"lastreadcontentid": "b", "lrc_progressdetails": '{"page": 7}', "datetime": _DAY2},
                target={"lastreadcontentid": "a", "lastreadcontentstatus": 2, "datetime": _DAY1},
                merged={"lastreadcontentid": "b", "lrc_progressdetails": '{"page": 7}', "datetime": _DAY2},
            ),
            Example(
                source={"completedon": datetime(1970, 1, 1), "lastcontentaccesstime": datetime(2200, 1, 1)},
                target={"completedon": _DAY2, "lastcontentaccesstime": _DAY2},
                merged={"completedon": _DAY2, "lastcontentaccesstime": _DAY2},
            ),
        ),
    ),
    TableRule(
        "assessment_aggregator",
        user="user_id",
        key=("course_id", "batch_id", "content_id", "attempt_id"),
        why="Test attempts keep their id; of one attempt that both accounts have, the later one stands whole.",
        measures=(Measure("test attempts", each),),
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
                ("last_attempted_on", "total_score", "updated_on", "created_on"),
                ("created_on", "updated_on", "total_score", "total_max_score", "grand_total", "question"),
                apart=True,
                unknown=True,
            ),
        ),
        scope=Scope("course", ("course_id", "batch_id")),
        examples=(
            Example(
                source={"last_attempted_on": _DAY2, "total_score": 4.0},
                target={"last_attempted_on": _DAY1, "total_score": 9.0},
                merged={"last_attempted_on": _DAY2, "total_score": 4.0},
            ),
        ),
    ),
    TableRule(
        "user_entity_enrolments",
        user="userid",
        key=("contentid", "contextid", "batchid"),
        why="Event subscriptions, where the platform has them: merged as course enrolments are.",
        measures=(Measure("event subscriptions", each),),
        columns={
            "active": either,
            "addedby": follows,
            "completedon": earliest,
            "completionpercentage": maximum,
            "datetime": latest,
            "enrolled_date": earliest,
            "issued_certificates": _certificates,
            "lastcontentaccesstime": latest,
            "lastreadcontentid": follows,
            "lastreadcontentstatus": follows,
            "lrc_progressdetails": follows,
            "progress": maximum,
            "status": maximum,
        },
        scope=Scope("event", ("contentid", "contextid", "batchid")),
        decides_skip=_enrolled,
        derive=(
            follow("enrolled_date", ("addedby",), first=True),
            follow(_read_at, _last_read, unknown=True),
        ),
        deactivated={"active": False},
        examples=(
            Example(
                source={"status": 2, "completedon": _DAY2, "active": False},
                target={"status": 1, "active": True},
                merged={"status": 2, "completedon": _DAY2, "active": True},
            ),
            Example(
                source={"completionpercentage": 96.0, "lrc_progressdetails": '{"duration": 590}', "datetime": _DAY2},
                target={"completionpercentage": 10.0, "lrc_progressdetails": '{"duration": 12}', "datetime": _DAY1},
                merged={"completionpercentage": 96.0, "lrc_progressdetails": '{"duration": 590}', "datetime": _DAY2},
            ),
        ),
    ),
    TableRule(
        "user_group",
        user="userid",
        key=(),
        why="The groups of an account: the target's own, and each in which either account is an active member, so that "
        "this list and the memberships agree.",
        columns={"groupid": union},
        scope=Scope("group", ("groupid",)),
        lists_scopes=True,
        lookups=(Lookup("memberships", "group_member", ("groupid",), where=("status", "active")),),
        derive=(only_where("groupid", "memberships", "every group in which either account is an active member"),),
        limits=(Limit(50, "groups of one account", column="groupid"),),
        keyspace="groups",
        examples=(
            Example(source={"groupid": {"g1", "g2"}}, target={"groupid": {"g2"}}, merged={"groupid": {"g1", "g2"}}),
        ),
    ),
    TableRule(
        "group_member",
        user="userid",
        key=("groupid",),
        why="Group memberships: one that has ended never ends one that is active, and who left as an admin does not come "
        "back as one. Groups are found through user_group of either account, which does not list inactive memberships.",
        measures=(Measure("active memberships", shows("status", "active")),),
        columns={
            "createdby": follows,
            "createdon": earliest,
            "removedby": goes_with,
            "removedon": goes_with,
            "role": _role,
            "status": _membership,
            "updatedby": follows,
            "updatedon": latest,
            "visited": either,
        },
        scope=Scope("group", ("groupid",)),
        unseen="inactive memberships",
        decides_skip=Counts(
            "each membership counts, an ended one too: who was removed from a group or left it does not come back by another "
            "account, and nothing earned hangs on it"
        ),
        derive=(
            of_standing("status", ("removedby", "removedon"), latest="removedon"),
            best_of_standing("status", "role", _role),
            follow("createdon", ("createdby",), first=True),
            follow("updatedon", ("updatedby",)),
        ),
        limits=(Limit(150, "active members of group", where=("status", "active")),),
        keyspace="groups",
        examples=(
            Example(
                source={"role": "admin", "status": "active", "createdon": _DAY2},
                target={"role": "member", "status": "active", "createdon": _DAY1},
                merged={"role": "admin", "status": "active", "createdon": _DAY1},
            ),
            Example(
                source={"role": "admin", "status": "inactive", "removedby": "r", "removedon": _DAY2},
                target={"role": "member", "status": "active"},
                merged={"role": "member", "status": "active"},
            ),
        ),
    ),
    TableRule(
        "program_enrollment",
        user="user_id",
        key=("program_id",),
        why="Program enrolments: one that only the source has moves. Consent is never switched on by a merge: where the "
        "target is enrolled its own stays, and an enrolment that moves comes with consent switched off, because it was "
        "given under another account.",
        measures=(Measure("program enrolments", each),),
        columns={
            "created_at": earliest,
            "organisation_id": keep_target,
            "organisation_name": keep_target,
            "pii_consent_required": consent,
            "program_externalid": keep_target,
            "program_name": keep_target,
            "updated_at": latest,
            "user_locations": keep_target,
            "user_sub_type": keep_target,
            "user_type": keep_target,
        },
        scope=Scope("program", ("program_id",), listed="program_ids"),
        unseen="program enrolments",
        decides_skip=Counts("each row is an enrolment: no column of it says otherwise"),
        keyspace="programs",
        examples=(
            Example(
                source={"created_at": date(2022, 3, 1), "pii_consent_required": True, "user_type": "teacher"},
                target={"created_at": date(2022, 3, 5), "pii_consent_required": False, "user_type": "administrator"},
                merged={"created_at": date(2022, 3, 1), "pii_consent_required": False, "user_type": "administrator"},
            ),
            Example(
                source={"program_name": "p", "pii_consent_required": True},
                target=None,
                merged={"program_name": "p", "pii_consent_required": False},
            ),
        ),
    ),
    TableRule(
        "user_content_consumption",
        user="userid",
        key=("courseid", "batchid", "contentid"),
        why="What the learner did in each lesson: effort adds up, the furthest point and the latest visit stand.",
        measures=(Measure("lessons done", shows("status", 2)), Measure("views", number("viewcount"), adds=True)),
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
            follow(
                ("progress", "completionpercentage", ("last_access_time", "lastaccesstime"), "datetime"),
                ("completionpercentage", "progressdetails"),
                apart=True,
                unknown=True,
            ),
            twins("last_access_time", "lastaccesstime"),
            twins("last_completed_time", "lastcompletedtime"),
            twins("last_updated_time", "lastupdatedtime"),
        ),
        scope=Scope("course", ("courseid", "batchid")),
        lists_scopes=True,
        last=True,
        examples=(
            Example(
                source={"status": 2, "progress": 100, "viewcount": 3, "completedcount": 1, "last_access_time": _DAY2},
                target={"status": 1, "progress": 40, "viewcount": 2, "completedcount": 0, "last_access_time": _DAY1},
                merged={"status": 2, "progress": 100, "viewcount": 5, "completedcount": 1, "last_access_time": _DAY2},
            ),
            Example(
                source={"progress": 0, "completionpercentage": 80.0, "progressdetails": '{"current": "p8"}'},
                target={"progress": 0, "completionpercentage": 20.0, "progressdetails": '{"current": "p2"}'},
                merged={"progress": 0, "completionpercentage": 80.0, "progressdetails": '{"current": "p8"}'},
            ),
        ),
    ),
)

TABLES: tuple[str, ...] = tuple(rule.table for rule in RULES)

_ASSET = "names who made or runs it; the platform hands assets over by its user-ownership-transfer"
_PERSON = "the account itself, not what was learned with it: the user service sees to it"
#: Tables with a column that looks like a user id which no rule merges, and why.
LEFT_ALONE: Mapping[str, str] = {
    "course_batch": _ASSET,
    "event_batch": _ASSET,
    "group": _ASSET,
    "bulk_upload_process": "an administrator's uploads, done and over",
    "report_user_enrolments": "a reporting copy of the enrolments, which nothing keeps up to date",
    "user_courses": "enrolments as the platform had them before user_enrolments; nothing reads it",
    "content_consumption": "lessons as the platform had them before user_content_consumption; nothing reads it",
    "user": _PERSON,
    "user_lookup": _PERSON,
    "usr_external_identity": _PERSON,
    "user_external_identity": _PERSON,
    "user_organisation": "belongs to an organisation's own account of its member: a merge gives nobody a place there",
    "user_roles": "rights are given to an account by an administrator, never by a merge",
    "user_consent": "consent was given by one account to one consumer: it is never switched on by a merge",
    "user_declarations": "declared by one account to one organisation, which has to confirm it",
    "user_feed": "notices to one account, of passing interest",
    "notification_feed": "notices to one account, of passing interest",
    "user_notes": "private notes of the account that wrote them",
    "cert_registry": "a certificate names the account that earned it; its id moves with the enrolment",
    "user_cert": "certificates in an older form; the platform itself has merged none since its release 3.6",
}


def rule_for(table: str) -> TableRule:
    """Return the rule of a logical table; a KeyError names the tables that have one."""
    for rule in RULES:
        if rule.table == table:
            return rule
    raise KeyError(f"no rule for table {table!r}; tables with a rule: {', '.join(TABLES)}")


def rules_hash(rules: tuple[TableRule, ...] = RULES) -> str:
    """Change when merges may come out otherwise: a merge that was begun under another hash is not simply gone on with.

    It covers what decides a result, and no wording.
    """
    text = "\n".join([str(REVISION), *(repr(_meaning(rule)) for rule in rules)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _meaning(rule: TableRule) -> tuple[Any, ...]:
    """Return all of a rule that decides what becomes of a row."""
    skip = rule.decides_skip
    return (
        rule.table, rule.user, rule.key, rule.keyspace, rule.last, rule.lists_scopes, rule.enrolments,
        sorted((column, strategy.name) for column, strategy in rule.columns.items()),
        [(d.columns, d.apply.__qualname__, d.leader.__qualname__ if d.leader else "") for d in rule.derive],
        (rule.scope.kind, rule.scope.columns, sorted(rule.scope.constants.items()), rule.scope.prefix),
        [(k.name, k.table, k.collect, k.where) for k in rule.lookups],
        (skip.shows, skip.has) if skip else None, sorted(rule.deactivated.items()),
    )  # fmt: skip


def _check(rules: tuple[TableRule, ...]) -> None:
    for rule in rules:
        led = {column for derivation in rule.derive for column in derivation.columns}
        for column, strategy in rule.columns.items():
            if strategy in (follows, goes_with) and column not in led:
                raise ValueError(f"{rule.table}.{column} follows a column, but no derivation leads it")
        unknown = {*rule.scope.columns, *rule.scope.constants} - {*rule.key, *rule.columns}
        if unknown:
            raise ValueError(f"{rule.table} belongs to a scope by {', '.join(sorted(unknown))}, which it lacks")


_check(RULES)
