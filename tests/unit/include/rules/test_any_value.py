"""Whatever the columns hold: no strategy and no derivation raises, and the promises of the algebra are kept."""

from __future__ import annotations

import uuid
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from account_merge.model import Row, Values
from account_merge.planning.combining import Facts, merge_values
from account_merge.planning.merge_join import plan_row
from account_merge.planning.rebuild import AppliedChange, Effective, rebuild
from account_merge.rules import RULES, TABLES, TableRule, rule_for
from account_merge.rules.attempts import attempt_of
from account_merge.rules.comparing import number, size, time
from account_merge.rules.evidence import Evidence, Findings
from account_merge.rules.moments import believable, instant
from account_merge.rules.strategies import Strategy, minimum
from account_merge.values import NAN
from tests.unit.include.rules.test_tables import FORKS, OFFICIAL, totals
from tests.values import DETAILS, SCALARS, TEXTS, TIMES, canonical, canonical_row, of_type

quick = settings(max_examples=25, deadline=None, database=None)
UNKNOWN = "a_column_of_nobody"


def types_of(rule: TableRule) -> dict[str, str]:
    known = OFFICIAL[rule.table].columns | FORKS
    return {**{column: known[column] for column in rule.columns}, UNKNOWN: "text"}


#: Each strategy of the rules with each type that it is used for, and what no rule uses yet.
KINDS: dict[str, tuple[Strategy, str]] = {
    f"{rule.strategy(column).name}-{cql_type}": (rule.strategy(column), cql_type)
    for rule in RULES
    for column, cql_type in types_of(rule).items()
} | {f"minimum-{cql_type}": (minimum, cql_type) for cql_type in ("int", "double", "timestamp", "text")}
each_kind = pytest.mark.parametrize("kind", sorted(KINDS))
each_rule = pytest.mark.parametrize("rule", RULES, ids=TABLES)


@cache  # to make one takes longer than to draw from it
def value_or_null(cql_type: str) -> st.SearchStrategy[Any]:
    return st.none() | of_type(cql_type)


def drawn(data: st.DataObject, kind: str, count: int) -> tuple[Strategy, list[Any]]:
    strategy, cql_type = KINDS[kind]
    return strategy, [data.draw(value_or_null(cql_type)) for _ in range(count)]


@each_kind
@quick
@given(data=st.data())
def test_any_two_values_merge_and_the_same_again_changes_nothing(kind: str, data: st.DataObject) -> None:
    strategy, (target, source) = drawn(data, kind, 2)
    if strategy.ledger:
        numbers = [value for value in (target, source) if number(value) is not None]
        assert not numbers or strategy.merge(target, source) == sum(numbers)
        return
    once = strategy.merge(target, source)
    assert canonical(strategy.merge(once, source)) == canonical(once)
    assert canonical(strategy.merge(once, once)) == canonical(once)
    assert once is None or type(once) in {type(target), type(source), set, bool}


@each_kind
@quick
@given(data=st.data())
def test_the_order_is_free_where_it_is_promised(kind: str, data: st.DataObject) -> None:
    strategy, (target, one, two) = drawn(data, kind, 3)
    if strategy.ledger or not strategy.commutative:
        return
    if strategy.gap("gap") != "gap" and None in (target, one, two):  # what fills no gap is not the same beside one
        return
    assert canonical(strategy.merge(target, one)) == canonical(strategy.merge(one, target))
    forward = canonical(strategy.merge(strategy.merge(target, one), two))
    assert forward == canonical(strategy.merge(strategy.merge(target, two), one))
    assert forward == canonical(strategy.merge(target, strategy.merge(one, two)))


@each_kind
@quick
@given(data=st.data())
def test_revert_is_the_inverse(kind: str, data: st.DataObject) -> None:
    strategy, (before, source, now) = drawn(data, kind, 3)
    after = strategy.merge(before, source)
    assert canonical(strategy.revert(before, after, after)) == canonical(before)
    strategy.revert(before, after, now)


