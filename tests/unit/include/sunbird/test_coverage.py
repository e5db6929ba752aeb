"""What looks like a user id, and that each table left alone has a reason and no rule."""

from __future__ import annotations

import pytest

from account_merge.errors import NeedsAttention
from account_merge.rules import LEFT_ALONE, TABLES
from account_merge.sunbird.coverage import Coverage, TableCoverage, like_user_ids
from tests.unit.include.ddl import EVENTS, FAMILIES


@pytest.mark.parametrize(
    "column",
    ["userid", "user_id", "userIds", "from_user_id", "learner_id", "members", "mentors", "recipient", "ownerid", "user",
     "createdby", "created_by", "lastupdatedby", "managedby", "addedby", "uploadedby", "account_id"],
)  # fmt: skip
def test_a_column_that_may_hold_a_user_id_is_noticed(column: str) -> None:
    assert like_user_ids([column]) == (column,)


@pytest.mark.parametrize(
    "column",
    ["courseid", "usertype", "membershiptype", "createdon", "by", "standby", "user_locations", "certificates", "id"],
)
def test_another_column_is_not(column: str) -> None:
    assert like_user_ids([column, "status"]) == ()


def test_every_official_table_of_learners_is_noticed() -> None:
    for tables in (*FAMILIES.values(), EVENTS):
        for name, table in tables.items():
            assert like_user_ids(table.columns), name


def test_what_is_left_alone_has_a_reason_and_no_rule() -> None:
    assert not set(LEFT_ALONE) & set(TABLES)
    assert all(why and not why.endswith(".") for why in LEFT_ALONE.values())


def test_unknown_tables_are_refused_by_name_with_the_remedy() -> None:
    known = TableCoverage("k", "a", ("userid",), "covered", "user_enrolments")
    Coverage((known, TableCoverage("k", "b", ("userid",), "ignored", "why"))).need_known()
    with pytest.raises(NeedsAttention, match=r"UNKNOWN_TABLES.*k\.c.*ACCOUNT_MERGE_IGNORED_TABLES"):
        Coverage((known, TableCoverage("k", "c", ("userid",), "unknown", ""))).need_known()
