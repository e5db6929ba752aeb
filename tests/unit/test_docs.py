"""What the hand-written pages say of the code is true of it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OPERATING = (ROOT / "docs" / "operating.md").read_text()


@cache
def codes_of(error: str) -> set[str]:
    """The codes that the core raises this class of error with."""
    found = set()
    for path in (ROOT / "include" / "account_merge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == error and node.args:
                code = node.args[0]
                if isinstance(code, ast.Attribute):  # the journal's, which is one of the others
                    continue
                assert isinstance(code, ast.Constant), f"{path.name}:{node.lineno}: a code is a constant"
                found.add(code.value)
    return found


@pytest.mark.parametrize(
    ("error", "known"),
    [
        ("NeedsAttention", "KEEPS_CHANGING"),
        ("TransientError", "CASSANDRA_UNAVAILABLE"),
        ("MergeError", "TOPIC_MISSING"),
    ],
)
def test_every_error_has_its_remedy_in_the_operator_s_page(error, known):
    cells = re.findall(r"^\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \|", OPERATING, re.MULTILINE)
    listed = {code for cell in cells for code in re.findall("[A-Z_]+", cell)}
    raised = codes_of(error)
    assert raised - listed == set()
    assert known in raised


def test_the_operator_s_page_names_no_code_or_setting_that_is_nowhere():
    folders = (ROOT / "include" / "account_merge", ROOT / "dags", ROOT / "plugins")
    everything = "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", OPERATING))
    unknown = {code for code in named if f'"{code}"' not in everything}
    assert unknown == set()
