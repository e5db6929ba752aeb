"""Logical columns find their real ones in both schema families; a key that nobody knows is refused with a remedy."""

from __future__ import annotations

from collections import namedtuple

import pytest

from account_merge.errors import NeedsAttention
from account_merge.rules import RULES, rule_for
from account_merge.sunbird.catalogue import Described
from account_merge.sunbird.detection import detect, kind_of, real_name
from tests.unit.include.ddl import EVENTS, FAMILIES, Table

SystemColumn = namedtuple("SystemColumn", "column_name kind position type clustering_order", defaults=("none",))


def told(table: Table, indexed: tuple[str, ...] = ()) -> Described:
    """What a cluster says of one of the platform's tables."""
    rows = []
    for name, cql_type in table.columns.items():
        for kind, names in (("partition_key", table.partition), ("clustering", table.clustering)):
            if name in names:
                order = "asc" if kind == "clustering" else "none"
                rows.append(SystemColumn(name, kind, names.index(name), cql_type, order))
                break
        else:
            rows.append(SystemColumn(name, "regular", -1, cql_type))
    return Described(rows, table.columns, frozenset(indexed))


EACH = [(family, rule.table) for family in FAMILIES for rule in RULES]


@pytest.mark.parametrize(("family", "table"), EACH)
def test_both_families_are_recognised(family: str, table: str) -> None:
    rule, real = rule_for(table), (FAMILIES[family] | EVENTS)[table]
    found = detect(told(real), rule, "sunbird_courses", table)
    assert {c.actual for c in (found.user, *found.key.values())} == {*real.partition, *real.clustering}
    assert tuple(found.key) == rule.key
    assert {*found.columns} == set(real.columns) - {*real.partition, *real.clustering}
    actual = {found.user.logical: found.user.actual, **{c.logical: c.actual for c in found.key.values()}}
    assert tuple(actual[c] for c in found.partition) == real.partition
    assert tuple(actual[c] for c in found.clustering) == real.clustering
    assert found.by_account == (real.partition == (actual[rule.user],))
    assert found.full_name == f'"sunbird_courses"."{table}"'
    bound = found.bind("me", tuple(range(len(rule.key))))
    assert bound == {rule.user: "me", **{logical: n for n, logical in enumerate(rule.key)}}


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("cassandra", {"courseid": "courseid", "batchid": "batchid", "contentid": "contentid", "userid": "userid"}),
        ("spark", {"courseid": "collectionid", "batchid": "contextid", "contentid": "contentid", "userid": "userid"}),
    ],
)
def test_real_name_in_both_families(family: str, names: dict[str, str]) -> None:
    present = set(FAMILIES[family]["user_content_consumption"].columns)
    assert {logical: real_name(logical, present) for logical in names} == names


def test_real_name_prefers_its_own_name_and_admits_that_there_is_none() -> None:
    assert real_name("courseid", {"courseid", "collectionid"}) == "courseid"
    assert real_name("course_id", {"collection_id", "x"}) == "collection_id"
    assert real_name("context_id", {"batchid"}) == "batchid"
    assert real_name("attempt_id", {"attempts"}) is None
    assert real_name("courseid", {"status"}) is None


@pytest.mark.parametrize(
    ("cql_type", "kind"),
    [
        ("text", "scalar"),
        ("int", "scalar"),
        ("map<text, int>", "map"),
        ("set<text>", "set"),
        ("list<frozen<map<text, text>>>", "list"),
        ("frozen<list<text>>", "scalar"),
        ("frozen<map<text, int>>", "scalar"),
        ("list", "scalar"),  # a type of the user's own that is called so
        ("tuple<int, text>", "scalar"),
    ],
)
def test_kind_of(cql_type: str, kind: str) -> None:
    assert kind_of(cql_type) == kind


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kinds_of_the_platform_s_collections(family: str) -> None:
    found = detect(told(FAMILIES[family]["user_activity_agg"]), rule_for("user_activity_agg"), "k", "t")
    kinds = {name: column.kind for name, column in found.columns.items()}
    assert kinds == {"agg": "map", "agg_details": "list", "agg_last_updated": "map", "aggregates": "map"}


def test_an_index_is_known_by_its_logical_column() -> None:
    table = FAMILIES["spark"]["assessment_aggregator"]
    found = detect(told(table, ("user_id", "collection_id")), rule_for("assessment_aggregator"), "k", "t")
    assert found.indexed == {"user_id", "course_id"}


@pytest.mark.parametrize(
    "clustering", [("courseid",), ("courseid", "batchid", "region"), ("courseid", "region")], ids=", ".join
)
def test_a_key_that_the_rule_does_not_know_is_refused_with_a_remedy(clustering: tuple[str, ...]) -> None:
    table = Table(
        ("userid",), clustering, {c: "text" for c in ("userid", "courseid", "batchid", "region", *clustering)}
    )
    with pytest.raises(NeedsAttention) as refused:
        detect(told(table), rule_for("user_enrolments"), "k", "t")
    assert refused.value.code == "UNKNOWN_KEY"
    assert "k.t" in refused.value.message
    assert refused.value.remedy
