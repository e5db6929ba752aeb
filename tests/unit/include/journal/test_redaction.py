"""What expired entries keep: only totals and marks under keyed hashes, found by who knows account and key alone."""

from __future__ import annotations

import hashlib
import uuid

import msgspec

from account_merge.journal.encoding import payload, peek
from account_merge.journal.identity import ERASED, Identity
from account_merge.journal.redaction import RedactedFacts, before_hash, brought_hash, given_hash, pack
from account_merge.model import HandedOn, Values
from account_merge.planning.handed_on import together
from account_merge.planning.merge_join import TableFacts, plan
from tests.unit.include.planning.test_merge_join import CONSUMPTION, stream


class Keyed(Identity):
    """The hashes alone, with a key that needs no server."""

    def __init__(self, key: bytes = b"k" * 32) -> None:
        self._own = uuid.UUID(int=0), key


def test_totals_are_found_by_account_and_key_and_the_highest_counts() -> None:
    cas = Keyed()
    kept = RedactedFacts(cas)
    assert not kept
    kept.add(
        pack(
            [
                (given_hash(cas, "t", "a", b"k1"), {"views": 3, "done": 1}),
                (given_hash(cas, "t", "a", b"k2"), {"views": 1}),
            ]
        )
    )
    kept.add(pack([(given_hash(cas, "t", "a", b"k1"), {"views": 5})]))
    kept.add(pack([(given_hash(cas, "t", "a", b"k1"), {"views": 4})]))
    assert kept.given("t", "a", b"k1") == {"views": 5, "done": 1}
    assert kept.given("t", "a", b"k2") == {"views": 1}
    for table, account, key in (("u", "a", b"k1"), ("t", "b", b"k1"), ("t", "a", b"k3"), ("ta", "", b"k1")):
        assert kept.given(table, account, key) == {}
    assert kept.before("t", "a", b"k1") == {}


def test_marks_are_apart_from_totals() -> None:
    cas = Keyed()
    kept = RedactedFacts(cas)
    kept.add(pack([(before_hash(cas, "t", "a", b"k"), {"active": b"\x01"}),
                   (brought_hash(cas, "t", ("status", 2), "a", ("c", "b"), "L1"), {})]))  # fmt: skip
    assert kept.before("t", "a", b"k") == {"active": b"\x01"}
    assert kept.brought("t", ("status", 2), "a", ("c", "b"), "L1")
    assert not kept.brought("t", ("status", 2), "a", ("c", "b"), "L2")
    assert not kept.brought("t", ("status", 1), "a", ("c", "b"), "L1")
    assert not kept.brought("t", ("status", 2), "x", ("c", "b"), "L1")
    assert kept.given("t", "a", b"k") == {}


def test_a_hash_tells_nothing_without_the_key_and_is_the_same_in_every_process() -> None:
    assert Keyed().hashed(b"a", b"b") == Keyed().hashed(b"a", b"b")
    assert Keyed().hashed(b"a", b"b") != Keyed().hashed(b"ab", b"")
    assert Keyed().hashed(b"a") != Keyed(b"other" * 6).hashed(b"a")
    assert Keyed().hashed(b"a") != hashlib.blake2b(b"a", digest_size=16).digest()
    erased = Keyed().erased_id("account")
    assert erased.startswith(ERASED)
    assert "account" not in erased
    assert Keyed().erased_id(erased) == erased


def test_the_order_of_rows_does_not_show_in_what_is_kept() -> None:
    records = [(bytes([n]) * 16, {"views": n}) for n in range(9)]
    assert pack(records) == pack(reversed(records))
    assert payload([]) != pack([])


def test_an_encoded_change_is_read_without_the_table_s_schema() -> None:
    data = msgspec.msgpack.encode({"key": b"k", "given": {"a": {"views": (1, 4)}}, "before": {"active": b"\x01"}})
    assert peek(data) == (b"k", {"a": {"views": 4}}, {"active": b"\x01"})
    assert peek(data, before=True) == (b"k", {"a": {"views": 1}}, {"active": b"\x01"})
    none = msgspec.msgpack.encode({"key": b"k", "given": {}, "before": None})
    assert peek(none) == (b"k", {}, {})


def test_a_merge_adds_only_what_no_log_says_was_handed_on() -> None:
    key = ("c", "b", "L1")
    source: dict[tuple[str, ...], Values] = {key: {"viewcount": 9}}

    def views(stream_says: int, expired_say: int) -> int:
        said = HandedOn({"viewcount": stream_says} if stream_says else {})
        handed = {key: {"s": together(said, HandedOn({"viewcount": expired_say}))}}
        rows = {"s": stream(source)}
        found = list(
            plan(
                CONSUMPTION,
                "t",
                rows,
                stream({key: {"viewcount": 1}}),
                TableFacts(lambda k: handed.get(k, {})),
            )
        )
        return int((found[0][0].after or {})["viewcount"])

    assert views(0, 0) == 10
    assert views(0, 4) == 6
    assert views(7, 4) == 3
    assert views(4, 7) == 3
