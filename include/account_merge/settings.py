"""Every setting is one field of `Settings`: its variable, type, default, bounds and what it is for.

Only the edges (DAG task, command line, web) call `Settings.from_env`; everything else is handed a `Settings`. A bad
value is refused at that moment, with the variable's name, and a secret never appears in a message or a repr.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from typing import Any, Literal, NoReturn, Self, get_args

from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from account_merge import setting_types as types
from account_merge.errors import InvalidRequest

#: Pydantic's type of an error -> our words; for any other, the kind's own.
_PROBLEMS = {
    "greater_than_equal": "is less than {ge:g}",
    "less_than_equal": "is more than {le:g}",
    "literal_error": "is not one of {choices}",
    "value_error": "{error}",
}


def setting(variable: str, default: Any, *, help: str, least: float | None = None, most: float | None = None,
            secret: bool = False) -> Any:  # fmt: skip
    """Return the field of one setting.

    :param least: smallest number allowed, and `most` the greatest.
    """
    return Field(default, validation_alias=variable, description=help, ge=least, le=most, repr=not secret)


class Settings(BaseSettings):
    """Checked values of all settings; made by `from_env`, altered by `replace`, never written to."""

    model_config = SettingsConfigDict(
        strict=True, populate_by_name=True, loc_by_alias=False, hide_input_in_errors=True, regex_engine="python-re"
    )

    # fmt: off
    env: types.Topic = setting("ACCOUNT_MERGE_ENV", "dev",
        help="Name of the installation: the first word of every topic, as everywhere on the platform.")
    kafka_bootstrap_servers: types.Servers = setting("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092",
        help="Kafka's brokers.")
    kafka_config: types.KafkaOptions = setting("KAFKA_CONFIG", {}, secret=True,
        help="More options of librdkafka (security.protocol, sasl.username, …); those that delivery depends on are "
             "refused.")
    merge_topic: types.Topic = setting("ACCOUNT_MERGE_MERGE_TOPIC", "{env}.lms.user.account.merge",
        help="Topic that merge events are read from (kafka.input.topic of the retired job).")
    failed_topic: types.Topic = setting("ACCOUNT_MERGE_FAILED_TOPIC", "{env}.learning.events.failed",
        help="Topic that failed events are written to (kafka.output.failed.topic).")
    sync_topic: types.Topic = setting("ACCOUNT_MERGE_SYNC_TOPIC", "{env}.coursebatch.job.request",
        help="Topic of batch-enrolment-sync events (kafka.output.course.batch.updater.topic).")
    user_sync_topic: types.Topic = setting("ACCOUNT_MERGE_USER_SYNC_TOPIC", "{env}.batch.enrolment.sync.request",
        help="Topic of user-enrolment-sync events.")
    consumer_group: types.Topic = setting("ACCOUNT_MERGE_CONSUMER_GROUP", "{env}-merge-courses-group",
        help="Group whose committed offset marks the claimed events (kafka.groupId). The default is the retired job's: "
             "reading goes on where that job stopped.")
    sync_dialect: Literal["batch-enrolment-sync", "user-enrolment-sync", "both"] = setting(
        "ACCOUNT_MERGE_SYNC_DIALECT", "batch-enrolment-sync",
        help="Kind of sync events that a merge publishes.")
    sync_scope: Literal["all", "touched"] = setting("ACCOUNT_MERGE_SYNC_SCOPE", "all",
        help="A sync event for all enrolments of the target account, or for those that the merge touched.")
    max_event_bytes: types.Integer = setting("ACCOUNT_MERGE_MAX_EVENT_BYTES", 262144, least=1024, most=16777216,
        help="A longer merge event is refused.")
    max_id_length: types.Integer = setting("ACCOUNT_MERGE_MAX_ID_LENGTH", 128, least=1, most=1024,
        help="A longer account id is refused.")
    delivery_timeout_seconds: types.Seconds = setting("ACCOUNT_MERGE_DELIVERY_TIMEOUT_SECONDS", 30, least=0.5, most=600,
        help="How long publishing waits for the brokers' acknowledgement.")
    cassandra_contact_points: types.Hosts = setting("CASSANDRA_CONTACT_POINTS", ("localhost",),
        help="Cassandra's hosts to begin with.")
    cassandra_port: types.Integer = setting("CASSANDRA_PORT", 9042, least=1, most=65535, help="Cassandra's CQL port.")
    cassandra_username: str = setting("CASSANDRA_USERNAME", "", secret=True, help="User; empty means no sign-in.")
    cassandra_password: str = setting("CASSANDRA_PASSWORD", "", secret=True, help="Password.")
    cassandra_local_dc: str = setting("CASSANDRA_LOCAL_DC", "",
        help="The data centre to talk to; empty means the only one. Where the cluster has several, it has to be named.")
    cassandra_request_timeout_seconds: types.Seconds = setting(
        "CASSANDRA_REQUEST_TIMEOUT_SECONDS", 10, least=0.5, most=600,
        help="How long one request to Cassandra may take.")
    courses_keyspace: types.PlainName = setting("ACCOUNT_MERGE_COURSES_KEYSPACE", "sunbird_courses",
        help="Keyspace of the learners' tables (lms-cassandra.keyspace).")
    groups_keyspace: types.PlainName = setting("ACCOUNT_MERGE_GROUPS_KEYSPACE", "sunbird_groups",
        help="Keyspace of the group memberships.")
    programs_keyspace: types.PlainName = setting("ACCOUNT_MERGE_PROGRAMS_KEYSPACE", "sunbird_programs",
        help="Keyspace of the program enrolments.")
    users_keyspace: types.PlainName = setting("ACCOUNT_MERGE_USERS_KEYSPACE", "sunbird",
        help="Keyspace of the accounts themselves (table user): the search for stranded ones reads it.")
    user_name_type: str = setting("ACCOUNT_MERGE_USER_NAME_TYPE", "username",
        help="Type of the rows of user_lookup that lead from a user name to the account.")
    user_name_salt: str = setting("ACCOUNT_MERGE_USER_NAME_SALT", "", secret=True,
        help="The platform's sunbird_encryption_key where it encrypts user names. Empty means that they are plain.")
    admin_roles: types.Ids = setting("ACCOUNT_MERGE_ADMIN_ROLES", ("ORG_ADMIN", "SYSTEM_ADMINISTRATION"),
        help="Roles that make a user a site administrator.")
    tables: types.TableNames = setting("ACCOUNT_MERGE_TABLE_NAMES", {},
        help='Real names of tables that are called otherwise here: {"user_enrolments": "user_enrolments_v2"} '
             "(lms-cassandra.*.table).")
    course_hierarchy: str = setting("ACCOUNT_MERGE_COURSE_HIERARCHY", "",
        help="Path of a JSON file, {course id: [unit ids]}: leads to the progress of units where user_activity_agg has "
             "no index on user_id.")
    program_ids: types.Ids = setting("ACCOUNT_MERGE_PROGRAM_IDS", (),
        help="Every program of the platform: leads to enrolments where program_enrollment has no index on user_id.")
    scan_tables: types.Tables = setting("ACCOUNT_MERGE_SCAN_TABLES", (),
        help="Tables that may be read as a whole to find an account's rows, where nothing else leads to them all. The "
             "keys of the whole table are read once for each merge: give it for tables that are small or indexed "
             "nowhere.")
    unknown_tables: Literal["report", "block"] = setting("ACCOUNT_MERGE_UNKNOWN_TABLES", "report",
        help="Answer to a table with a user id that no rule knows: reports name it, or no merge is admitted.")
    ignored_tables: types.Reasons = setting("ACCOUNT_MERGE_IGNORED_TABLES", {},
        help='Tables of your own that no merge needs to touch, and why: {"site_badges": "made again every night"}.')
    acting_user_parameter: str = setting("ACCOUNT_MERGE_ACTING_USER_PARAMETER", "realUserName",
        help="EduBrite API: the parameter that names the acting user where the header REAL_UNAME does not.")
    answer_seconds: types.Seconds = setting("ACCOUNT_MERGE_ANSWER_SECONDS", 50, least=0, most=3600,
        help="EduBrite API: how long a call waits for its merge's end before it says that it is not done yet.")
    session_seconds: types.Seconds = setting("ACCOUNT_MERGE_SESSION_SECONDS", 3600, least=10, most=86400,
        help="EduBrite API: how long a session is valid.")
    connects_per_minute: types.Integer = setting("ACCOUNT_MERGE_CONNECTS_PER_MINUTE", 20, least=1, most=10000,
        help="EduBrite API: sign-ins that one address, and wrong passwords that one API user, may try in a minute; "
             "each process of the API server counts for itself.")
    journal_url: types.DatabaseUrl = setting("ACCOUNT_MERGE_JOURNAL_URL", "", secret=True,
        help="Address of the PostgreSQL database that holds the journal: "
             "postgresql://user:password@host:5432/account_merge.")
    merges_under_way: types.Integer = setting("ACCOUNT_MERGE_UNDER_WAY", 32, least=1, most=10000,
        help="Merges that have a run at the same time, at most: the poll starts no more until some end. Twice the "
             "slots of the pool account_merge is a good number.")
    bulk_from: types.Integer = setting("ACCOUNT_MERGE_BULK_FROM", 30, least=0, most=100_000,
        help="So many requested merges make the poll start account_merge_bulk, which does hundreds in one run; 0: never.")
    settle_after_seconds: types.Pauses = setting("ACCOUNT_MERGE_SETTLE_AFTER_SECONDS", (600, 86400, 604800),
        help="How long after a merge a settle moves the rows that came to its source accounts since; - for never.")
    stalled_after_seconds: types.Seconds = setting("ACCOUNT_MERGE_STALLED_AFTER_SECONDS", 900, least=10, most=86400,
        help="How long a merge, undo or redo under way may show no sign of life (no entry in its log, no task that "
             "runs or is about to) before the poll gives it another run. Longer than Airflow's own "
             "task_queued_timeout.")
    undo_days: types.Days = setting("ACCOUNT_MERGE_UNDO_DAYS", 90, least=0,
        help="How long after its end a merge can be undone, or one that was undone stand again; - for ever.")
    retention_days: types.Days = setting("ACCOUNT_MERGE_RETENTION_DAYS", 365, least=0,
        help="How long after its end a merge keeps its images; then they expire (account_merge_expire); - for ever. "
             "Not shorter than ACCOUNT_MERGE_UNDO_DAYS.")
    cutover: types.Moment = setting("ACCOUNT_MERGE_CUTOVER", None,
        help="The cut-over: merges asked for before this time were done by the retired job. A source's totals "
             "are in the target already; everything else is merged. Empty: the retired job did none.")
    clock_margin_seconds: types.Seconds = setting("ACCOUNT_MERGE_CLOCK_MARGIN_SECONDS", 2.0, least=0, most=60,
        help="Our writes are dated this much back, so that a platform writer whose clock lags by less wins over them.")
    platform_write_window_seconds: types.Seconds = setting(
        "ACCOUNT_MERGE_PLATFORM_WRITE_WINDOW_SECONDS", 10.0, least=0, most=3600,
        help="Longest time between the platform's reading of a row and its writing it back.")
    max_clock_skew_seconds: types.Seconds = setting("ACCOUNT_MERGE_MAX_CLOCK_SKEW_SECONDS", 1.0, least=0.01, most=60,
        help="If our clock and Cassandra's differ by more, nothing is written and the task is retried.")
    entry_rows: types.Integer = setting("ACCOUNT_MERGE_ENTRY_ROWS", 500, least=1, most=5000,
        help="Changes in one entry of the log, at most.")
    entry_bytes: types.Integer = setting("ACCOUNT_MERGE_ENTRY_BYTES", 1048576, least=1024, most=4194304,
        help="Bytes in one entry of the log, at most.")
    max_rows_per_second: types.Integer = setting("ACCOUNT_MERGE_MAX_ROWS_PER_SECOND", 0, least=0, most=1_000_000,
        help="Learners' rows that all merges, undos and redos together write in a second, at most, so that the platform's "
             "own requests stay fast; 0: no limit.")
    page_rows: types.Integer = setting("ACCOUNT_MERGE_PAGE_ROWS", 1000, least=1, most=5000,
        help="Rows that one page of reading holds, at most.")
    # fmt: on

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _refusal(error, values) from None

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        if self.retention_days is not None and (self.undo_days is None or self.undo_days > self.retention_days):
            raise bad_setting("retention_days", self.retention_days, "is shorter than ACCOUNT_MERGE_UNDO_DAYS")
        return self

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing but what is given: the process's own environment is the edges' to hand over."""
        return (init_settings,)

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Settings:
        """Read every setting; a variable that is absent or blank has its default (compose files pass blanks)."""
        return cls(**_Variables(cls, environment)())

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with these fields changed, checked like any other; a change of `env` renames no topic."""
        return type(self)(**(dict(self) | changes))

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

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


class _Variables(PydanticBaseSettingsSource):
    """The variables of an environment, each read as the type of its field says."""

    def __init__(self, settings_cls: type[BaseSettings], environment: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._environment = environment

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value that the text of the field's variable stands for."""
        text, kind = self._environment[variable_of(field_name)], kind_of(field)
        try:
            return kind.read(text.strip() if field.repr else text), field_name, False
        except (ValueError, RecursionError):  # JSONDecodeError is a ValueError
            raise bad_setting(field_name, text, kind.wrong) from None

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields.items()
        given = {name: field for name, field in fields if self._environment.get(variable_of(name), "").strip()}
        return {name: self.get_field_value(field, name)[0] for name, field in given.items()}


