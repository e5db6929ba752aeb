"""Settings: defaults as documented, every bad value refused by its variable's name, no secret shown."""

from __future__ import annotations

import dataclasses

import pytest

from account_merge.errors import InvalidRequest
from account_merge.setting_types import FIXED_KAFKA_OPTIONS
from account_merge.settings import Settings, variable_of

FIELDS = Settings.model_fields
BAD = [
    ("ACCOUNT_MERGE_ENV", "a b"),
    ("KAFKA_BOOTSTRAP_SERVERS", " , "),
    ("KAFKA_CONFIG", "not json"),
    ("KAFKA_CONFIG", '["list"]'),
    ("KAFKA_CONFIG", '{"debug": null}'),
    ("KAFKA_CONFIG", "[" * 100_000),
    ("ACCOUNT_MERGE_MERGE_TOPIC", "no spaces"),
    ("ACCOUNT_MERGE_CONSUMER_GROUP", "x" * 250),
    ("ACCOUNT_MERGE_SYNC_DIALECT", "batch"),
    ("ACCOUNT_MERGE_SYNC_SCOPE", "none"),
    ("ACCOUNT_MERGE_MAX_EVENT_BYTES", "1e6"),
    ("ACCOUNT_MERGE_MAX_ID_LENGTH", "0"),
    ("ACCOUNT_MERGE_DELIVERY_TIMEOUT_SECONDS", "nan"),
    ("CASSANDRA_CONTACT_POINTS", ","),
    ("CASSANDRA_PORT", "70000"),
    ("CASSANDRA_REQUEST_TIMEOUT_SECONDS", "-1"),
    ("ACCOUNT_MERGE_COURSES_KEYSPACE", "k; DROP KEYSPACE x"),
    ("ACCOUNT_MERGE_JOURNAL_URL", "mysql://journal@db/account_merge"),
    ("ACCOUNT_MERGE_JOURNAL_URL", "postgresql+psycopg2://journal@db/account_merge"),
    ("ACCOUNT_MERGE_JOURNAL_URL", "postgresql://journal@db"),
    ("ACCOUNT_MERGE_JOURNAL_URL", "postgresql://journal@db/"),
    ("ACCOUNT_MERGE_JOURNAL_URL", "postgresql://journal:a/b@db/account_merge"),
    ("ACCOUNT_MERGE_JOURNAL_URL", "postgresql://journal@db:port/account_merge"),
    ("ACCOUNT_MERGE_JOURNAL_URL", "postgresql://journal@[db/account_merge"),
    ("ACCOUNT_MERGE_JOURNAL_URL", "postgresql://journal:a b@db/account_merge"),
    ("ACCOUNT_MERGE_UNDER_WAY", "0"),
    ("ACCOUNT_MERGE_UNDER_WAY", "10001"),
    ("ACCOUNT_MERGE_TABLE_NAMES", '{"user_enrolments": "a.b"}'),
    ("ACCOUNT_MERGE_TABLE_NAMES", '{"user_enrolments": "same", "user_activity_agg": "same"}'),
    ("ACCOUNT_MERGE_UNKNOWN_TABLES", "ignore"),
    ("ACCOUNT_MERGE_IGNORED_TABLES", '["site_badges"]'),
    ("ACCOUNT_MERGE_IGNORED_TABLES", '{"site_badges": " "}'),
    ("ACCOUNT_MERGE_CLOCK_MARGIN_SECONDS", "two"),
    ("ACCOUNT_MERGE_ENTRY_BYTES", "99999999"),
    ("ACCOUNT_MERGE_UNDO_DAYS", "-1"),
    ("ACCOUNT_MERGE_RETENTION_DAYS", "a year"),
    ("ACCOUNT_MERGE_RETENTION_DAYS", "89"),
]


def test_settings_without_variables_are_the_platforms_defaults() -> None:
    settings = Settings.from_env({})
    assert settings.merge_topic == "dev.lms.user.account.merge"
    assert settings.failed_topic == "dev.learning.events.failed"
    assert settings.sync_topic == "dev.coursebatch.job.request"
    assert settings.user_sync_topic == "dev.batch.enrolment.sync.request"
    assert settings.consumer_group == "dev-merge-courses-group"
    assert settings.courses_keyspace == "sunbird_courses"
    assert (settings.journal_url, settings.merges_under_way) == ("", 32)


