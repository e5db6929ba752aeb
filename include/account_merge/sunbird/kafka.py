"""Reading Kafka: nothing is taken before the caller has committed it.

The consumer group is used without joining it: offsets are read and committed, partitions assigned by hand, so that
no run waits for another one and a killed one leaves no member behind.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient

from account_merge.settings import Settings
from account_merge.sunbird.events import Message
from account_merge.sunbird.kafka_client import KafkaCalls, common_options, consumer_options
from account_merge.sunbird.kafka_errors import NO_COORDINATOR, PERMANENT, UNSETTLED, group_in_use, topic_missing

_MOST_BYTES = 2**25  # of messages held at once, and what one more call of the client brings
_LOOKED_AT_ONCE = 1000  # messages held at once by a search of a topic


@dataclass(frozen=True)
class Standing:
    """How a consumer group stands on a partition.

    :param committed: the offset to read next; None when nothing was committed.
    :param low: the first offset that is there; `high`: the offset of the next message.
    :param note: what was kept beside the committed offset.
    """

    committed: int | None
    low: int
    high: int
    note: str = ""

    @property
    def beyond(self) -> bool:
        """Whether the committed offset lies behind the end: it belongs to an earlier topic of this name."""
        return self.committed is not None and self.committed > self.high

    @property
    def lag(self) -> int:
        """Count messages past the committed offset, lost ones included; one at least where that offset lies behind the end."""
        if self.beyond:
            return max(1, self.high - self.low)
        return max(0, self.high - (self.low if self.committed is None else self.committed))


class Topics:
    """The platform's topics as we read them; a context manager that connects when first asked and closes what it opened."""

    def __init__(self, settings: Settings, log: logging.Logger | None = None) -> None:
        self._settings, self._log = settings, log or logging.getLogger(__name__)
        self._calls = KafkaCalls(settings, self._log)
        self._consumer: Consumer | None = None
        self._positions: dict[tuple[str, int], int] = {}

    def __enter__(self) -> Topics:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; offsets that were not committed stay as they were."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def topic_id(self) -> str:
        """Return the id that the merge topic got when it was made; empty where the brokers tell none."""
        topic = self._settings.merge_topic
        admin = self._calls.open(AdminClient, common_options(self._settings))
        try:
            found = admin.describe_topics(TopicCollection([topic]), request_timeout=self._calls.patience)[
                topic
            ].result()
        except KafkaException as error:
            self._log.info("The id of topic %s is not known: %s", topic, error.args[0].str())
            return ""
        return str(found.topic_id or "")

    def ensure_cutover(self) -> None:
        """Refuse while the group has members: the retired job still runs, and both would move the same totals."""
        group = self._settings.consumer_group
        admin = self._calls.open(AdminClient, common_options(self._settings))
        ask = partial(admin.describe_consumer_groups, [group], request_timeout=min(2.0, self._calls.patience))
        try:
            found = self._calls.settled(lambda: ask()[group].result(), NO_COORDINATOR)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return
            self._calls.fail(error.args[0], f"Consumer group {group} could not be described")
        if found.members:
            raise group_in_use(group, sorted({f"{member.client_id} on {member.host}" for member in found.members}))

    def lag(self) -> int:
        """Count messages that are not claimed, lost ones included; consumes nothing, joins nothing."""
        return sum(one.lag for one in self.standing().values())

    def read_new(self, limit: int, timeout: float, starts: Mapping[int, int] | None = None) -> list[Message]:
        """Read at most `limit` messages, or about `_MOST_BYTES`; [] means none is due.

        :param starts: partition -> offset; without it the committed offsets, in a new group the earliest.
        """
        topic = self._settings.merge_topic
        if starts is None:
            starts = {p: one.low if one.committed is None or one.beyond else max(one.low, one.committed)
                      for p, one in self.standing().items()}  # fmt: skip
        messages, ended = self._read(topic, starts, limit, timeout, None)
        if not messages and not ended:
            raise self._calls.away(f"Topic {topic} gave nothing within {timeout:g} s although more is due. "
                             "Nothing was claimed; the events wait in Kafka")  # fmt: skip
        return messages

    def positions(self) -> dict[tuple[str, int], int]:
        """Return what to commit after `read_new`: also past transactions' markers and messages that are deleted."""
        return dict(self._positions)

    def commit(self, next_offsets: Mapping[tuple[str, int], int], note: str = "", again: Collection[int] = ()) -> None:
        """Commit synchronously the offsets to read next; one that is behind the committed offset is left out.

        :param note: kept beside each offset.
        :param again: partitions whose committed offset holds nothing back.
        """
        standing = self.standing() if next_offsets else {}
        ahead = []
        for (topic, partition), offset in next_offsets.items():
            known = standing.get(partition, Standing(None, 0, 0))
            if known.committed is None or offset > known.committed or known.beyond or partition in again:
                ahead.append(TopicPartition(topic, partition, offset, note))
        if not ahead:
            return
        doing = f"Offsets of {self._settings.merge_topic} could not be committed; the events will be read again"
        with self._calls.doing(doing):
            for entry in self._consuming().commit(offsets=ahead, asynchronous=False) or []:
                if entry.error:
                    self._calls.fail(entry.error, doing)

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return each partition's end: what is published from now on stands there or later."""
        return {partition: high for partition, (_, high) in self._watermarks(topic).items()}

    def read(self, topic: str, since: Mapping[int, int] | None = None, timeout: float = 10.0) -> list[Message]:
        """Read a topic from these offsets (else its beginning) to its end of this moment, or raise: never a part."""
        marks = self._watermarks(topic)
        starts = {p: max(low, min((since or {}).get(p, low), high)) for p, (low, high) in marks.items()}
        messages, ended = self._read(topic, starts, None, timeout, {p: high for p, (_, high) in marks.items()})
        if not ended:
            raise self._calls.away(f"Topic {topic} could not be read to its end within {timeout:g} s")
        return sorted(messages, key=lambda m: (m.timestamp_ms, m.partition, m.offset))

    def holds(
        self, topic: str, since: Mapping[int, int], wanted: Callable[[Message], bool], timeout: float = 10.0
    ) -> bool:
        """Whether a message is on a topic from these offsets on; False also when the time is up before its end is reached."""
        marks = self._watermarks(topic)
        starts = {p: max(low, min(since.get(p, low), high)) for p, (low, high) in marks.items()}
        ends, deadline = {p: high for p, (_, high) in marks.items()}, time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            messages, ended = self._read(topic, starts, _LOOKED_AT_ONCE, left, ends)
            if any(map(wanted, messages)):
                return True
            if ended:
                return False
            starts |= {message.partition: message.offset + 1 for message in messages}
        return False

    def _read(
        self, topic: str, starts: Mapping[int, int], limit: int | None, timeout: float, ends: Mapping[int, int] | None
    ) -> tuple[list[Message], bool]:  # fmt: skip
        """Return messages and whether the end (the given one, else as it comes) was reached on every partition."""
        consumer, deadline = self._consuming(), time.monotonic() + timeout
        messages: list[Message] = []
        size = 0
        open_ = {p for p, start in starts.items() if ends is None or start < ends[p]}
        doing = f"Topic {topic} could not be read"
        try:
            with self._calls.doing(doing):
                consumer.assign([TopicPartition(topic, p, starts[p]) for p in open_])
                while open_ and (limit is None or len(messages) < limit and size < _MOST_BYTES):
                    left = deadline - time.monotonic()
                    if left <= 0:
                        break
                    room = 1000 if limit is None else min(1000, limit - len(messages))
                    for got in consumer.consume(room, timeout=min(left, 0.05)):
                        error, partition = got.error(), got.partition()
                        if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client has no public name for it
                            open_.discard(partition or 0)
                        elif error is not None and error.name() in PERMANENT:
                            self._calls.fail(error, doing)
                        elif error is not None:  # a broken connection is mended by the client, until the deadline
                            self._log.info("Reading %s was interrupted: %s", topic, error.str())
                        elif ends is None or (got.offset() or 0) < ends[partition or 0]:
                            messages.append(_message(got))
                            size += len(got)
                        else:
                            open_.discard(partition or 0)
                if ends is None:
                    self._positions = {(topic, p): max(0, start) for p, start in starts.items()}
                    for place in consumer.position([TopicPartition(topic, p) for p in starts]):
                        if place.offset >= 0:
                            self._positions[topic, place.partition] = place.offset
        finally:
            consumer.unassign()
        return messages, not open_

    def standing(self) -> dict[int, Standing]:
        """Return how the group stands on each partition of the merge topic; consumes nothing, joins nothing."""
        topic = self._settings.merge_topic
        marks = self._watermarks(topic)
        doing = f"Could not read the offsets that group {self._settings.consumer_group} committed"

        def ask() -> dict[int, tuple[int | None, str]]:
            entries = self._consuming().committed(
                [TopicPartition(topic, p) for p in marks], timeout=self._calls.patience
            )
            if wrong := next((entry.error for entry in entries if entry.error), None):
                raise KafkaException(wrong)
            return {e.partition: (e.offset if e.offset >= 0 else None, e.metadata or "") for e in entries}

        with self._calls.doing(doing):
            committed = self._calls.settled(ask, NO_COORDINATOR)
        found = {p: (*committed.get(p, (None, "")), low, high) for p, (low, high) in marks.items()}
        return {p: Standing(offset, low, high, note) for p, (offset, note, low, high) in found.items()}

    def _watermarks(self, topic: str) -> dict[int, tuple[int, int]]:
        doing = f"Could not read the offsets of topic {topic}"
        marks: dict[int, tuple[int, int]] = {}
        with self._calls.doing(doing):
            found = self._consuming().list_topics(topic, timeout=self._calls.patience).topics[topic]
            if found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise topic_missing([topic], f"{doing}.")
            if found.error is not None:
                self._calls.fail(found.error, doing)
            for partition in sorted(found.partitions):
                marks[partition] = self._marks_of(TopicPartition(topic, partition), doing)
        return marks

    def _marks_of(self, place: TopicPartition, doing: str) -> tuple[int, int]:
        ask = partial(self._consuming().get_watermark_offsets, place, timeout=self._calls.patience)
        answer: tuple[int, int] | None = self._calls.settled(ask, UNSETTLED)
        if answer is None:
            raise self._calls.away(doing)
        return answer

    def health(self) -> str:
        """Say which cluster answers; raise when none does or when topics that we read or write are missing."""
        wanted = set(self._settings.topics())
        with self._calls.doing("Kafka did not answer"):
            found = self._consuming().list_topics(timeout=self._calls.patience)
        missing = sorted(wanted - set(found.topics))
        if missing:
            raise topic_missing(missing, f"Kafka answers ({len(found.brokers)} broker(s)).")
        return f"{len(found.brokers)} broker(s), topics {', '.join(sorted(wanted))}"

    def _consuming(self) -> Consumer:
        self._consumer = self._consumer or self._calls.open(Consumer, consumer_options(self._settings))
        return self._consumer


def _message(got: KafkaMessage) -> Message:
    place = got.topic() or "", got.partition() or 0, got.offset() or 0
    return Message(*place, got.timestamp()[1], got.key(), got.value(), tuple(got.headers() or ()))
