"""Every setting is one row of `SETTINGS`; `Settings` is that table with checked values, the docs page is made of it.

Only the edges (DAG task, command line, web) call `Settings.from_env`; everything else is handed a `Settings`. A bad
value is refused at that moment, with the variable's name, and a secret never appears in a message or a repr.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from account_merge.errors import InvalidRequest

#: Options of the Kafka client that "nothing lost, nothing twice" hangs on; `KAFKA_CONFIG` cannot change them.
FIXED_KAFKA_OPTIONS = frozenset({
    "bootstrap.servers", "metadata.broker.list", "group.id", "enable.auto.commit", "enable.auto.offset.store",
    "auto.offset.reset", "isolation.level", "enable.partition.eof", "enable.idempotence", "acks",
    "request.required.acks", "transactional.id", "message.timeout.ms", "delivery.timeout.ms",
})  # fmt: skip

_PLAIN_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True)
class Setting:
    """One row: where the value comes from, what it may be, what it is for.

    :param default: as it would be written in the environment; `{env}` is filled with the value of `ACCOUNT_MERGE_ENV`.
    :param kind: a key of `KINDS`.
    :param least: smallest number allowed, and `most` the greatest.
    """

    field: str
    env: str
    default: str
    kind: str
    help: str
    secret: bool = False
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None


class Kind(NamedTuple):
    """How a value of this kind is read from text, and what is wrong with a read value (None = nothing)."""

    annotation: str
    says: str
    parse: Callable[[str], Any]
    problem: Callable[[Any, Setting], str | None]


def _number(value: Any, row: Setting) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return "is not a number"
    if row.least is not None and value < row.least:
        return f"is less than {row.least:g}"
    if row.most is not None and value > row.most:
        return f"is more than {row.most:g}"
    return None


def _integer(value: Any, row: Setting) -> str | None:
    return _number(value, row) if isinstance(value, int) else "is not a whole number"


def _text(value: Any, row: Setting) -> str | None:
    return None if isinstance(value, str) else "is not text"


def _servers(value: Any, row: Setting) -> str | None:
    return None if isinstance(value, str) and value.strip(", ") else "names no server"


def _topic(value: Any, row: Setting) -> str | None:
    good = isinstance(value, str) and _TOPIC_NAME.fullmatch(value) and value not in {".", ".."}
    return None if good else "is not 1 to 249 letters, digits, dots, dashes or underscores"


def _plain_name(value: Any, row: Setting) -> str | None:
    good = isinstance(value, str) and _PLAIN_NAME.fullmatch(value)
    return None if good else "is not a lower-case letter, then up to 47 lower-case letters, digits, underscores"


def _choice(value: Any, row: Setting) -> str | None:
    return None if value in row.choices else f"is not one of {', '.join(row.choices)}"


def _hosts(value: Any, row: Setting) -> str | None:
    good = isinstance(value, tuple) and value and all(isinstance(host, str) and host for host in value)
    return None if good else "names no host"


def _pauses(value: Any, row: Setting) -> str | None:
    good = isinstance(value, tuple) and all(_number(v, row) is None for v in value)
    return None if good and list(value) == sorted(set(value)) else "is not a rising list of numbers of seconds"


def _days(value: Any, row: Setting) -> str | None:
    return None if value is None else _number(value, row)


def _kafka_options(value: Any, row: Setting) -> str | None:
    if not isinstance(value, dict) or not all(isinstance(v, (str, int, float)) for v in value.values()):
        return "is not a JSON object of texts and numbers"
    fixed = sorted(FIXED_KAFKA_OPTIONS & set(value))
    return f"sets {', '.join(fixed)}, which this product decides itself" if fixed else None


def _table_names(value: Any, row: Setting) -> str | None:
    if not isinstance(value, dict):
        return "is not a JSON object"
    for logical, real in value.items():
        if _plain_name(logical, row) or _plain_name(real, row):
            return f"has an entry that is not a table's name for a table's name: {str(logical)[:60]!r}"
    if len(set(value.values())) != len(value):
        return "gives one real table to two of ours"
    return None


def _reasons(value: Any, row: Setting) -> str | None:
    good = isinstance(value, dict) and all(isinstance(why, str) and why.strip() for why in value.values())
    return None if good else "is not a JSON object that gives each table a reason"


def _moment(value: Any, row: Setting) -> str | None:
    good = value is None or (isinstance(value, datetime) and value.tzinfo is not None)
    return None if good else "is not a time with its zone, such as 2026-03-01T10:15:00Z"


def _moment_of(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _replication(value: Any, row: Setting) -> str | None:
    if not isinstance(value, dict) or not isinstance(value.get("class"), str):
        return 'is not a JSON object with a "class"'
    good = all(isinstance(v, (str, int)) and re.fullmatch(r"[A-Za-z0-9_./]+", str(v)) for v in value.values())
    good = good and all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in value)
    return None if good else "has an option that is not a plain word or number"


def _pauses_of(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in _split(text) if part != "-")


def _days_of(text: str) -> float | None:
    return None if text == "-" else float(text)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


KINDS: dict[str, Kind] = {
    "text": Kind("str", "text", str, _text),
    "servers": Kind("str", "host:port, comma separated", str, _servers),
    "topic": Kind("str", "name of a Kafka topic or group", str, _topic),
    "name": Kind("str", "lower-case name", str, _plain_name),
    "choice": Kind("str", "one of", str, _choice),
    "integer": Kind("int", "whole number", int, _integer),
    "seconds": Kind("float", "seconds", float, _number),
    "days": Kind("float | None", "days", _days_of, _days),
    "hosts": Kind("tuple[str, ...]", "hosts, comma separated", _split, _hosts),
    "pauses": Kind("tuple[float, ...]", "seconds, comma separated, rising", _pauses_of, _pauses),
    "kafka options": Kind("dict[str, Any]", "JSON object", json.loads, _kafka_options),
    "table names": Kind("dict[str, str]", "JSON object", json.loads, _table_names),
    "reasons": Kind("dict[str, str]", "JSON object", json.loads, _reasons),
    "ids": Kind("tuple[str, ...]", "ids, comma separated", _split, lambda value, row: None),
    "tables": Kind("tuple[str, ...]", "tables of docs/rules.md, comma separated", _split, lambda value, row: None),
    "moment": Kind("datetime | None", "time with its zone (ISO 8601)", _moment_of, _moment),
    "replication": Kind("dict[str, Any]", "JSON object", json.loads, _replication),
}

SETTINGS: tuple[Setting, ...] = (
    Setting("env", "ACCOUNT_MERGE_ENV", "dev", "topic",
            "Name of the installation: the first word of every topic, as everywhere on the platform."),
    Setting("kafka_bootstrap_servers", "KAFKA_BOOTSTRAP_SERVERS", "localhost:9092", "servers", "Kafka's brokers."),
    Setting("kafka_config", "KAFKA_CONFIG", "{}", "kafka options",
            "More options of librdkafka (security.protocol, sasl.username, …); what delivery hangs on is refused here.",
            secret=True),
    Setting("merge_topic", "ACCOUNT_MERGE_MERGE_TOPIC", "{env}.lms.user.account.merge", "topic",
            "Topic that merge events are read from (kafka.input.topic of the retired job)."),
    Setting("failed_topic", "ACCOUNT_MERGE_FAILED_TOPIC", "{env}.learning.events.failed", "topic",
            "Topic that failed events are written to (kafka.output.failed.topic)."),
    Setting("sync_topic", "ACCOUNT_MERGE_SYNC_TOPIC", "{env}.coursebatch.job.request", "topic",
            "Topic of batch-enrolment-sync events (kafka.output.course.batch.updater.topic)."),
    Setting("user_sync_topic", "ACCOUNT_MERGE_USER_SYNC_TOPIC", "{env}.batch.enrolment.sync.request", "topic",
            "Topic of user-enrolment-sync events."),
    Setting("consumer_group", "ACCOUNT_MERGE_CONSUMER_GROUP", "{env}-merge-courses-group", "topic",
            "Group whose committed offset says what was claimed (kafka.groupId). The default is the retired job's, so "
            "that reading goes on where it stopped."),
    Setting("sync_dialect", "ACCOUNT_MERGE_SYNC_DIALECT", "batch-enrolment-sync", "choice",
            "Which sync events a merge publishes.", choices=("batch-enrolment-sync", "user-enrolment-sync", "both")),
    Setting("sync_scope", "ACCOUNT_MERGE_SYNC_SCOPE", "all", "choice",
            "A sync event for all enrolments of the target account, or for those that the merge touched.",
            choices=("all", "touched")),
    Setting("max_event_bytes", "ACCOUNT_MERGE_MAX_EVENT_BYTES", "262144", "integer",
            "A longer merge event is refused.", least=1024, most=16777216),
    Setting("max_id_length", "ACCOUNT_MERGE_MAX_ID_LENGTH", "128", "integer",
            "A longer account id is refused.", least=1, most=1024),
    Setting("delivery_timeout_seconds", "ACCOUNT_MERGE_DELIVERY_TIMEOUT_SECONDS", "30", "seconds",
            "How long publishing waits for the brokers' acknowledgement.", least=0.5, most=600),
    Setting("cassandra_contact_points", "CASSANDRA_CONTACT_POINTS", "localhost", "hosts",
            "Cassandra's hosts to begin with."),
    Setting("cassandra_port", "CASSANDRA_PORT", "9042", "integer", "Cassandra's CQL port.", least=1, most=65535),
    Setting("cassandra_username", "CASSANDRA_USERNAME", "", "text", "User; empty means no sign-in.", secret=True),
    Setting("cassandra_password", "CASSANDRA_PASSWORD", "", "text", "Password.", secret=True),
    Setting("cassandra_local_dc", "CASSANDRA_LOCAL_DC", "", "text",
            "The data centre to talk to; empty means the only one. Where the cluster has several, it has to be named."),
    Setting("cassandra_request_timeout_seconds", "CASSANDRA_REQUEST_TIMEOUT_SECONDS", "10", "seconds",
            "How long one request to Cassandra may take.", least=0.5, most=600),
    Setting("courses_keyspace", "ACCOUNT_MERGE_COURSES_KEYSPACE", "sunbird_courses", "name",
            "Keyspace of the learners' tables (lms-cassandra.keyspace)."),
    Setting("groups_keyspace", "ACCOUNT_MERGE_GROUPS_KEYSPACE", "sunbird_groups", "name",
            "Keyspace of the group memberships."),
    Setting("programs_keyspace", "ACCOUNT_MERGE_PROGRAMS_KEYSPACE", "sunbird_programs", "name",
            "Keyspace of the program enrolments."),
    Setting("users_keyspace", "ACCOUNT_MERGE_USERS_KEYSPACE", "sunbird", "name",
            "Keyspace of the accounts themselves (table user): the search for stranded ones reads it."),
    Setting("user_name_type", "ACCOUNT_MERGE_USER_NAME_TYPE", "username", "text",
            "Which rows of user_lookup lead from a user name to the account."),
    Setting("user_name_salt", "ACCOUNT_MERGE_USER_NAME_SALT", "", "text",
            "Where the platform encrypts user names: its sunbird_encryption_key. Empty means that they are plain.",
            secret=True),
    Setting("admin_roles", "ACCOUNT_MERGE_ADMIN_ROLES", "ORG_ADMIN,SYSTEM_ADMINISTRATION", "ids",
            "Roles that make a user a site administrator."),
    Setting("tables", "ACCOUNT_MERGE_TABLE_NAMES", "{}", "table names",
            'Real names of tables that are called otherwise here: {"user_enrolments": "user_enrolments_v2"} '
            "(lms-cassandra.*.table)."),
    Setting("course_hierarchy", "ACCOUNT_MERGE_COURSE_HIERARCHY", "", "text",
            "Path of a JSON file, {course id: [unit ids]}: leads to the progress of units where user_activity_agg has no "
            "index on user_id."),
    Setting("program_ids", "ACCOUNT_MERGE_PROGRAM_IDS", "", "ids",
            "Every program of the platform: leads to enrolments where program_enrollment has no index on user_id."),
    Setting("scan_tables", "ACCOUNT_MERGE_SCAN_TABLES", "", "tables",
            "Tables that may be read as a whole to find an account's rows, where nothing else leads to them all. The keys "
            "of the whole table are read once for each merge: give it for tables that are small or indexed nowhere."),
    Setting("unknown_tables", "ACCOUNT_MERGE_UNKNOWN_TABLES", "report", "choice",
            "What a table with a user id that no rule knows means: it is named in reports, or no merge is admitted.",
            choices=("report", "block")),
    Setting("ignored_tables", "ACCOUNT_MERGE_IGNORED_TABLES", "{}", "reasons",
            'Tables of your own that no merge needs to touch, and why: {"site_badges": "made again every night"}.'),
    Setting("acting_user_parameter", "ACCOUNT_MERGE_ACTING_USER_PARAMETER", "realUserName", "text",
            "EduBrite API: the parameter that names the acting user where the header REAL_UNAME does not."),
    Setting("answer_seconds", "ACCOUNT_MERGE_ANSWER_SECONDS", "50", "seconds",
            "EduBrite API: how long a call waits for its merge's end before it says that it is not done yet.",
            least=0, most=3600),
    Setting("session_seconds", "ACCOUNT_MERGE_SESSION_SECONDS", "3600", "seconds",
            "EduBrite API: how long a session is valid.", least=10, most=86400),
    Setting("connects_per_minute", "ACCOUNT_MERGE_CONNECTS_PER_MINUTE", "20", "integer",
            "EduBrite API: sign-ins that one address, and wrong passwords that one API user, may try in a minute; each "
            "process of the API server counts for itself.", least=1, most=10000),
    Setting("journal_keyspace", "ACCOUNT_MERGE_JOURNAL_KEYSPACE", "account_merge", "name",
            "Keyspace of our own three tables."),
    Setting("journal_replication", "ACCOUNT_MERGE_JOURNAL_REPLICATION",
            '{"class": "SimpleStrategy", "replication_factor": 1}', "replication",
            "How create-journal replicates that keyspace; in production NetworkTopologyStrategy with three copies."),
    Setting("settle_after_seconds", "ACCOUNT_MERGE_SETTLE_AFTER_SECONDS", "600,86400,604800", "pauses",
            "How long after a merge what came to its source accounts since is moved as well; - for never.", least=1),
    Setting("stalled_after_seconds", "ACCOUNT_MERGE_STALLED_AFTER_SECONDS", "900", "seconds",
            "How long a merge, undo or redo under way may show no sign of life (no entry in its log, no task that runs or is "
            "about to) before the poll gives it another run. Longer than Airflow's own task_queued_timeout.",
            least=10, most=86400),
    Setting("undo_days", "ACCOUNT_MERGE_UNDO_DAYS", "90", "days",
            "How long after its end a merge can be undone, or one that was undone stand again; - for ever.", least=0),
    Setting("retention_days", "ACCOUNT_MERGE_RETENTION_DAYS", "365", "days",
            "How long after its end a merge keeps its images; then they expire (account_merge_expire); - for ever. Not "
            "shorter than ACCOUNT_MERGE_UNDO_DAYS.", least=0),
    Setting("cutover", "ACCOUNT_MERGE_CUTOVER", "", "moment",
            "The cut-over: merges asked for before this time were done by the retired job. What a source shows of totals is "
            "in the target already; everything else is merged. Empty: the retired job did none."),
    Setting("clock_margin_seconds", "ACCOUNT_MERGE_CLOCK_MARGIN_SECONDS", "2.0", "seconds",
            "Our writes are dated this much back, so that a platform writer whose clock lags by less wins over them.",
            least=0, most=60),
    Setting("platform_write_window_seconds", "ACCOUNT_MERGE_PLATFORM_WRITE_WINDOW_SECONDS", "10.0", "seconds",
            "Longest time between the platform's reading of a row and its writing it back.", least=0, most=3600),
    Setting("max_clock_skew_seconds", "ACCOUNT_MERGE_MAX_CLOCK_SKEW_SECONDS", "1.0", "seconds",
            "If our clock and Cassandra's differ by more, nothing is written and the task is retried.",
            least=0.01, most=60),
    Setting("entry_rows", "ACCOUNT_MERGE_ENTRY_ROWS", "100", "integer", "Changes in one entry of the log, at most.",
            least=1, most=5000),
    Setting("entry_bytes", "ACCOUNT_MERGE_ENTRY_BYTES", "1048576", "integer", "Bytes in one entry of the log, at most.",
            least=1024, most=4194304),
    Setting("page_rows", "ACCOUNT_MERGE_PAGE_ROWS", "1000", "integer", "Rows that one page of reading holds, at most.",
            least=1, most=5000),
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Checked values of `SETTINGS`, one field a row; made by `from_env`, altered by `replace`, never written to."""

    env: str
    kafka_bootstrap_servers: str
    kafka_config: dict[str, Any] = field(repr=False, hash=False)
    merge_topic: str
    failed_topic: str
    sync_topic: str
    user_sync_topic: str
    consumer_group: str
    sync_dialect: str
    sync_scope: str
    max_event_bytes: int
    max_id_length: int
    delivery_timeout_seconds: float
    cassandra_contact_points: tuple[str, ...]
    cassandra_port: int
    cassandra_username: str = field(repr=False)
    cassandra_password: str = field(repr=False)
    cassandra_local_dc: str
    cassandra_request_timeout_seconds: float
    courses_keyspace: str
    groups_keyspace: str
    programs_keyspace: str
    users_keyspace: str
    user_name_type: str
    user_name_salt: str = field(repr=False)
    admin_roles: tuple[str, ...]
    tables: dict[str, str] = field(hash=False)
    course_hierarchy: str
    program_ids: tuple[str, ...]
    scan_tables: tuple[str, ...]
    unknown_tables: str
    ignored_tables: dict[str, str] = field(hash=False)
    acting_user_parameter: str
    answer_seconds: float
    session_seconds: float
    connects_per_minute: int
    journal_keyspace: str
    journal_replication: dict[str, Any] = field(hash=False)
    settle_after_seconds: tuple[float, ...]
    stalled_after_seconds: float
    undo_days: float | None
    retention_days: float | None
    cutover: datetime | None
    clock_margin_seconds: float
    platform_write_window_seconds: float
    max_clock_skew_seconds: float
    entry_rows: int
    entry_bytes: int
    page_rows: int

    def __post_init__(self) -> None:
        for row in SETTINGS:
            problem = KINDS[row.kind].problem(getattr(self, row.field), row)
            if problem:
                raise _bad(row, getattr(self, row.field), problem)
        theirs = (self.courses_keyspace, self.groups_keyspace, self.programs_keyspace, self.users_keyspace)
        if self.journal_keyspace in theirs:
            raise bad_setting("journal_keyspace", self.journal_keyspace, "is the keyspace of the learners' tables")
        if self.retention_days is not None and (self.undo_days is None or self.undo_days > self.retention_days):
            raise bad_setting("retention_days", self.retention_days, "is shorter than ACCOUNT_MERGE_UNDO_DAYS")

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Settings:
        """Read every setting; a variable that is absent or blank has its default (compose files pass blanks)."""
        given: dict[str, Any] = {}
        for row in SETTINGS:
            text = environment.get(row.env, "")
            text = text if text.strip() else row.default
            if row.kind == "topic":
                text = text.replace("{env}", str(given.get("env", "")))
            try:
                given[row.field] = KINDS[row.kind].parse(text if row.secret else text.strip())
            except (ValueError, RecursionError):  # JSONDecodeError is a ValueError
                raise _bad(row, text, f"is not a {KINDS[row.kind].says}") from None
        return cls(**given)

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with these fields changed, checked like any other; nothing is derived again from `env`."""
        return dataclasses.replace(self, **changes)

    def topics(self) -> tuple[str, ...]:
        """Return the topics that are read or written under these settings."""
        batch = (self.sync_topic,) if self.sync_dialect != "user-enrolment-sync" else ()
        user = (self.user_sync_topic,) if self.sync_dialect != "batch-enrolment-sync" else ()
        return self.merge_topic, self.failed_topic, *batch, *user

    def keyspace(self, role: str) -> str:
        """Return the keyspace of a rule's role: courses, groups or programs."""
        return str(getattr(self, f"{role}_keyspace"))

    def table(self, logical: str) -> str:
        """Return the name that a table of ours has in this cluster."""
        return self.tables.get(logical, logical)


def bad_setting(field: str, value: Any, problem: str) -> InvalidRequest:
    """Return the error of a setting that can be read and does not fit the others, or what the program knows."""
    return _bad(next(row for row in SETTINGS if row.field == field), value, problem)


def _bad(row: Setting, value: Any, problem: str) -> InvalidRequest:
    shown = "its value" if row.secret else repr(value)[:120]
    default = row.default or "empty"
    return InvalidRequest(
        "BAD_SETTING",
        f"{row.env}: {shown} {problem}.",
        f"Set {row.env} right, or leave it out for its default ({default}); docs/settings.md describes it. "
        "No merge was touched.",
    )


def _check_table() -> None:
    """Refuse to import when the table and the class have drifted apart."""
    declared = [(row.field, KINDS[row.kind].annotation, not row.secret) for row in SETTINGS]
    built = [(item.name, item.type, item.repr) for item in dataclasses.fields(Settings)]
    if declared != built:
        raise TypeError(f"SETTINGS and Settings differ: {sorted(set(map(str, declared)) ^ set(map(str, built)))}")


_check_table()
