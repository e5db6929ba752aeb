"""What the platform wrote over our totals: told by value and time, named where both leave it open, put right later."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from account_merge.model import Change, Row, Write
from account_merge.planning.lost_updates import correct, lost_updates, overwritten, shows, still_holds
from account_merge.planning.merge_join import Correction
from account_merge.planning.rebuild import AppliedChange
from account_merge.rules import rule_for
from account_merge.settings import Settings

CC, SETTINGS, ONE = rule_for("user_content_consumption"), Settings.from_env({}), uuid.UUID(int=1)
NOW = time.time()


def change(before: int | None, put: int | None, delete: int = 0) -> Change:
    """An entry's change: what the total was, and what was put; the source had 3."""
    writes = {} if delete else {"viewcount": Write(put, int((NOW - 2) * 1e6))}
    row = None if before is None else {"viewcount": before}
    return Change((), {"s": {"viewcount": 3}}, row, writes, 0, {}, {"s": {"viewcount": (0, 3)}}, delete_at=delete)


def written(value: int, ahead: float = 0.0) -> Row:
    return Row((), {"viewcount": value}, {"viewcount": int((NOW + ahead) * 1e6)})


@pytest.mark.parametrize("ahead", [0.0, 3600.0])
@pytest.mark.parametrize(
    ("one", "found", "blind", "noted"),
    [
        (change(2, 5), 4, True, False),  # a merge: below what was put
        (change(2, 5), 6, False, True),
        (change(5, 2), 3, False, False),  # an undo: below what it found
        (change(5, 2), 6, True, True),
        (change(3, None, delete=int((NOW - 2) * 1e6)), 1, False, False),  # an undo that deleted the row
        (change(3, None, delete=int((NOW - 2) * 1e6)), 4, True, True),
    ],
)
def test_a_write_meanwhile_is_told_by_its_value_or_named(
    one: Change, found: int, blind: bool, noted: bool, ahead: float
) -> None:
    columns, notes = lost_updates(CC, one, written(found, ahead), NOW, SETTINGS)
    assert (bool(columns), bool(notes)) == (blind, noted)


COLUMNS = {
    "viewcount": st.integers(0, 9),
    "progress": st.integers(0, 100),
    "progressdetails": st.text(max_size=3),
    "aggregates": st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), min_size=1),
    "groups": st.frozensets(st.sampled_from("abc"), min_size=1).map(set),
}
TOTAL, AT = "viewcount", 1_000


@st.composite
def changes(draw):
    """A change of any columns, with what it found."""
    before = draw(st.none() | st.fixed_dictionaries({}, optional=COLUMNS))
    put = draw(st.fixed_dictionaries({}, optional=COLUMNS))
    removed = {c: {*(before or {}).get(c, ())} - {*put.get(c, ())} for c in ("aggregates", "groups")}
    writes = {c: Write(v, AT, frozenset(removed.get(c, ()))) for c, v in put.items()}
    return Change((), {}, before, writes, AT if before is None else 0, {}, {})


def left_by(one: Change, at: int = AT) -> Row:
    return Row((), dict(one.after or {}), dict.fromkeys(one.after or {}, at))


@given(one=changes(), data=st.data())
def test_a_row_holds_what_was_put_until_the_platform_writes_it(one: Change, data: st.DataObject) -> None:
    row = left_by(one)
    assert still_holds(CC, one, row)
    assert not still_holds(CC, one, None)
    column = data.draw(st.sampled_from(sorted(COLUMNS)))
    value = data.draw(st.none() | COLUMNS[column])
    written_over = Row((), {**row.values, column: value}, {**row.written, column: AT + 1})
    held = still_holds(CC, one, written_over)
    if column not in one.writes:
        assert held
    elif column == TOTAL:
        assert not held
        assert shows(CC, column, one.writes[column], written_over) == (value == one.writes[column].value)
    elif isinstance(value, dict | set):
        write = one.writes[column]
        brought = value.items() >= write.value.items() if isinstance(value, dict) else value >= write.value
        assert held == (brought and not write.remove & set(value))
    else:
        assert held == (value == one.writes[column].value)
    assert held <= all(shows(CC, name, write, written_over) for name, write in one.writes.items())


