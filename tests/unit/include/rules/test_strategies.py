"""The column algebra: idempotent, nothing earned is lost, commutative where promised, and each has its inverse."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from account_merge.rules import RULES
from account_merge.rules.attempts import attempt_of, union_of_attempts
from account_merge.rules.moments import instant
from account_merge.rules.strategies import (
    Strategy,
    consent,
    earliest_text,
    either,
    goes_with,
    highest,
    keep_target,
    keep_target_fill_gaps,
    latest,
    latest_text,
    maximum,
    minimum,
    per_key,
    revert_elements,
    revert_list,
    revert_total,
    revert_value,
    total,
    union,
    union_by,
)
from tests.values import moments

quick = settings(max_examples=60, deadline=None, database=None)
MOMENTS = moments(datetime(2015, 1, 1), datetime(2030, 1, 1), timedelta(milliseconds=1))
NUMBERS = st.integers(-5, 500)
ZONES = st.sampled_from(["+0000", "+0530", "-0800", ""])


def platform_text(moment: datetime, zone: str) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}:{moment.microsecond // 1000:03d}{zone}"


TEXTS = st.one_of(
    st.builds(platform_text, MOMENTS, ZONES), st.sampled_from(["", "soon", "2022-13-45 10:00:00:000+0530"])
)
UNIVERSE = ["c1", "c2", "c3"]


def certificate(name: str, has: str, issued: str | None) -> dict[str, str]:
    made = {"name": name}
    if has != "token":
        made["identifier"] = f"id-{name}"
    if has != "identifier":
        made["token"] = f"tok-{name}"
    return made if issued is None else {**made, "lastIssuedOn": issued}


CERTIFICATES = st.lists(
    st.builds(
        certificate,
        st.sampled_from(UNIVERSE),
        st.sampled_from(["identifier", "token", "both"]),
        st.sampled_from([None, "2022-03-01", "2022-03-05", "2022-03-09"]),
    ),
    min_size=1,
    max_size=5,
)
ATTEMPTS = st.lists(
    st.one_of(
        st.builds(
            lambda a, c, d: json.dumps(
                {"attempt_id": a, "content_id": c, "last_attempted_on": f"Mar {d}, 2022, 10:15:30 AM"}
            ),
            st.sampled_from(["a1", "a2", "a3"]),
            st.sampled_from(["x", "y"]),
            st.integers(1, 28),
        ),
        st.sampled_from(["not json", "[]", '{"score": 1}', '{"attempt_id": ["odd"], "content_id": {}}']),
    ),
    min_size=1,
    max_size=5,
)
CERTIFICATE_UNION = union_by("identifier", "token", newer="lastIssuedOn")
NUMBERS_BY_KEY = per_key({"low:*": minimum, "*": maximum})
MAPS = st.dictionaries(st.sampled_from(["a", "b", "low:c", "low:d"]), NUMBERS, min_size=1)

#: every kind of strategy with values that it is used for
KINDS: dict[str, tuple[Strategy, st.SearchStrategy[Any]]] = {
    "maximum": (maximum, NUMBERS),
    "minimum": (minimum, NUMBERS),
    "latest": (latest, MOMENTS),
    "either": (either, st.booleans()),
    "keep_target": (keep_target, NUMBERS),
    "keep_target_fill_gaps": (keep_target_fill_gaps, NUMBERS),
    "latest_text": (latest_text, TEXTS),
    "earliest_text": (earliest_text, TEXTS),
    "union_by": (CERTIFICATE_UNION, CERTIFICATES),
    "union_of_attempts": (union_of_attempts, ATTEMPTS),
    "per_key": (NUMBERS_BY_KEY, MAPS),
    "union": (union, st.sets(st.sampled_from("abcd"), min_size=1)),
    "highest": (highest("inactive", "active"), st.sampled_from(["active", "inactive", "invited", "odd"])),
    "consent": (consent, st.booleans()),
    "goes_with": (goes_with, NUMBERS),
}
VALUE_OR_NULL = {name: st.none() | values for name, (_, values) in KINDS.items()}
GAPS_STAY = {"consent", "goes_with"}
each_kind = pytest.mark.parametrize("name", KINDS)


def drawn(data: st.DataObject, name: str, count: int) -> tuple[Strategy, list[Any]]:
    strategy, _ = KINDS[name]
    return strategy, [data.draw(VALUE_OR_NULL[name]) for _ in range(count)]


@each_kind
@quick
@given(data=st.data())
def test_merging_the_same_again_changes_nothing(name: str, data: st.DataObject) -> None:
    strategy, (target, source) = drawn(data, name, 2)
    once = strategy.merge(target, source)
    assert strategy.merge(once, source) == once
    assert strategy.merge(once, once) == once


@each_kind
@quick
@given(data=st.data())
def test_the_order_of_rows_is_free_where_it_is_promised(name: str, data: st.DataObject) -> None:
    strategy, (target, one, two) = drawn(data, name, 3)
    if strategy.commutative:
        assert strategy.merge(target, one) == strategy.merge(one, target)
        forward = strategy.merge(strategy.merge(target, one), two)
        assert forward == strategy.merge(strategy.merge(target, two), one)
        assert forward == strategy.merge(target, strategy.merge(one, two))


@each_kind
@quick
@given(data=st.data())
def test_a_null_gives_way_to_a_value(name: str, data: st.DataObject) -> None:
    strategy, (target, _) = drawn(data, name, 2)
    assert strategy.merge(target, None) == target
    if name not in GAPS_STAY:
        assert strategy.merge(None, target) == target
    else:
        assert not strategy.merge(None, target)


@each_kind
@quick
@given(data=st.data())
def test_revert_gives_the_value_before(name: str, data: st.DataObject) -> None:
    strategy, (before, source) = drawn(data, name, 2)
    after = strategy.merge(before, source)
    assert strategy.revert(before, after, after) == before


@quick
@given(target=st.none() | st.integers(0, 500), source=st.integers(0, 500), later=st.integers(0, 500))
def test_revert_of_a_total_takes_back_exactly_what_was_added(target: int | None, source: int, later: int) -> None:
    after = total.merge(target, source)
    assert total.revert(target, after, after) == target
    assert total.revert(target, after, after + later) in {(target or 0) + later, target}
    assert revert_total(3, 5, 1) == 0


def test_a_promise_of_commutativity_is_kept_from_where_it_would_be_wrong() -> None:
    assert not any(s.commutative for s in (keep_target, keep_target_fill_gaps, CERTIFICATE_UNION, union_of_attempts))
    assert keep_target.merge(1, 2) != keep_target.merge(2, 1)


@quick
@given(NUMBERS, NUMBERS)
def test_a_maximum_is_never_below_either(one: int, two: int) -> None:
    assert maximum.merge(one, two) >= max(one, two)
    assert minimum.merge(one, two) <= min(one, two)


@quick
@given(MAPS, MAPS)
def test_no_key_of_a_map_is_dropped(one: dict[str, int], two: dict[str, int]) -> None:
    merged = NUMBERS_BY_KEY.merge(one, two)
    assert set(merged) == {*one, *two}
    for key, value in merged.items():
        known = [m[key] for m in (one, two) if key in m]
        assert value == (min(known) if key.startswith("low:") else max(known))


@quick
@given(CERTIFICATES, CERTIFICATES)
def test_no_certificate_is_lost(one: list[dict[str, str]], two: list[dict[str, str]]) -> None:
    merged = CERTIFICATE_UNION.merge(one, two)
    for key in ("identifier", "token"):
        assert {c[key] for c in (*one, *two) if key in c} <= {c[key] for c in merged if key in c}, key
    newest = {n: max((c.get("lastIssuedOn", "") for c in (*one, *two) if c["name"] == n), default="") for n in UNIVERSE}
    for certificate_name, issued in newest.items():
        assert not issued or issued in {c.get("lastIssuedOn") for c in merged if c["name"] == certificate_name}


@quick
@given(ATTEMPTS, ATTEMPTS)
def test_no_attempt_is_lost_and_the_later_text_of_one_stands(one: list[str], two: list[str]) -> None:
    def day(text: str) -> int:
        return int(attempt_of(text)["last_attempted_on"].split()[1].rstrip(","))

    merged = union_of_attempts.merge(one, two)
    texts = {*one, *two}
    keys = {(attempt_of(t).get("attempt_id"), attempt_of(t).get("content_id")) for t in texts if "last_att" in t}
    for key in keys:
        forms = [
            t for t in texts if "last_att" in t and (attempt_of(t)["attempt_id"], attempt_of(t)["content_id"]) == key
        ]
        assert max(forms, key=day) in merged
    assert {t for t in texts if "last_att" not in t} <= set(merged)


def test_certificates_of_one_name_both_stay() -> None:
    mine, other = [{"name": "Course", "identifier": "1"}], [{"name": "Course", "identifier": "2"}]
    assert CERTIFICATE_UNION.merge(mine, other) == mine + other


def test_a_newer_form_of_a_certificate_stands_and_keeps_the_identity_of_the_older() -> None:
    old = {"identifier": "1", "token": "x", "lastIssuedOn": "2022-03-01"}
    newer = {"token": "x", "lastIssuedOn": "2022-03-05"}
    assert CERTIFICATE_UNION.merge([old], [newer]) == [{"identifier": "1", **newer}]
    assert CERTIFICATE_UNION.merge([newer], [old]) == [{"identifier": "1", **newer}]


def test_a_certificate_without_any_identity_is_compared_as_a_whole() -> None:
    bare, other = {"name": "Course"}, {"name": "Course", "by": "someone"}
    assert CERTIFICATE_UNION.merge([bare], [bare]) == [bare]
    assert CERTIFICATE_UNION.merge([bare], [other]) == [bare, other]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2022-03-01 10:15:30:123+0530", datetime(2022, 3, 1, 4, 45, 30, 123000)),
        ("2022-03-01 10:15:30:123+0000", datetime(2022, 3, 1, 10, 15, 30, 123000)),
        ("2022-03-01 10:15:30:123-0800", datetime(2022, 3, 1, 18, 15, 30, 123000)),
        ("2022-03-01T10:15:30.123Z", datetime(2022, 3, 1, 10, 15, 30, 123000)),
        ("2022-03-01 10:15:30.123+0000", datetime(2022, 3, 1, 10, 15, 30, 123000)),
        (" 2022-03-01 10:15:30+0530 ", datetime(2022, 3, 1, 4, 45, 30, 0)),
        ("2022-03-01 10:15:30:123", datetime(2022, 3, 1, 4, 45, 30, 123000)),  # Asia/Kolkata when it names none
        ("2022-03-01 10:15:30", datetime(2022, 3, 1, 4, 45, 30, 0)),
        ("2022-03-01", datetime(2022, 2, 28, 18, 30, 0, 0)),
        ("soon", None),
        ("", None),
        ("2022-02-30 10:15:30:123+0530", None),
        ("0001-01-01 00:00:00:000+0530", None),  # before the first moment that UTC can name
        (None, None),
        (True, None),
    ],
)
def test_instant_reads_the_platform_s_texts(text: Any, moment: datetime | None) -> None:
    assert instant(text) == moment


def test_instant_reads_a_text_without_zone_in_the_given_one() -> None:
    assert instant("2022-03-01 10:15:30", "UTC") == datetime(2022, 3, 1, 10, 15, 30, 0)
    assert instant("2022-07-01 10:15:30", "Europe/Berlin") == datetime(2022, 7, 1, 8, 15, 30, 0)


def test_instant_reads_a_timestamp_as_utc() -> None:
    naive = datetime(2022, 3, 1, 10, 15, 30)
    assert instant(naive) == naive


@quick
@given(MOMENTS, st.integers(1, 10**8))
def test_times_as_text_are_compared_as_moments_not_as_letters(moment: datetime, step: int) -> None:
    """The later moment wins also where its text sorts first, because it is written in a zone further west."""
    later = moment + timedelta(milliseconds=step)
    here, there = platform_text(moment + timedelta(hours=5, minutes=30), "+0530"), platform_text(later, "+0000")
    assert latest_text.merge(here, there) == latest_text.merge(there, here) == there
    assert earliest_text.merge(here, there) == earliest_text.merge(there, here) == here


@pytest.mark.parametrize("strategy", [latest_text, earliest_text])
def test_a_text_that_cannot_be_read_loses(strategy: Strategy) -> None:
    good = "2022-03-01 10:15:30:123+0530"
    assert strategy.merge(good, "zzz") == strategy.merge("zzz", good) == good


def test_the_highest_word_stands_and_an_unknown_one_is_below_all() -> None:
    role = highest("member", "admin")
    assert role.merge("member", "admin") == role.merge("admin", "member") == "admin"
    assert role.merge("member", "owner") == role.merge("owner", "member") == "member"
    assert role.name == "highest(admin over member)"


def test_what_goes_with_a_row_and_a_consent_fill_no_gap() -> None:
    assert goes_with.merge(None, "value") is None
    assert goes_with.merge("mine", "value") == "mine"
    assert consent.merge(None, True) is False
    assert [consent.merge(False, True), consent.merge(True, False)] == [False, True]


def test_revert_keeps_what_came_later() -> None:
    assert revert_value(1, 2, 3) == 3
    by_key = per_key({"*": maximum}).revert
    assert by_key({"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3, "c": 4}) == {"a": 1, "c": 4}
    assert by_key({"a": 1}, {"a": 2, "b": 3}, {"a": 9, "b": 3}) == {"a": 9}
    assert by_key(None, {"a": 1}, {"a": 1}) is None
    assert revert_elements({"x"}, {"x", "y"}, {"x", "y", "z"}) == {"x", "z"}
    assert revert_list(["a"], ["a", "b"], ["a", "b", "c"]) == ["a", "c"]
    assert revert_list(None, ["b"], ["b"]) is None


def test_what_the_platform_went_on_with_takes_nothing_from_what_a_redo_brings() -> None:
    assert revert_elements({"x", "y"}, {"x"}, {"x", "z"}) == {"x", "y", "z"}
    assert maximum.revert(2, None, 1) == 2  # a lesson that was begun while the merge was undone
    assert maximum.revert(2, 1, 1) == 2
    assert maximum.revert(5, 3, 1) == 1  # set back on purpose
    assert per_key({"*": maximum}).revert({"a": 5}, {"a": 2}, {"a": 3, "b": 1}) == {"a": 5, "b": 1}
    assert per_key({"*": maximum}).revert({"a": 5}, {"a": 5}, {}) is None  # removed on purpose


def test_revert_of_a_list_puts_back_the_form_that_a_newer_one_replaced() -> None:
    old, newer, late = ({"identifier": "1", "lastIssuedOn": day} for day in ("2022-03-01", "2022-03-05", "2022-03-09"))
    late = {**late, "identifier": "2"}
    assert revert_list([old], [newer], [newer, late]) == [late, old]


def test_every_strategy_of_the_rules_is_of_a_kind_that_is_tested_here() -> None:
    used = {s.name.split("(")[0] for rule in RULES for s in rule.columns.values()}
    assert used <= {*KINDS, "total", "follows", "earliest"}
    assert all(s.why for rule in RULES for s in rule.columns.values())
