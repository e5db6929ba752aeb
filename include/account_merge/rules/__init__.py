"""The rules: a table that says how each column is merged, and the pure functions that its rows name.

A rule is data. The engine names no table: to add one, add a row to `tables`. Every wing above may import this one. It
imports the ground only, and knows no server.
"""

from account_merge.rules.spec import Counts, Example, Limit, Lookup, Scope, TableRule
from account_merge.rules.strategies import keep_target
from account_merge.rules.tables import LEFT_ALONE, RULES, TABLES, rule_for, rules_hash

__all__ = [
    "LEFT_ALONE",
    "RULES",
    "TABLES",
    "Counts",
    "Example",
    "Limit",
    "Lookup",
    "Scope",
    "TableRule",
    "keep_target",
    "rule_for",
    "rules_hash",
]
