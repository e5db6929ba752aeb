"""The rules of merge events, as one table: the checks refuse by it, the docs page shows it, the tests go through it."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import dataclass
from typing import Any

ACTION = "merge-user-courses-and-cert"
#: Control, format (zero-width), surrogate, line and paragraph separators: two ids that look alike must not differ.
_UNCLEAN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Nothing is drawn for these, though their categories are those of letters, marks and symbols: what else Unicode's
#: Default_Ignorable_Code_Point holds (DerivedCoreProperties.txt), and the empty Braille pattern. First and last of each.
_INVISIBLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip


@dataclass(frozen=True)
class EventRule:
    """One way in which a message is not a merge event, with examples for the tests and the docs."""

    code: str
    what: str
    remedy: str
    examples: tuple[bytes, ...]


def _example(edata: Any, **more: Any) -> bytes:
    return json.dumps({"eid": "BE_JOB_REQUEST", **more, "edata": edata}).encode()


def _pair(source: Any = "old-account", target: Any = "new-account", **more: Any) -> bytes:
    return _example({"fromAccountId": source, "toAccountId": target}, **more)


_SEND_AGAIN = "Mend the producer, then publish the right event; both accounts are as they were."

EMPTY = EventRule("EMPTY_EVENT", "The message is empty (a tombstone has no value).", _SEND_AGAIN, (b"", b" \n"))
TOO_LARGE = EventRule(
    "EVENT_TOO_LARGE", "The message is longer than ACCOUNT_MERGE_MAX_EVENT_BYTES.",
    "Publish a shorter event, or raise ACCOUNT_MERGE_MAX_EVENT_BYTES if this one is right.",
    (_pair(padding="x" * 262144),))  # fmt: skip
NOT_TEXT = EventRule("EVENT_NOT_TEXT", "The message is binary: it is not text in UTF-8.", _SEND_AGAIN,
                    (b"\x00\x00\x00\x00\x07\x02\x18", b"\xff\xfe{\x00}\x00", b'{"edata": "\xc3\x28"}'))  # fmt: skip
NOT_JSON = EventRule(
    "EVENT_NOT_JSON", "The message is not JSON.", _SEND_AGAIN,
    (b"hello", b'{"edata": {"fromAccountId": "a", ', b'{"ets": NaN}', b'{"mid": "\\ud800"}', b"[" * 100_000,
     b'{"edata": {}} {}'))  # fmt: skip
NOT_AN_OBJECT = EventRule("EVENT_NOT_AN_OBJECT", "The message is JSON, but not an object.", _SEND_AGAIN,
                         (b"[]", b'"text"', b"17", b"null"))  # fmt: skip
NO_EDATA = EventRule("NO_EDATA", "The event's edata is missing or not an object.", _SEND_AGAIN,
                    (b"{}", b'{"edata": null}', b'{"edata": "x"}', b'{"edata": []}'))  # fmt: skip
ID_MISSING = EventRule(
    "ID_MISSING", "An account id is missing.", _SEND_AGAIN,
    (_example({}), _example({"fromAccountId": "a"}), _example({"toAccountId": "b"}), _pair(None)))  # fmt: skip
ID_NOT_TEXT = EventRule("ID_NOT_TEXT", "An account id is not a string.", _SEND_AGAIN,
                       (_pair(7), _pair(target=["b"]), _pair(target={"id": "b"}), _pair(True)))  # fmt: skip
ID_BLANK = EventRule(
    "ID_BLANK", "An account id is blank, or all its characters are invisible.", _SEND_AGAIN,
    (_pair(""), _pair(target="  \t"), _pair("\u3164"), _pair(target="\u2800\u200b")))  # fmt: skip
ID_TOO_LONG = EventRule(
    "ID_TOO_LONG", "An account id is longer than ACCOUNT_MERGE_MAX_ID_LENGTH.",
    "Look where the id comes from; raise ACCOUNT_MERGE_MAX_ID_LENGTH only if the platform's ids are really that long.",
    (_pair("a" * 129), _pair(target="b" * 5000)))  # fmt: skip
ID_UNCLEAN = EventRule(
    "ID_UNCLEAN", "An account id begins or ends with white space, or holds a control or invisible character.",
    "Publish the event again with the id as the platform's user table has it; nothing is stripped here, since "
    "the stripped id may be another account.",
    (_pair(" old-account"), _pair(target="new-account\n"), _pair("old\u0000account"), _pair("old\u200baccount"),
     _pair("old\u034faccount"), _pair(target="new-account\u2800")),
)  # fmt: skip
SAME_ACCOUNT = EventRule("SAME_ACCOUNT", "The source account is the target account.",
                        "Nothing is to be merged; if another pair was meant, publish that.",
                        (_pair("one", "one"),))  # fmt: skip
WRONG_HASH = EventRule(
    "WRONG_HASH", "object.id looks like the hash of the two account ids but is that of others.",
    "Find out which accounts the person merged (the user service's log has the event), then publish that pair.",
    (_pair(object={"id": hashlib.sha256(b"new-account_old-account").hexdigest()}), _pair(object={"id": "A" * 64})),
)  # fmt: skip

#: In the order of the checks: the first row that applies refuses the message.
EVENT_RULES: tuple[EventRule, ...] = (
    EMPTY, TOO_LARGE, NOT_TEXT, NOT_JSON, NOT_AN_OBJECT, NO_EDATA, ID_MISSING, ID_NOT_TEXT, ID_BLANK, ID_TOO_LONG,
    ID_UNCLEAN, SAME_ACCOUNT, WRONG_HASH,
)  # fmt: skip

_OLD, _NEW = "b964d83a-c40f-4b3c-85e7-68b764efd14b", "191e6b5a-8581-46bd-b779-b3b534984649"
#: The forms in the wild: (what it is, example). Each is one merge of the two accounts; unknown keys are let be.
ACCEPTED: tuple[tuple[str, bytes], ...] = (
    ("the documented sample, whose object.id is not a hash", json.dumps({
        "eid": "BE_JOB_REQUEST", "ets": 1648720639981, "mid": "LP.1648720639981.d6b1d8c8-7a4a-483a-b83a-b752bede648c",
        "actor": {"id": "Merge User Courses and Cert", "type": "System"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}, "channel": "0123221758376673287017",
                    "env": "staging"},
        "object": {"type": "MergeUserCoursesAndCert", "id": "68b764efd14bb3b534984649"},
        "edata": {"action": ACTION, "fromAccountId": _OLD, "toAccountId": _NEW, "rootOrgId": "0123221758376673287017",
                  "iteration": 1}}).encode()),
    ("the user service's own form, whose object.id is the hash", json.dumps({
        "eid": "BE_JOB_REQUEST", "ets": 1648720639981, "ver": "3.0",
        "mid": "1648720639981.6ed1b9d2-0d67-4f3e-9a55-3f5d5f6d6b0e",
        "actor": {"id": "Merge User Courses and Cert", "type": "system"},
        "context": {"pdata": {"id": "org.sunbird.platform", "ver": "1.0"}, "cdata": [], "rollup": {}},
        "object": {"id": hashlib.sha256(f"{_OLD}_{_NEW}".encode()).hexdigest(), "type": "MergeUserCoursesAndCert"},
        "edata": {"action": ACTION, "fromAccountId": _OLD, "toAccountId": _NEW, "rootOrgId": "0123221758376673287017",
                  "iteration": 1}}).encode()),
    ("the minimal form, without an action", json.dumps({
        "eid": "BE_JOB_REQUEST", "ets": 1563788371969, "mid": "LMS.1563788371969.590c5fa0-0ce8-46ed-bf6c-681c0a1fdac8",
        "edata": {"fromAccountId": _OLD, "toAccountId": _NEW}}).encode()),
)  # fmt: skip


def _invisible(sign: str) -> bool:
    return any(first <= ord(sign) <= last for first, last in _INVISIBLE)


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing of a text: it is empty, or white space and invisible characters only."""
    return all(sign.isspace() or unicodedata.category(sign) in _UNCLEAN or _invisible(sign) for sign in text)


def account_id_problem(value: object, max_length: int) -> EventRule | None:
    """Return the row that a value breaks as an account id, or None; requests that people make obey the same rows."""
    if value is None:
        return ID_MISSING
    if not isinstance(value, str):
        return ID_NOT_TEXT
    if is_blank(value):
        return ID_BLANK
    if len(value) > max_length:
        return ID_TOO_LONG
    unclean = value != value.strip() or any(unicodedata.category(c) in _UNCLEAN or _invisible(c) for c in value)
    return ID_UNCLEAN if unclean else None