@each_kind
@quick
@given(data=st.data())
def test_nothing_that_can_be_used_is_lost(kind: str, data: st.DataObject) -> None:
    strategy, held = drawn(data, kind, 2)
    merged = strategy.merge(*held)
    if strategy.name in ("maximum", "minimum"):
        numbers = [value for value in held if number(value) is not None]
        best = (max if strategy.name == "maximum" else min)(numbers, default=None)
        assert not numbers or merged == best
    if strategy.name.startswith(("latest", "earliest")):
        moments = [moment for value in held if believable(moment := instant(value))]
        best = (max if strategy.name.startswith("latest") else min)(moments, default=None)
        assert not moments or instant(merged) == best
        assert merged in held
    if strategy.name.startswith("per_key"):
        assert {k for value in held for k, v in (value or {}).items() if v is not None} <= set(merged or {})
    if strategy.name.startswith("union_by"):
        elements = [e for value in held if isinstance(value, list) for e in value if isinstance(e, dict)]
        for key in ("identifier", "token"):
            kept = {e.get(key) for e in merged or [] if isinstance(e, dict)}
            # Of two forms that differ in their token, but not in their identifier, one stands.
            assert {e[key] for e in elements if e.get(key) and (key == "identifier" or not e.get("identifier"))} <= kept
    if strategy.name == "union_of_attempts":
        texts = [text for value in held if isinstance(value, list) for text in value]
        names = {str(attempt_of(t)["attempt_id"]) for t in texts if attempt_of(t).get("attempt_id")}
        assert names <= {str(attempt_of(t).get("attempt_id")) for t in merged or []}


def rows_of_anything(rule: TableRule) -> st.SearchStrategy[Values]:
    """Rows of a table with any values, also those that the planner would never hand to a rule."""
    return _rows_of_anything(rule.table)


@cache
def _rows_of_anything(table: str) -> st.SearchStrategy[Values]:
    return st.fixed_dictionaries({}, optional={c: of_type(t) for c, t in types_of(rule_for(table)).items()})


_NAMES = st.sampled_from(["a", "q", ""])
FOUND = st.fixed_dictionaries(
    {
        "finished": st.dictionaries(st.sampled_from(["s1", "s2", "t"]), st.sets(_NAMES)),
        "attempts": st.dictionaries(
            st.sampled_from(["s1", "s2", "t"]),
            st.lists(
                st.tuples(_NAMES, _NAMES, st.none() | of_type("double"), st.none() | of_type("double"), st.none() | of_type("timestamp")),
                max_size=3,
            ),
        ),
        "memberships": st.dictionaries(st.sampled_from(["s1", "t"]), st.sets(_NAMES)),
    },
)  # fmt: skip
EVIDENCE = st.builds(
    lambda found, seeded: Evidence({name: Findings(shown) for name, shown in found.items()}, seeded=seeded),
    FOUND,
    st.sampled_from([frozenset(), frozenset({"s1"})]),
)


@each_rule
@quick
@given(data=st.data())
def test_any_rows_merge_again_undo_and_are_spoken_of(rule: TableRule, data: st.DataObject) -> None:
    sources = {name: data.draw(rows_of_anything(rule)) for name in data.draw(st.sampled_from([["s1"], ["s1", "s2"]]))}
    target, evidence = data.draw(st.none() | rows_of_anything(rule)), data.draw(EVIDENCE)
    once, handed = merge_values(rule, sources, target, "t", Facts({}, evidence))
    turned = dict(reversed(sources.items()))
    assert canonical_row(merge_values(rule, turned, target, "t", Facts({}, evidence))[0]) == canonical_row(once)
    twice, _ = merge_values(rule, sources, once, "t", Facts(totals(handed), evidence))
    assert canonical_row(twice) == canonical_row(once)
    row = None if target is None else Row((), target)
    change = plan_row(rule, ("k",) * len(rule.key), sources, row, "t", 1, Facts({}, evidence))
    assert all(words for words in change.notes)
    back = rebuild(
        rule,
        [AppliedChange(uuid.uuid4(), change)],
        change.after,
        "t",
        Effective(lambda merge: False),
    ).row
    assert canonical_row(back) == canonical_row(target)


@pytest.mark.parametrize("value", [*TEXTS, *TIMES, *range(-2, 3), 10**400, NAN, float("inf"), None, True, b"", []])
def test_any_value_is_a_time_or_none_and_never_an_error(value: Any) -> None:
    moment = instant(value)
    assert moment is None or moment.tzinfo is None
    assert believable(moment) == (time(value)[0] == 2)


@quick
@given(st.lists(st.one_of(*SCALARS.values(), DETAILS, st.none()), min_size=3, max_size=3))
def test_times_and_sizes_of_any_types_have_one_order(values: list[Any]) -> None:
    for order in (time, size):
        assert sorted(map(order, values)) == sorted(map(order, reversed(values)))