def test_settings_fill_the_installations_name_into_topics_and_group() -> None:
    settings = Settings.from_env({"ACCOUNT_MERGE_ENV": "staging", "ACCOUNT_MERGE_FAILED_TOPIC": "{env}.bad"})
    assert settings.merge_topic == "staging.lms.user.account.merge"
    assert settings.consumer_group == "staging-merge-courses-group"
    assert settings.failed_topic == "staging.bad"


def test_settings_take_the_default_when_a_variable_is_blank() -> None:
    assert Settings.from_env(dict.fromkeys(map(variable_of, FIELDS), " ")) == Settings.from_env({})


@pytest.mark.parametrize("field", FIELDS)
def test_every_setting_is_described_and_its_variable_is_its_own(field: str) -> None:
    assert sum(variable_of(other) == variable_of(field) for other in FIELDS) == 1
    assert FIELDS[field].description.endswith((".", ")."))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://journal:word@db:5432/account_merge",
        "postgres://db/account-merge",
        "postgresql+psycopg://journal:p%40s%3As@[::1]:5432/account_merge?sslmode=require",
        "postgresql://journal@/account_merge?host=one:5432&host=two:5432",
    ],
)
def test_the_journal_s_address_is_any_that_postgresql_has(url: str) -> None:
    assert Settings.from_env({"ACCOUNT_MERGE_JOURNAL_URL": f" {url}\n"}).journal_url == url


