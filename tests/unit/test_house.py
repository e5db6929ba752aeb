"""The plan of the house is kept by import-linter: a step against it is refused, also one for type checking only."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = Path(sys.executable).parent / "lint-imports"


def told(root: Path) -> tuple[int, str]:
    """Exit status and words of import-linter on a tree."""
    environment = {"PYTHONPATH": f"{root / 'include'}:{root / 'plugins'}", "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    done = subprocess.run(
        [LINT, "--no-logo", "--no-cache"], cwd=root, env=environment, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of what import-linter reads."""
    for folder in ("include", "plugins"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("account_merge/planning/news.py", "from account_merge.engine import verify", "wings"),
        ("account_merge/reports/report.py", "from account_merge.intake import inbox", "wings"),
        (
            "account_merge/engine/history.py",
            "if __import__('typing').TYPE_CHECKING:\n    from account_merge.lifecycle import merging",
            "wings",
        ),
        ("account_merge/rules/strategies.py", "import cassandra", "no Cassandra"),
        ("account_merge/journal/log.py", "from account_merge.sunbird import kafka", "no Kafka"),
        ("account_merge/service.py", "import airflow", "without Airflow"),
    ],
)
def test_a_step_against_the_plan_is_refused(module: str, line: str, contract: str, copied: Path) -> None:
    file = copied / "include" / module
    file.write_text(f"{file.read_text()}\n{line}\n")
    status, words = told(copied)
    assert status == 1, words
    broken = [text for text in words.splitlines() if text.endswith("BROKEN")]
    assert any(contract in text for text in broken), words


def test_a_module_without_a_wing_is_refused(copied: Path) -> None:
    (copied / "include" / "account_merge" / "helpers.py").write_text('"""Anything."""\n')
    status, words = told(copied)
    assert status == 1
    assert "helpers" in words


def test_the_tree_keeps_it() -> None:
    status, words = told(ROOT)
    assert status == 0, words
