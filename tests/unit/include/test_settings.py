"""Settings: one table, defaults as documented, every bad value refused by its variable's name, no secret shown."""

from __future__ import annotations

import dataclasses

import pytest

from account_merge.errors import InvalidRequest
from account_merge.settings import FIXED_KAFKA_OPTIONS, SETTINGS, Settings

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
    ("ACCOUNT_MERGE_JOURNAL_KEYSPACE", "sunbird_courses"),
    ("ACCOUNT_MERGE_TABLE_NAMES", '{"user_enrolments": "a.b"}'),
    ("ACCOUNT_MERGE_TABLE_NAMES", '{"user_enrolments": "same", "user_activity_agg": "same"}'),
    ("ACCOUNT_MERGE_UNKNOWN_TABLES", "ignore"),
    ("ACCOUNT_MERGE_IGNORED_TABLES", '["site_badges"]'),
    ("ACCOUNT_MERGE_IGNORED_TABLES", '{"site_badges": " "}'),
    ("ACCOUNT_MERGE_JOURNAL_KEYSPACE", "sunbird_groups"),
    ("ACCOUNT_MERGE_JOURNAL_REPLICATION", '{"replication_factor": 3}'),
    ("ACCOUNT_MERGE_JOURNAL_REPLICATION", '{"class": "Simple\' }"}'),
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
    assert settings.journal_replication == {"class": "SimpleStrategy", "replication_factor": 1}


def test_settings_fill_the_installations_name_into_topics_and_group() -> None:
    settings = Settings.from_env({"ACCOUNT_MERGE_ENV": "staging", "ACCOUNT_MERGE_FAILED_TOPIC": "{env}.bad"})
    assert settings.merge_topic == "staging.lms.user.account.merge"
    assert settings.consumer_group == "staging-merge-courses-group"
    assert settings.failed_topic == "staging.bad"


def test_settings_take_the_default_when_a_variable_is_blank() -> None:
    assert Settings.from_env(dict.fromkeys((row.env for row in SETTINGS), " ")) == Settings.from_env({})


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.field)
def test_every_setting_is_described_and_its_variable_is_its_own(row: object) -> None:
    assert sum(other.env == row.env for other in SETTINGS) == 1  # type: ignore[attr-defined]
    assert row.help.endswith((".", ")."))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("variable", "value"), BAD, ids=[f"{name}-{value[:20]}" for name, value in BAD])
def test_settings_refuse_a_bad_value_by_the_variables_name(variable: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Settings.from_env({variable: value})
    assert refused.value.code == "BAD_SETTING"
    assert refused.value.message.startswith(variable)
    assert variable in refused.value.remedy
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("option", sorted(FIXED_KAFKA_OPTIONS))
def test_settings_refuse_kafka_options_that_delivery_hangs_on(option: str) -> None:
    with pytest.raises(InvalidRequest, match="KAFKA_CONFIG"):
        Settings.from_env({"KAFKA_CONFIG": f'{{"{option}": "x"}}'})


def test_settings_never_show_a_secret() -> None:
    secrets = {
        "CASSANDRA_USERNAME": "the-user",
        "CASSANDRA_PASSWORD": " pass word ",
        "KAFKA_CONFIG": '{"sasl.password": "hush"}',
    }
    settings = Settings.from_env(secrets)
    assert settings.cassandra_password == " pass word "
    for secret in ("the-user", "pass word", "hush"):
        assert secret not in repr(settings)
    with pytest.raises(InvalidRequest) as refused:
        Settings.from_env({"KAFKA_CONFIG": '{"sasl.password": "hush", '})
    assert "hush" not in str(refused.value)


def test_settings_replace_checks_like_the_environment() -> None:
    settings = Settings.from_env({})
    assert settings.replace(entry_rows=3).entry_rows == 3
    assert settings.entry_rows == 100
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
