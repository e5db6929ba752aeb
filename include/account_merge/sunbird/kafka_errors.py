"""Errors for people when Kafka did not do as asked. This module does not know its client."""

from __future__ import annotations

from collections.abc import Sequence

from account_merge.errors import InvalidRequest, MergeError, TransientError

#: The user is not known, or not by this password: librdkafka reports that apart, while requests only time out.
NO_RIGHTS = frozenset({"_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "UNSUPPORTED_SASL_MECHANISM"})
#: Waiting cannot help against these: the message, the topic, the rights or the configuration are wrong.
PERMANENT = NO_RIGHTS | {
    "MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_MSG", "INVALID_RECORD", "TOPIC_EXCEPTION",
    "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "TOPIC_AUTHORIZATION_FAILED",
    "GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED", "POLICY_VIOLATION", "INVALID_CONFIG", "_INVALID_ARG",
}  # fmt: skip

#: A topic or its leader is just being made known: the answer changes within a moment.
UNSETTLED = frozenset({
    "NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_PARTITION",
})  # fmt: skip

#: The group's coordinator is just being made or moved: the answer changes within a moment.
NO_COORDINATOR = frozenset({
    "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "_TIMED_OUT", "_WAIT_COORD",
})  # fmt: skip


def away(doing: str, servers: str) -> TransientError:
    """Return the error of a call that no broker answered in time: nothing is lost, and the call may be repeated."""
    return TransientError(
        "KAFKA_AWAY", f"{doing}.", f"See that a broker of {servers} answers; the same call is then safe to repeat."
    )


def refused(doing: str, reason: str) -> MergeError:
    """Return the error of a call that the brokers or the client refused: repeating it cannot help."""
    return MergeError(
        "KAFKA_REFUSED",
        f"{doing} ({reason}).",
        "Trying again does not help: look at the topic's name, its message size limit and the rights of the user in "
        "KAFKA_CONFIG.",
    )


def topic_missing(topics: Sequence[str], doing: str) -> MergeError:
    """Return the error of a topic that does not exist. Nothing creates it on the way: the name may be the mistake."""
    return MergeError(
        "TOPIC_MISSING",
        f"{doing} Missing on the cluster: {', '.join(topics)}.",
        "Create the topics, or set ACCOUNT_MERGE_ENV or the variables ACCOUNT_MERGE_*_TOPIC to their right names.",
    )


def group_in_use(group: str, members: Sequence[str]) -> MergeError:
    """Return the error of a group that another consumer runs in: most likely the retired job."""
    return MergeError(
        "GROUP_IN_USE",
        f"Consumer group {group} has members ({', '.join(members)}): the old job still runs. No event was claimed.",
        "Stop the old job; claiming then goes on at its offset. To read beside it for a trial, set "
        "ACCOUNT_MERGE_CONSUMER_GROUP to another group, and never merge with both.",
    )


def bad_option(reason: str) -> InvalidRequest:
    """Return the error of an option of `KAFKA_CONFIG` that the client does not know, or not with this value."""
    return InvalidRequest(
        "BAD_SETTING", f"KAFKA_CONFIG: {reason}. No merge was touched.", "Use option names and values of librdkafka."
    )
