"""Every claim of the README, the operating page and the decisions that a machine can check."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from account_merge.cli.main import parser
from account_merge.settings import Settings, variable_of
from tests.unit.test_docs import codes_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OPERATING = (ROOT / "docs" / "operating.md").read_text()
DECISIONS = sorted((ROOT / "docs" / "adr").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "operating.md", *DECISIONS]
COMMANDS = next(action.choices for action in parser()._actions if action.choices and action.dest == "command")
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)


def code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def defined(path: str) -> set[str]:
    """Names of functions and string constants of the code in a folder."""
    found: set[str] = set()
    for file in (ROOT / path).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_the_sections_come_in_their_order() -> None:
    assert re.findall(r"^## (.+)$", README, re.MULTILINE) == [
        "Two commands",
        "In Airflow's UI",
        "How one event travels",
        "Rules",
        "Settings",
        "Operating it",
        "What is promised, and what is not",
        "How it is tested",
        "Layout",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_file_and_folder_named_exists(page: Path) -> None:
    named = [w for w in code(page.read_text()) if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", w)]
    paths = [w for w in named if "/" in w or w.endswith((".py", ".md", ".in", ".txt", ".yaml", ".cql", ".example"))]
    assert paths or page.name not in ("README.md",)
    places = (ROOT, page.parent, ROOT / "tests", ROOT / "include" / "account_merge")
    missing = [p for p in paths if not any((place / p).exists() for place in places)]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_resolves(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    assert not [link for link in links if not (page.parent / link.split("#")[0]).exists()]


def test_the_readme_links_every_decision_and_generated_page() -> None:
    links = set(re.findall(r"\]\(([^)\s]+)\)", README))
    wanted = {f"docs/adr/{d.name}" for d in DECISIONS} | {"docs/rules.md", "docs/settings.md", "docs/events.md"}
    assert wanted <= links


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_make_target_named_exists(page: Path) -> None:
    named = set(re.findall(r"(?:^|[`\"$(])make ([a-z]+)", page.read_text(), re.MULTILINE))
    assert named <= targets()
    assert page.name != "README.md" or {"demo", "test", "status", "down", "clean", "env", "help"} <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_setting_named_exists(page: Path) -> None:
    named = set(re.findall(r"\b(?:ACCOUNT_MERGE|KAFKA|CASSANDRA)_[A-Z_]+\b", page.read_text()))
    codes = codes_of("NeedsAttention") | codes_of("TransientError") | codes_of("MergeError")
    assert named - codes <= {variable_of(field) for field in Settings.model_fields}
    assert page.name != "README.md" or named


def test_the_commands_named_are_the_commands_there_are() -> None:
    sentence = re.search(r"-m account_merge` with (.*?)\. `merge --events", README, re.DOTALL)
    assert sentence
    assert set(code(sentence[1])) == set(COMMANDS)


@pytest.mark.parametrize("text", [README, OPERATING], ids=["README.md", "operating.md"])
def test_every_option_of_a_command_named_exists(text: str) -> None:
    used = [w for w in code(text) if w.split()[0] in COMMANDS and " --" in w]
    assert used
    for words in used:
        command, *rest = words.split()
        options = {option for action in COMMANDS[command]._actions for option in action.option_strings}
        assert {word for word in rest if word.startswith("--")} <= options, words


@pytest.mark.parametrize(
    "word", ["admit", "publish_sync_events", "report_failures", "dry_run", "account_merge_poll", "account_merge"]
)
def test_every_task_and_dag_named_exists(word: str) -> None:
    assert f"{word}" in README + OPERATING
    assert word in defined("dags")


def test_every_state_and_error_code_named_exists() -> None:
    known = defined("include") | defined("plugins")
    codes = re.findall(r"^\| `([A-Z_]+)` \|", OPERATING, re.MULTILINE)
    assert codes
    assert {*codes, "needs_attention", "waiting", "failed"} <= known


def test_the_pages_name_every_dag() -> None:
    assert {p.stem for p in (ROOT / "dags").glob("*.py")} <= set(re.findall(r"account_merge\w*", README + OPERATING))


def test_the_layout_names_every_folder() -> None:
    section = README.split("## Layout")[1]
    listed = {row.split("/")[0] for row in re.findall(r"^\| `([\w/]+)/` \|", section, re.MULTILINE)}
    kept = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))}
    assert listed == kept


def test_the_demo_s_output_is_shown() -> None:
    shown = re.search(r"<!-- demo output: begin -->\n```text\n(.*?)```\n<!-- demo output: end -->", README, re.DOTALL)
    assert shown
    for word in ("merge ", "completed", "target before", "source", "after", "why", "user_enrolments"):
        assert word in shown[1], word


@pytest.mark.parametrize("page", DECISIONS, ids=lambda p: p.name)
def test_every_decision_has_its_parts(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {int(page.name[:4])}. ")
    assert "\nStatus: accepted\n" in text
    parts = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert parts == ["Context", "Decision", "Alternatives", "Consequences"]


def test_no_line_of_prose_is_endless() -> None:
    assert not [line for line in PROSE.splitlines() if len(line) > 120]