def variable_of(field: str) -> str:
    """Return the name of the environment variable that a field is read from."""
    return str(Settings.model_fields[field].validation_alias)


def kind_of(field: FieldInfo) -> types.Kind:
    """Return how a field's value is described and read; a field without a kind holds text."""
    return next((item for item in field.metadata if isinstance(item, types.Kind)), types.TEXT)


def as_text(value: Any) -> str:
    """Return a default as it would be written in the environment."""
    if isinstance(value, dict):
        return json.dumps(value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)


def bad_setting(field: str, value: Any, problem: str) -> InvalidRequest:
    """Return the error of a setting whose value cannot be read, is not allowed, or does not fit the others."""
    info, name = Settings.model_fields[field], variable_of(field)
    shown = repr(value)[:120] if info.repr else "its value"
    return InvalidRequest(
        "BAD_SETTING",
        f"{name}: {shown} {problem}.",
        f"Set {name} right, or leave it out for its default ({as_text(info.default) or 'empty'}); docs/settings.md "
        "describes it. No merge was touched.",
    )


def _refusal(error: ValidationError, values: Mapping[str, Any]) -> Exception:
    """Return our error for the first that pydantic found."""
    first = error.errors(include_url=False)[0]
    field, *inside = map(str, first["loc"])
    if first["type"] == "extra_forbidden":
        return TypeError(f"there is no setting {field!r}")
    info = Settings.model_fields[field]
    if inside:
        return bad_setting(field, values[field], kind_of(info).wrong)
    details = first.get("ctx", {}) | {"choices": ", ".join(map(str, get_args(info.annotation)))}
    return bad_setting(field, first["input"], _PROBLEMS.get(first["type"], kind_of(info).wrong).format(**details))
