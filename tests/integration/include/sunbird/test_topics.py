"""Topics on a real broker: what is read, committed and refused, and that the group is never joined."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from account_merge.errors import InvalidRequest, MergeError, TransientError
from account_merge.settings import Settings
from account_merge.sunbird.events import Message
from account_merge.sunbird.kafka import Topics
from account_merge.sunbird.publishing import Publisher
from local import messages


def send(settings: Settings, values: Sequence[bytes | None], keep: bool | None = None) -> None:
    """Put values on partition 0 of the merge topic; `keep` does it in a transaction, committed or aborted."""
    more = {} if keep is None else {"transactional.id": uuid.uuid4().hex}
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, **more})
    if keep is not None:
        producer.init_transactions(20)
        producer.begin_transaction()
    for value in values:
        producer.produce(settings.merge_topic, value=value, partition=0)
    assert producer.flush(20) == 0
    if keep is not None:
        (producer.commit_transaction if keep else producer.abort_transaction)(20)


def other_consumer(settings: Settings) -> Consumer:
    """A consumer of the same group, as the retired job was one."""
    return Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": settings.consumer_group,
                     "enable.auto.commit": False, "auto.offset.reset": "earliest"})  # fmt: skip


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"


def values(messages: Sequence[Message]) -> list[bytes | None]:
    return [message.value for message in messages]


def delete_before(settings: Settings, offset: int) -> None:
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    for done in admin.delete_records([TopicPartition(settings.merge_topic, 0, offset)]).values():
        done.result(20)


def lost(topics: Topics) -> list[tuple[int, int | None, int]]:
    """(partition, committed, low) where messages were deleted before anybody claimed them."""
    found = topics.standing().items()
    return [(p, one.committed, one.low) for p, one in found if one.committed is not None and one.committed < one.low]


def test_lag_of_a_new_group_counts_from_the_earliest_and_takes_nothing(topics: Topics, settings: Settings) -> None:
    assert topics.lag() == 0
    send(settings, [b"1", b"2", b"3"])
    assert [topics.lag(), topics.lag()] == [3, 3]
    assert values(topics.read_new(10, 10)) == [b"1", b"2", b"3"]
    assert topics.lag() == 3
    topics.ensure_cutover()


def test_read_new_begins_again_until_its_positions_are_committed(topics: Topics, settings: Settings) -> None:
    send(settings, [b"1", b"2"])
    assert values(topics.read_new(10, 10)) == values(topics.read_new(10, 10)) == [b"1", b"2"]
    topics.commit(topics.positions())
    assert (topics.lag(), topics.read_new(10, 10)) == (0, [])
    send(settings, [b"3"])
    with Topics(settings) as later:
        assert values(later.read_new(10, 10)) == [b"3"]


def test_read_new_gives_no_more_than_asked_and_positions_say_so(topics: Topics, settings: Settings) -> None:
    send(settings, [b"%d" % n for n in range(5)])
    found = topics.read_new(2, 10)
    assert values(found) == [b"0", b"1"]
    topics.commit({(m.topic, m.partition): m.offset + 1 for m in found})
    assert topics.lag() == 3
    assert values(topics.read_new(2, 10)) == [b"2", b"3"]
    assert topics.positions()[settings.merge_topic, 0] == 4


def test_commit_never_moves_back(topics: Topics, settings: Settings) -> None:
    send(settings, [b"1", b"2", b"3"])
    place = (settings.merge_topic, 0)
    topics.commit({place: 3})
    topics.commit({place: 1})
    topics.commit({})
    assert topics.lag() == 0


def test_read_new_gives_tombstones_and_bytes_as_they_are(topics: Topics, settings: Settings) -> None:
    before = int(time.time() * 1000) - 5000
    send(settings, [None, b"\x00\xff"])
    tombstone, binary = topics.read_new(10, 10)
    assert (tombstone.value, binary.value, binary.offset) == (None, b"\x00\xff", 1)
    assert before < tombstone.timestamp_ms < before + 60_000
    assert tombstone.position.raw == b""
    assert binary.position.raw == b"\x00\xff"


def test_read_new_gives_no_aborted_message_and_positions_step_over_markers(topics: Topics, settings: Settings) -> None:
    send(settings, [b"kept"], keep=True)
    send(settings, [b"dropped"], keep=False)
    assert values(topics.read_new(10, 10)) == [b"kept"]
    topics.commit(topics.positions())
    assert topics.lag() == 0


def test_the_first_claim_of_a_new_cluster_finds_its_group_s_coordinator(fresh_stack, settings):
    """A broker that never had a group makes the coordinator when it is asked for one: that is no broker that is away."""
    own = fresh_stack("kafka")
    there = settings.replace(kafka_bootstrap_servers=f"127.0.0.1:{own.ports()['kafka']}")
    messages.create_topics(there.kafka_bootstrap_servers, there.topics())
    with Topics(there) as topics:
        topics.ensure_cutover()
        assert topics.lag() == 0


def test_cutover_is_refused_while_the_old_job_is_a_member_and_goes_on_at_its_offset(
    topics: Topics, settings: Settings
) -> None:
    topics.ensure_cutover()
    send(settings, [b"1", b"2", b"3"])
    old_job = other_consumer(settings)
    old_job.subscribe([settings.merge_topic])
    until(lambda: old_job.poll(0.5))
    with pytest.raises(MergeError) as refused:
        topics.ensure_cutover()
    assert refused.value.code == "GROUP_IN_USE"
    assert settings.consumer_group in refused.value.message
    old_job.commit(offsets=[TopicPartition(settings.merge_topic, 0, 2)], asynchronous=False)
    old_job.close()
    topics.ensure_cutover()
    assert values(topics.read_new(10, 10)) == [b"3"]


def test_lost_counts_what_the_topic_deleted_unclaimed_until_it_is_stepped_over(
    topics: Topics, settings: Settings
) -> None:
    send(settings, [b"1", b"2", b"3", b"4"])
    topics.commit({(settings.merge_topic, 0): 1})
    assert lost(topics) == []
    delete_before(settings, 3)
    assert (lost(topics), topics.lag()) == ([(0, 1, 3)], 3)
    assert values(topics.read_new(10, 10)) == [b"4"]
    topics.commit(topics.positions())
    assert (lost(topics), topics.lag()) == ([], 0)


def test_lost_is_stepped_over_also_when_nothing_is_left_to_read(topics: Topics, settings: Settings) -> None:
    send(settings, [b"1", b"2"])
    topics.commit({(settings.merge_topic, 0): 1})
    delete_before(settings, 2)
    assert (lost(topics), topics.lag()) == ([(0, 1, 2)], 1)
    assert topics.read_new(10, 10) == []
    topics.commit(topics.positions())
    assert (lost(topics), topics.lag()) == ([], 0)


def test_offsets_of_an_earlier_topic_of_the_name_hold_nothing_back(topics: Topics, settings: Settings) -> None:
    send(settings, [b"1"])
    old_job = other_consumer(settings)
    old_job.commit(offsets=[TopicPartition(settings.merge_topic, 0, 500)], asynchronous=False)
    old_job.close()
    assert values(topics.read_new(10, 10)) == [b"1"]
    topics.commit(topics.positions())
    assert topics.read_new(10, 10) == []
    send(settings, [b"2"])
    assert (topics.lag(), values(topics.read_new(10, 10))) == (1, [b"2"])


def test_read_gives_what_came_since_and_leaves_the_group_alone(
    topics: Topics, publisher: Publisher, settings: Settings
) -> None:
    publisher.publish([(settings.failed_topic, None, b"before")])
    since = topics.end_offsets(settings.failed_topic)
    assert topics.read(settings.failed_topic, since) == []
    publisher.publish([(settings.failed_topic, None, b"after")])
    assert values(topics.read(settings.failed_topic, since)) == [b"after"]
    assert values(topics.read(settings.failed_topic)) == [b"before", b"after"]
    assert topics.read(settings.failed_topic, dict.fromkeys(since, 10_000)) == []
    assert topics.lag() == 0


@pytest.mark.parametrize("call", ["lag", "standing", "ensure_cutover", "health"])
def test_looking_fails_as_transient_when_no_broker_answers(away: Settings, call: str) -> None:
    with Topics(away) as topics, pytest.raises(TransientError, match="KAFKA_AWAY"):
        getattr(topics, call)()


def test_health_names_the_topics_that_are_missing(topics: Topics, settings: Settings) -> None:
    assert settings.merge_topic in topics.health()
    assert settings.user_sync_topic not in topics.health()
    with Topics(settings.replace(failed_topic=f"{settings.env}.typo")) as other, pytest.raises(MergeError) as failed:
        other.health()
    assert failed.value.code == "TOPIC_MISSING"
    assert f"{settings.env}.typo" in failed.value.message


def test_a_wrong_option_of_the_client_is_a_bad_setting(settings: Settings) -> None:
    wrong = settings.replace(kafka_config={"no.such.option": "x"})
    with Topics(wrong) as topics, pytest.raises(InvalidRequest, match=r"KAFKA_CONFIG.*no\.such\.option"):
        topics.lag()
