"""The core's settings inside Airflow: the environment's, with the fields of Airflow's connections over them.

Connections (all optional; a blank field leaves the environment's value):

- `cassandra_account_merge`: host (comma separated), port, login, password, schema = keyspace of the learners' tables,
  extra = `local_dc`, also where Airflow's own Cassandra hook has it (`load_balancing_policy_args`);
- `kafka_account_merge`: extra = options of librdkafka, `bootstrap.servers` among them;
- `account_merge_journal` (type postgres): host, port, login, password, schema = database of the journal, extra =
  options of libpq, such as `sslmode`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from account_merge.acting import Actor, act_as
from account_merge_airflow.params import person_of

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from account_merge.service import Service
    from account_merge.settings import Settings

CASSANDRA_CONNECTION = "cassandra_account_merge"
KAFKA_CONNECTION = "kafka_account_merge"
JOURNAL_CONNECTION = "account_merge_journal"

log = logging.getLogger(__name__)


@contextlib.contextmanager
def open_service() -> Iterator[Service]:
    """Yield a service with this task's settings, and close its connections whatever happens.

    The history of each merge that it moves names this task, its run, and who triggered that.
    """
    from account_merge.service import Service

    act_as(_actor())
    with Service(load_settings()) as service:
        yield service


def _actor() -> Actor:
    from airflow.sdk import get_current_context

    try:
        context = get_current_context()
    except RuntimeError:  # a callback has no context of a task
        return Actor()
    return Actor(person_of(context), context["run_id"], context["ti"].task_id)


def load_settings() -> Settings:
    """Return the settings inside a task or a callback."""
    return settings_from(
        _connection(CASSANDRA_CONNECTION), _connection(KAFKA_CONNECTION), _connection(JOURNAL_CONNECTION)
    )


async def aload_settings() -> Settings:
    """Return the settings inside the triggerer, where only the asynchronous look-up may be used."""
    return settings_from(
        await _aconnection(CASSANDRA_CONNECTION),
        await _aconnection(KAFKA_CONNECTION),
        await _aconnection(JOURNAL_CONNECTION),
    )


def settings_from(
    cassandra: Connection | None, kafka: Connection | None, journal: Connection | None = None
) -> Settings:
    """Put the connections' fields over the environment's settings."""
    from account_merge.settings import Settings

    settings = Settings.from_env(os.environ)
    changes: dict[str, Any] = {}
    if cassandra is not None:
        changes |= _cassandra_fields(cassandra)
    if kafka is not None:
        changes |= _kafka_fields(kafka)
    if journal is not None:
        changes["journal_url"] = _journal_url(journal, settings.journal_url)
    return settings.replace(**changes) if changes else settings


def _cassandra_fields(connection: Connection) -> dict[str, Any]:
    hosts = tuple(host.strip() for host in (connection.host or "").split(",") if host.strip())
    fields = {
        "cassandra_contact_points": hosts,
        "cassandra_port": connection.port,
        "cassandra_username": connection.login,
        "cassandra_password": connection.password,
        "courses_keyspace": connection.schema,
        "cassandra_local_dc": _local_dc(connection.extra_dejson),
    }
    return {name: value for name, value in fields.items() if value}


def _local_dc(extra: Mapping[str, Any]) -> Any:
    arguments = extra.get("load_balancing_policy_args")
    return extra.get("local_dc") or (arguments.get("local_dc") if isinstance(arguments, Mapping) else None)


def _kafka_fields(connection: Connection) -> dict[str, Any]:
    from account_merge.setting_types import FIXED_KAFKA_OPTIONS

    extra = dict(connection.extra_dejson)
    servers = extra.pop("bootstrap.servers", None)
    # The guarantees need these (acknowledged delivery, commits after the claim), so no connection can change them.
    fixed = sorted(FIXED_KAFKA_OPTIONS & extra.keys())
    if fixed:
        log.info(
            "Connection %s: ignored these options, which the product sets itself: %s",
            KAFKA_CONNECTION,
            ", ".join(fixed),
        )
    options = {name: value for name, value in extra.items() if name not in FIXED_KAFKA_OPTIONS}
    changes: dict[str, Any] = {"kafka_bootstrap_servers": servers} if servers else {}
    return changes | ({"kafka_config": options} if options else {})


def _journal_url(connection: Connection, url: str) -> str:
    """Return the address with the connection's fields in it; each is escaped, so that it may hold any character."""
    given = urlsplit(url)
    account, _, place = given.netloc.rpartition("@")
    user, _, password = account.partition(":")
    user = _escaped(connection.login) or user
    password = _escaped(connection.password) or password
    host = _host(connection) or place.removesuffix(f":{given.port}")
    port = connection.port or given.port
    path = f"/{_escaped(connection.schema)}" if connection.schema else given.path
    extra = connection.extra_dejson
    options = [(name, value) for name, value in parse_qsl(given.query) if name not in extra] + [*extra.items()]
    account = f"{user}:{password}@" if password else f"{user}@" if user else ""
    place = f"{host}:{port}" if port else host
    query = f"?{urlencode(options, quote_via=quote)}" if options else ""
    address = f"{account}{place}{path}{query}"
    return f"{given.scheme or 'postgresql'}://{address}" if address else url


def _escaped(field: str | None) -> str:
    return quote(field or "", safe="")


def _host(connection: Connection) -> str:
    host = connection.host or ""
    return f"[{host}]" if ":" in host else host


def _connection(conn_id: str) -> Connection | None:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection: Connection = Connection.get(conn_id)
    except AirflowNotFoundException:
        log.info("No connection %s in Airflow: the environment's settings are used.", conn_id)
        return None
    return connection


async def _aconnection(conn_id: str) -> Connection | None:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection: Connection = await Connection.async_get(conn_id)
    except AirflowNotFoundException:
        return None
    return connection
