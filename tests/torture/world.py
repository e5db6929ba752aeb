"""The platform's side of a torture: own clients to servers that come and go, each call repeated until it is answered."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster, Session
from confluent_kafka import Producer

from account_merge.connection.driver_errors import DRIVER_ERRORS
from account_merge.errors import TransientError
from account_merge.service import Service
from account_merge.settings import Settings
from tests.e2e.airflow_client import AirflowClient, Refused
from tests.torture.model import Account, Facts

T = TypeVar("T")
PATIENCE = 600.0  # s until a server that does not come back is a failure of the harness
#: What clients raise while a server is away.
AWAY = (*DRIVER_ERRORS, TransientError, httpx.HTTPError, Refused)


class World:
    """Rows, messages, runs and the journal of one stack."""

    def __init__(self, where: dict[str, str], settings: Settings) -> None:
        self.settings, self._where = settings, where
        self._session: Session | None = None
        self._producer = Producer({
            "bootstrap.servers": settings.kafka_bootstrap_servers, "enable.idempotence": True, "log_level": 0,
            "message.timeout.ms": int(PATIENCE * 1000), "reconnect.backoff.max.ms": 500, "message.max.bytes": 1_000_000,
        })  # fmt: skip
        self._prepared: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._airflow: AirflowClient | None = None

    def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            self._session.cluster.shutdown()
        if self._airflow is not None:
            self._airflow.close()

    # --- Cassandra --------------------------------------------------------------------------------------------------
    def insist(self, doing: str, call: Callable[[], T], seconds: float = PATIENCE) -> T:
        """The answer of `call`, which is repeated while servers are away."""
        end = time.monotonic() + seconds
        while True:
            try:
                return call()
            except AWAY as error:
                if isinstance(error, Refused) and error.status < 500:
                    raise
                if time.monotonic() > end:
                    raise RuntimeError(f"{doing}: not answered within {seconds:.0f} s ({error})") from error
                time.sleep(0.5)

    def _open(self) -> Session:
        with self._lock:
            if self._session is None:
                nodelay = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
                cluster = Cluster(["127.0.0.1"], port=self.settings.cassandra_port, sockopts=nodelay)
                try:
                    self._session = cluster.connect()
                except DRIVER_ERRORS:
                    cluster.shutdown()
                    raise
                self._prepared = {}
            return self._session

    def _forget(self, session: Session) -> None:
        """A session that has lost its host does not always find it again: the next call opens one."""
        with self._lock:
            if self._session is session:
                self._session = None
                threading.Thread(target=session.cluster.shutdown, daemon=True).start()

    def execute(self, cql: str, values: list[Any], seconds: float) -> list[Any]:
        """One request, at LOCAL_QUORUM."""
        session = self._open()
        try:
            if cql not in self._prepared:
                self._prepared[cql] = session.prepare(cql)
                self._prepared[cql].consistency_level = ConsistencyLevel.LOCAL_QUORUM
            return list(session.execute(self._prepared[cql], values, timeout=seconds))
        except DRIVER_ERRORS:
            self._forget(session)
            raise

    def write(self, cql: str, values: list[Any]) -> None:
        """One write of absolute values, repeated until Cassandra has acknowledged it."""
        self.insist(cql[:60], lambda: self.execute(cql, values, 5))

    def ask(self, cql: str, *values: Any) -> list[Any]:
        """The rows of a query."""
        return self.insist(cql[:60], lambda: self.execute(cql, list(values), 20))

    def put(self, account: Account, table: str, row: dict[str, Any], facts: Facts) -> None:
        """A whole row as the platform writes it; the account has earned it once Cassandra says so."""
        given = {column: value for column, value in row.items() if value is not None}
        cql = f"INSERT INTO {table} ({', '.join(given)}) VALUES ({', '.join('?' * len(given))})"
        self.write(cql, list(given.values()))
        if table.endswith(".group_member"):
            groups = table.replace("group_member", "user_group")
            self.write(f"UPDATE {groups} SET groupid = groupid + ? WHERE userid = ?", [{row["groupid"]}, account.id])
        account.facts |= facts

    # --- Kafka ------------------------------------------------------------------------------------------------------
    def publish(self, raw: bytes | None, partition: int) -> None:
        """One message on the merge topic, acknowledged before this returns."""
        answered: list[Any] = []
        done = threading.Event()

        def told(error: Any, _: Any) -> None:
            answered.append(error)
            done.set()

        self._producer.produce(self.settings.merge_topic, raw, partition=partition, on_delivery=told)
        end = time.monotonic() + PATIENCE + 10
        while not done.is_set():
            self._producer.poll(0.1)
            if time.monotonic() > end:
                raise RuntimeError("a message was neither delivered nor given up")
        if answered[0] is not None:
            raise RuntimeError(f"a message was not delivered: {answered[0]}")

    # --- Airflow and the core ---------------------------------------------------------------------------------------
    def airflow(self, call: Callable[[AirflowClient], T], seconds: float = PATIENCE) -> T:
        """One call of Airflow's API, repeated until it is answered."""

        def once() -> T:
            with self._lock:
                if self._airflow is None:
                    where = self._where
                    self._airflow = AirflowClient(
                        where["AIRFLOW_URL"], where["AIRFLOW_USERNAME"], where["AIRFLOW_PASSWORD"]
                    )
            return call(self._airflow)

        return self.insist("Airflow's API", once, seconds=seconds)

    def trigger(self, dag: str, conf: dict[str, Any], run_id: str) -> None:
        """Start a run; one that is there already is the one that was asked for."""

        def start(airflow: AirflowClient) -> None:
            if airflow.run(dag, run_id) is not None:
                return
            try:
                airflow.trigger(dag, conf, run_id)
            except Refused as refused:
                if refused.status != 409:  # the operator was faster, or a request whose answer was lost has arrived
                    raise

        self.airflow(start)

    @contextmanager
    def core(self) -> Iterator[Service]:
        """The core on connections of its own: one that met an outage is not used again."""
        with Service(self.settings) as service:
            yield service

    def of_core(self, call: Callable[[Service], T], seconds: float = PATIENCE) -> T:
        """The answer of the core, asked again while servers are away."""

        def once() -> T:
            with self.core() as service:
                return call(service)

        return self.insist("the core", once, seconds=seconds)
