"""The platform as the tests play it: learners' rows in Cassandra, events on Kafka."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cassandra.cluster import Session

    from account_merge.settings import Settings

DAY = datetime(2022, 3, 1, 10, 15, 30)
#: Learners' tables and the column that holds the account.
USER_COLUMN = {"user_enrolments": "userid", "user_content_consumption": "userid"}
Offsets = dict[int, int]


@dataclass
class Learner:
    """An account with a history in one course; every test makes its own, so that tests do not meet."""

    account: str = field(default_factory=lambda: str(uuid.uuid4()))
    course: str = field(default_factory=lambda: f"do_{uuid.uuid4().hex[:12]}")
    batch: str = "0131001"


class World:
    """Rows and messages."""

    def __init__(self, settings: Settings, session: Session) -> None:
        self.settings = settings
        self.session = session

    # --- events -----------------------------------------------------------------------------------------------------
    def event(self, source: str, target: str, **changes: Any) -> dict[str, Any]:
        """Return an event in the form that the platform's producer writes today."""
        stamp = int(time.time() * 1000)
        return {
            "eid": "BE_JOB_REQUEST", "ets": stamp, "ver": "3.0", "mid": f"{stamp}.{uuid.uuid4()}",
            "actor": {"id": "Merge User Courses and Cert", "type": "system"},
            "context": {"pdata": {"id": "org.sunbird.platform", "ver": "1.0"}, "cdata": [], "rollup": {}},
            "object": {"id": hashlib.sha256(f"{source}_{target}".encode()).hexdigest(),
                       "type": "MergeUserCoursesAndCert"},
            "edata": {"action": "merge-user-courses-and-cert", "fromAccountId": source, "toAccountId": target,
                      "rootOrgId": "0123221758376673287017", "iteration": 1},
        } | changes  # fmt: skip

    def publish(self, *events: dict[str, Any] | bytes, topic: str | None = None) -> None:
        """Write messages onto the merge topic, all acknowledged before this returns."""
        from confluent_kafka import Producer

        failed: list[Any] = []
        producer = Producer({"bootstrap.servers": self.settings.kafka_bootstrap_servers,
                             "message.max.bytes": 10_000_000})  # fmt: skip
        for event in events:
            raw = event if isinstance(event, bytes) else json.dumps(event).encode()
            producer.produce(topic or self.settings.merge_topic, raw,
                             on_delivery=lambda error, _: failed.append(error) if error else None)  # fmt: skip
        assert producer.flush(30) == 0
        assert not failed

    def merge_id(self, event: dict[str, Any]) -> uuid.UUID:
        """Return the merge id that an event with a `mid` becomes."""
        from account_merge.sunbird.events import Position, merge_id_for, parse

        raw = json.dumps(event).encode()
        parsed = parse(raw, self.settings)
        assert parsed is not None
        assert parsed.mid
        return merge_id_for(parsed.sources, parsed.target, parsed.mid, Position("", 0, 0, 0, raw))

    def end_of(self, topic: str) -> Offsets:
        """Return where a topic ends now, by partition."""
        consumer = self._consumer()
        try:
            partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
            from confluent_kafka import TopicPartition

            return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1] for p in partitions}
        finally:
            consumer.close()

    def since(self, topic: str, start: Offsets) -> list[dict[str, Any]]:
        """Return the messages that came after `start`, as far as they are there now."""
        from confluent_kafka import TopicPartition

        end = self.end_of(topic)
        missing = {p: end[p] - start.get(p, 0) for p in end if end[p] > start.get(p, 0)}
        found: list[dict[str, Any]] = []
        consumer = self._consumer()
        try:
            consumer.assign([TopicPartition(topic, p, start.get(p, 0)) for p in missing])
            deadline = time.monotonic() + 30
            while len(found) < sum(missing.values()):
                assert time.monotonic() < deadline, f"{topic}: read {len(found)} of {missing} messages"
                message = consumer.poll(1.0)
                if message is not None and message.error() is None:
                    found.append(json.loads(message.value()))
        finally:
            consumer.close()
        return found

    def _consumer(self) -> Any:
        from confluent_kafka import Consumer

        return Consumer({"bootstrap.servers": self.settings.kafka_bootstrap_servers,
                         "group.id": f"test-{uuid.uuid4()}", "enable.auto.commit": False})  # fmt: skip

    # --- rows -------------------------------------------------------------------------------------------------------
    def _table(self, name: str) -> str:
        return f"{self.settings.courses_keyspace}.{self.settings.table(name)}"

    def user(self, learner: Learner) -> Learner:
        """Make the learner a user of the platform."""
        insert = f"INSERT INTO {self.settings.users_keyspace}.user (id, userid, status) VALUES (%s, %s, 1)"
        self.session.execute(insert, (learner.account, learner.account))
        return learner

    def study(self, learner: Learner, lessons: int = 3, views: int = 2) -> Learner:
        """Write a user with an enrolment and some lessons."""
        from cassandra.concurrent import execute_concurrent_with_args

        self.user(learner)
        statuses = {f"do_lesson_{n:06}": 2 for n in range(min(lessons, 100))}
        self.session.execute(
            f"INSERT INTO {self._table('user_enrolments')} (userid, courseid, batchid, active, addedby, contentstatus, "
            "enrolled_date, progress, status) VALUES (%s, %s, %s, true, 'requester', %s, %s, %s, 1)",
            (learner.account, learner.course, learner.batch, statuses, DAY, len(statuses)),
        )
        insert = self.session.prepare(
            f"INSERT INTO {self._table('user_content_consumption')} (userid, courseid, batchid, contentid, status, "
            "progress, viewcount, completedcount, last_access_time) VALUES (?, ?, ?, ?, 2, 100, ?, 1, ?)"
        )
        key = (learner.account, learner.course, learner.batch)
        rows = [(*key, f"do_lesson_{n:06}", views, DAY) for n in range(lessons)]
        execute_concurrent_with_args(self.session, insert, rows, concurrency=64)
        self.session.execute(
            f"INSERT INTO {self._table('user_activity_agg')} (activity_type, activity_id, user_id, context_id, "
            "aggregates, agg_last_updated) VALUES ('Course', %s, %s, %s, {'completedCount': %s}, "
            "{'completedCount': %s})",
            (learner.course, learner.account, f"cb:{learner.batch}", float(lessons), DAY),
        )
        return learner

    def history(self, account: str, course: str) -> dict[str, list[dict[str, Any]]]:
        """Return every row of an account, as plain dicts, in key order."""
        found = {
            table: [row._asdict() for row in self.session.execute(
                f"SELECT * FROM {self._table(table)} WHERE {column} = %s", (account,))]
            for table, column in USER_COLUMN.items()
        }  # fmt: skip
        rows = self.session.execute(
            f"SELECT * FROM {self._table('user_activity_agg')} WHERE activity_type = 'Course' AND activity_id = %s AND "
            "user_id = %s", (course, account))  # fmt: skip
        return found | {"user_activity_agg": [row._asdict() for row in rows]}

    def views(self, account: str, course: str) -> dict[str, int]:
        """Return lesson -> views of one course."""
        rows = self.history(account, course)["user_content_consumption"]
        return {row["contentid"]: row["viewcount"] for row in rows if row["courseid"] == course}