@given(changes())
def test_a_deleted_row_holds_while_nothing_stands_there(one: Change) -> None:
    gone = one._replace(writes={}, create_at=0, delete_at=AT)
    assert still_holds(CC, gone, None)
    assert still_holds(CC, gone, Row((), {}))  # its marker alone
    assert still_holds(CC, gone, left_by(one)) == (not one.after)


ENR, MEMBER, LIST = rule_for("user_enrolments"), rule_for("group_member"), rule_for("user_group")
MERIT, AGAIN, OTHER = ({"identifier": f"c{n}", "name": name} for n, name in enumerate(("Merit", "Merit", "Part")))


@pytest.mark.parametrize(
    ("rule", "column", "before", "put", "now", "lost"),
    [
        # an update that began before ours goes on from what stood there before
        (CC, "progress", 60, 80, 70, True),
        (CC, "progress", None, 80, 0, True),
        (ENR, "issued_certificates", [OTHER], [OTHER, MERIT], [OTHER], True),
        (ENR, "issued_certificates", None, [MERIT], [OTHER], True),
        (ENR, "contentstatus", {"a": 1}, {"a": 2, "b": 2}, {"a": 1, "c": 2}, True),
        (LIST, "groupid", {"g"}, {"g", "h"}, {"g", "i"}, True),
        (ENR, "lastreadcontentid", "x", "y", "x", True),
        # who had seen ours went on from it, or changed it on purpose
        (CC, "progress", 60, 80, 90, False),
        (CC, "progress", 60, 80, 40, False),
        (ENR, "active", None, True, False, False),
        (ENR, "issued_certificates", None, [MERIT], [AGAIN], False),
        (ENR, "issued_certificates", None, [MERIT, OTHER], [OTHER], False),
        (ENR, "contentstatus", None, {"a": 2, "b": 2}, {"a": 2}, False),
        (LIST, "groupid", None, {"g", "h"}, {"h"}, False),
        (MEMBER, "status", None, "active", "inactive", False),
        (MEMBER, "role", "member", "admin", "member", False),
        (ENR, "lastreadcontentid", "x", "y", "z", False),
    ],
)
def test_what_was_put_and_is_gone_is_told_from_a_decision_by_value_and_time(
    rule: Any, column: str, before: Any, put: Any, now: Any, lost: bool
) -> None:
    held = None if before is None else {column: before}
    step = AppliedChange(ONE, Change((), {}, held, {column: Write(put, int((NOW - 2) * 1e6))}, 1, {}, {}), sent=NOW)

    def looked(ahead: float) -> Any:
        return overwritten(rule, [step], Row((), {column: now}, {column: int((NOW + ahead) * 1e6)}), SETTINGS)

    for ahead in (0.0, 5.0, 3600.0):  # within the time of an update, and by a clock that tells nothing
        columns, notes = looked(ahead)
        assert (bool(columns), len(notes)) == (lost, int(lost))
    step = replace(step, sent=NOW - 3600)  # long after: whatever it shows, it is a decision
    assert looked(0.0) == (frozenset(), ())
    assert looked(-10.0) == (frozenset(), ())  # nobody wrote since


def mended(found: int | None, ahead: float = 0.0, sent: float = NOW) -> Any:
    row = None if found is None else written(found, ahead)
    return correct(CC, [AppliedChange(ONE, change(2, 5), sent=sent)], row, "t", lambda merge: True, SETTINGS)


def test_a_share_that_was_written_over_is_handed_on_again() -> None:
    found = mended(3)
    assert (found.given, found.unseen, found.notes) == ({"s": {"viewcount": 0}}, {"viewcount"}, ())


def test_growth_changes_nothing_and_stays_open_only_for_the_window() -> None:
    within, later = mended(6), mended(6, sent=NOW - 3600)
    assert (within.given, len(within.notes)) == ({}, 1)
    assert (later.given, later.notes) == ({}, ())


def test_a_row_that_was_removed_gets_nothing_again() -> None:
    assert mended(None) == Correction()
