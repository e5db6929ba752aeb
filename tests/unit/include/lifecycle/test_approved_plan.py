"""What two plans differ in, found while both are read once: exactly, and in the memory of the differences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from account_merge.journal.plans import differences

KEYS = st.dictionaries(st.integers(0, 60), st.integers(0, 3))


def stored(rows):
    return [(str(key).encode(), str(value).encode()) for key, value in sorted(rows.items())]


def planned(rows):
    return [(str(key).encode(), str(value).encode(), key) for key, value in sorted(rows.items())]


@given(KEYS, KEYS)
def test_each_row_that_is_otherwise_is_named_once(before, after):
    found = sorted(differences(stored(before), planned(after)), key=str)
    wanted = [("changed", k) for k in before.keys() & after.keys() if before[k] != after[k]]
    wanted += [("appeared", k) for k in after.keys() - before.keys()]
    wanted += [("vanished", None)] * len(before.keys() - after.keys())
    assert found == sorted(wanted, key=str)


def test_a_million_rows_with_one_that_appeared_first_are_not_kept():
    import tracemalloc

    number = 200_000
    old = (((i + 1).to_bytes(16, "big"), b"x" * 16) for i in range(number))
    new = ((i.to_bytes(16, "big"), b"x" * 16, i) for i in range(number + 1))
    tracemalloc.start()
    assert list(differences(old, new)) == [("appeared", 0)]
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