@pytest.mark.parametrize(("variable", "value"), BAD, ids=[f"{name}-{value[:20]}" for name, value in BAD])
def test_settings_refuse_a_bad_value_by_the_variables_name(variable: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Settings.from_env({variable: value})
    assert refused.value.code == "BAD_SETTING"
    assert refused.value.message.startswith(variable)
    assert variable in refused.value.remedy
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("ACCOUNT_MERGE_ENV", "a b", "'a b' is not 1 to 249 letters, digits, dots, dashes or underscores"),
        ("ACCOUNT_MERGE_FAILED_TOPIC", "{env} x", "'dev x' is not 1 to 249 letters, digits, dots, dashes or underscores"),
        ("ACCOUNT_MERGE_SYNC_SCOPE", "none", "'none' is not one of all, touched"),
        ("ACCOUNT_MERGE_MAX_EVENT_BYTES", "1e6", "'1e6' is not a whole number"),
        ("ACCOUNT_MERGE_UNDO_DAYS", "ninety", "'ninety' is not a number"),
        ("ACCOUNT_MERGE_SETTLE_AFTER_SECONDS", "soon", "'soon' is not a rising list of numbers of seconds"),
        ("ACCOUNT_MERGE_MAX_ID_LENGTH", "0", "0 is less than 1"),
        ("CASSANDRA_PORT", "70000", "70000 is more than 65535"),
        ("ACCOUNT_MERGE_ANSWER_SECONDS", "nan", "nan is not a number"),
        ("ACCOUNT_MERGE_SETTLE_AFTER_SECONDS", "60,5", "(60.0, 5.0) is not a rising list of numbers of seconds"),
        ("ACCOUNT_MERGE_SETTLE_AFTER_SECONDS", "0", "(0.0,) is not a rising list of numbers of seconds"),
        ("KAFKA_CONFIG", '{"acks": 1}', "its value sets acks, which this product decides itself"),
        ("KAFKA_CONFIG", '{"debug": null}', "its value is not a JSON object of texts and numbers"),
        ("ACCOUNT_MERGE_JOURNAL_URL", "postgresql://hush@db",
         "its value is not an address like postgresql://user:password@host:5432/database"),
        ("ACCOUNT_MERGE_JOURNAL_URL", "postgresql://db:hush/account_merge",
         "its value is not an address like postgresql://user:password@host:5432/database"),
        ("ACCOUNT_MERGE_CUTOVER", "2026-03-01T10:15:00",
         "datetime.datetime(2026, 3, 1, 10, 15) is not a time with its zone, such as 2026-03-01T10:15:00Z"),
    ],
)  # fmt: skip
def test_a_bad_value_is_told_in_our_words(variable: str, value: str, problem: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Settings.from_env({variable: value})
    assert refused.value.message == f"{variable}: {problem}."


def test_the_remedy_names_the_default() -> None:
    with pytest.raises(InvalidRequest) as refused:
        Settings.from_env({"ACCOUNT_MERGE_SETTLE_AFTER_SECONDS": "soon"})
    assert refused.value.remedy == (
        "Set ACCOUNT_MERGE_SETTLE_AFTER_SECONDS right, or leave it out for its default (600,86400,604800); "
        "docs/settings.md describes it. No merge was touched."
    )


def test_settings_read_no_environment_but_the_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCOUNT_MERGE_ENV", "elsewhere")
    assert Settings.from_env({}).env == "dev"
    assert Settings().env == "dev"


def test_replace_refuses_a_field_that_is_not_there() -> None:
    with pytest.raises(TypeError, match="entry_row"):
        Settings.from_env({}).replace(entry_row=3)


@pytest.mark.parametrize("option", sorted(FIXED_KAFKA_OPTIONS))
def test_settings_refuse_kafka_options_that_delivery_hangs_on(option: str) -> None:
    with pytest.raises(InvalidRequest, match="KAFKA_CONFIG"):
        Settings.from_env({"KAFKA_CONFIG": f'{{"{option}": "x"}}'})


def test_settings_never_show_a_secret() -> None:
    secrets = {
        "CASSANDRA_USERNAME": "the-user",
        "CASSANDRA_PASSWORD": " pass word ",
        "KAFKA_CONFIG": '{"sasl.password": "hush"}',
        "ACCOUNT_MERGE_JOURNAL_URL": "postgresql://journal:quiet@db/account_merge",
    }
    settings = Settings.from_env(secrets)
    assert settings.cassandra_password == " pass word "
    for secret in ("the-user", "pass word", "hush", "quiet"):
        assert secret not in repr(settings)
    with pytest.raises(InvalidRequest) as refused:
        Settings.from_env({"KAFKA_CONFIG": '{"sasl.password": "hush", '})
    assert "hush" not in str(refused.value)


def test_settings_replace_checks_like_the_environment() -> None:
    settings = Settings.from_env({})
    assert settings.replace(entry_rows=3).entry_rows == 3
    assert settings.entry_rows == 500
    with pytest.raises(InvalidRequest, match="ACCOUNT_MERGE_ENTRY_ROWS"):
        settings.replace(entry_rows="3")
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.entry_rows = 4  # type: ignore[misc]


def test_images_stay_at_least_as_long_as_an_undo_can_need_them() -> None:
    for undo, retention, good in (("90", "90", True), ("-", "-", True), ("90", "-", True), ("-", "365", False)):
        given = {"ACCOUNT_MERGE_UNDO_DAYS": undo, "ACCOUNT_MERGE_RETENTION_DAYS": retention}
        if good:
            found = Settings.from_env(given)
            assert (found.undo_days, found.retention_days) == tuple(
                None if d == "-" else float(d) for d in (undo, retention)
            )
        else:
            with pytest.raises(InvalidRequest, match="ACCOUNT_MERGE_RETENTION_DAYS.*ACCOUNT_MERGE_UNDO_DAYS"):
                Settings.from_env(given)


def test_settings_table_gives_the_clusters_name() -> None:
    settings = Settings.from_env({"ACCOUNT_MERGE_TABLE_NAMES": '{"user_enrolments": "user_enrolments_v2"}'})
    assert settings.table("user_enrolments") == "user_enrolments_v2"
    assert settings.table("user_activity_agg") == "user_activity_agg"


def test_settings_topics_are_those_of_the_dialect() -> None:
    settings = Settings.from_env({})
    assert settings.topics() == (settings.merge_topic, settings.failed_topic, settings.sync_topic)
    assert settings.replace(sync_dialect="user-enrolment-sync").topics()[2:] == (settings.user_sync_topic,)
    assert settings.replace(sync_dialect="both").topics()[2:] == (settings.sync_topic, settings.user_sync_topic)
