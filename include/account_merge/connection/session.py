"""The session with Cassandra: one data centre, one time-out, and no retry that the core does not see."""

from __future__ import annotations

import gc
import socket
from collections.abc import Sequence

from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import (
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    FallthroughRetryPolicy,
    TokenAwarePolicy,
)
from cassandra.query import tuple_factory

from account_merge.connection.cells import Handler
from account_merge.connection.driver_errors import DRIVER_ERRORS, driver_error
from account_merge.errors import NeedsAttention
from account_merge.settings import Settings

#: New objects until Python looks for cycles, and how often it looks at the older ones. A page of rows is tens of thousands
#: of small objects without a cycle: with Python's own 700, looking at them took a fifth of a large merge.
_COLLECTING = 20_000, 20, 20
_LOOK_AGAIN = 10.0  # s between two looks for a server that is away, at most


def connect(settings: Settings) -> tuple[Cluster, Session]:
    """Return an open session with one data centre: LOCAL_QUORUM, token-aware, no driver retries; rows are tuples.

    Nagle's algorithm is switched off: with it every request above 4 KiB costs 44 ms. The process looks for cycles of
    objects less often from then on.

    :raises TransientError: no contact point answered.
    :raises NeedsAttention: the data centre is not named and there are several, or there is none of that name; the user
        or the password is not accepted.
    """
    if 0 < gc.get_threshold()[0] < _COLLECTING[0]:
        gc.set_threshold(*_COLLECTING)
    cluster = _cluster(settings)
    try:
        session = cluster.connect()
        for keyspace in _keyspaces(settings):  # which hosts have a partition: the token-aware policy needs no more
            cluster.refresh_keyspace_metadata(keyspace, max_schema_agreement_wait=0)
    except DRIVER_ERRORS as error:
        there = _data_centres(cluster)  # in which the driver looked for hosts of the named one
        cluster.shutdown()
        check_data_centre(there, settings)
        raise driver_error("connect", error, settings) from error
    try:
        check_data_centre(_data_centres(cluster), settings)
    except NeedsAttention:
        cluster.shutdown()
        raise
    session.client_protocol_handler = Handler
    return cluster, session


def _cluster(settings: Settings) -> Cluster:
    """Return the driver with our options; nothing is connected yet."""
    # Without a name the policy takes the data centre of the first contact point that answers.
    policy = DCAwareRoundRobinPolicy(settings.cassandra_local_dc)
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(policy),
        # A list written twice at one timestamp is there twice: the driver must never retry on its own.
        retry_policy=FallthroughRetryPolicy(),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=settings.cassandra_request_timeout_seconds,
        row_factory=tuple_factory,  # the driver's own makes a new class for each answer: 0.3 ms of CPU
    )
    auth = (
        PlainTextAuthProvider(settings.cassandra_username, settings.cassandra_password)
        if settings.cassandra_username
        else None
    )
    return Cluster(
        list(settings.cassandra_contact_points),
        port=settings.cassandra_port,
        auth_provider=auth,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        connect_timeout=settings.cassandra_request_timeout_seconds,
        # The driver's own two seconds are too few for a server that is busy.
        control_connection_timeout=settings.cassandra_request_timeout_seconds,
        # The driver's own policy looks for a lost server ever more rarely, up to every 10 minutes, and in the end never.
        reconnection_policy=ExponentialReconnectionPolicy(0.5, _LOOK_AGAIN, max_attempts=None),
        # Reading the schema of all keyspaces is most of the time that a session takes to open (110 of 140 ms with 29
        # keyspaces), and every change of any table would have it read again.
        schema_metadata_enabled=False,
        schema_event_refresh_window=-1,
    )


def _keyspaces(settings: Settings) -> set[str]:
    return {
        settings.courses_keyspace, settings.groups_keyspace, settings.programs_keyspace, settings.users_keyspace,
    }  # fmt: skip


def _data_centres(cluster: Cluster) -> list[str]:
    return sorted({host.datacenter for host in cluster.metadata.all_hosts() if host.datacenter})


def check_data_centre(there: Sequence[str], settings: Settings) -> None:
    """Refuse a cluster of which nobody can say whom LOCAL_QUORUM asks.

    :param there: the data centres that the cluster has; none where no host has answered.
    :raises NeedsAttention: several and none is named, or the named one is not among them.
    """
    named = settings.cassandra_local_dc
    if not there or named in there or (not named and len(there) == 1):
        return
    problem = f"there is no data centre {named}" if named else "Cassandra has several data centres and none is named"
    raise NeedsAttention(
        "DATA_CENTRE",
        f"{problem}; there are {', '.join(there)}",
        "Name the one whose rows the platform reads and writes: CASSANDRA_LOCAL_DC, or local_dc in the extra of the "
        "Airflow connection cassandra_account_merge. Nothing was written.",
    )
