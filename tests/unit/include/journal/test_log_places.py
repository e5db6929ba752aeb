"""The last entry of a log that lies in buckets: found whatever its length, without asking each bucket."""

from __future__ import annotations

import uuid
from datetime import datetime
from types import SimpleNamespace

import pytest

from account_merge.journal.cas import BUCKET
from account_merge.journal.log import Log, last_row

MERGE = uuid.uuid4()


class Buckets:
    """A journal of one log with so many entries; counts what is asked."""

    def __init__(self, entries: int) -> None:
        self.entries, self.asked = entries, 0

    def read(self, cql, values, serial=True):
        self.asked += 1
        last = min((values[2] + 1) * BUCKET, self.entries) - 1
        return [SimpleNamespace(seq=last, created_at=datetime.min)] if last >= values[2] * BUCKET else []

    def read_all(self, cql, values):
        self.asked += len(values)
        for _, _, bucket in values:
            here = range(bucket * BUCKET, min((bucket + 1) * BUCKET, self.entries))
            yield [SimpleNamespace(seq=seq, counts={"created": 2}, note="n" if seq == 5 else None) for seq in here]


@pytest.mark.parametrize("entries", [1, 2, 99, 100, 101, 199, 200, 201, 299, 300, 301, 700, 1000, 1234, 10_000, 10_001])
def test_the_last_entry_is_found(entries):
    journal = Buckets(entries)
    assert last_row(journal, MERGE, "log", "cql").seq == entries - 1
    assert journal.asked <= (1 if entries < BUCKET else 16)


def test_an_empty_log_has_no_last_entry():
    assert last_row(Buckets(0), MERGE, "log", "cql") is None


@pytest.mark.parametrize("entries", [0, 1, 99, 100, 101, 300, 1234, 10_000])
def test_every_entry_is_counted_once(entries):
    journal = Buckets(entries)
    counts, note = Log(journal, MERGE, "log", None).summary()
    assert (counts, note) == ({"created": 2 * entries} if entries else {}, "n" if entries > 5 else "")
    assert journal.asked <= max(1, 2 * entries // BUCKET + 1 + 16)
