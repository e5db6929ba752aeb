"""What the service refuses before it opens a connection."""

from __future__ import annotations

import pytest

from account_merge.errors import InvalidRequest
from account_merge.service import Service
from account_merge.settings import Settings


def test_a_table_to_scan_must_have_a_rule() -> None:
    settings = Settings.from_env({"ACCOUNT_MERGE_SCAN_TABLES": "user_activity_agg, users"})
    with pytest.raises(InvalidRequest, match="ACCOUNT_MERGE_SCAN_TABLES.*'users'.*which is none of") as refused:
        Service(settings)
    assert refused.value.code == "BAD_SETTING"
