"""The pages of docs/ that restate a table of the code are written from it, so that they cannot disagree.

python scripts/generate_docs.py            write docs/settings.md, docs/events.md, docs/rules.md
python scripts/generate_docs.py --check    fail when one of them is not what would be written
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "include"))

from account_merge.rules import LEFT_ALONE, RULES  # noqa: E402
from account_merge.settings import Settings, as_text, kind_of, variable_of  # noqa: E402
from account_merge.sunbird.events import ACCEPTED, EVENT_RULES  # noqa: E402

NOTICE = "<!-- Written by scripts/generate_docs.py: run `make docs` instead of editing. -->"


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _code(text: str) -> str:
    # A longer fence lets the text hold back quotes itself.
    fence = "``" if "`" in text else "`"
    return f"{fence}{_cell(text)}{fence}" if text else ""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    names = list(head)
    return [f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names), *map(list, rows))]


def _page(title: str, intro: str, *blocks: list[str]) -> str:
    return "\n\n".join([f"# {title}", NOTICE, intro, *("\n".join(block) for block in blocks)]) + "\n"


def _allowed(says: str, schema: Mapping[str, Any]) -> str:
    """Return the type's words with the choices or bounds that the field's JSON schema states."""
    if "enum" in schema:
        return "one of " + ", ".join(map(_code, schema["enum"]))
    bounds = schema | schema.get("items", {}) | schema.get("anyOf", [{}])[0]
    least = f", from {bounds['minimum']:.15g}" if "minimum" in bounds else ""
    most = f", up to {bounds['maximum']:.15g}" if "maximum" in bounds else ""
    return says + least + most


def settings_page() -> str:
    """Return the page with one line for each setting."""
    schema = Settings.model_json_schema(by_alias=False)["properties"]
    rows = (
        [
            _code(variable_of(name)), _code(as_text(field.default)), _cell(_allowed(kind_of(field).says, schema[name])),
            _cell(field.description) + ("" if field.repr else " Never shown."),
        ]
        for name, field in Settings.model_fields.items()
    )  # fmt: skip
    return _page(
        "Settings",
        "Environment variables. One that is absent or blank has its default; `{env}` is the value of "
        "`ACCOUNT_MERGE_ENV`. A bad value is refused at the start, by its variable's name, before anything is touched.",
        _table(["variable", "default", "value", "what it is for"], rows),
    )


def _bytes(raw: bytes) -> str:
    shown = repr(raw[:130])[2:-1]
    return _code(shown + (f" … ({len(raw):,} bytes)" if len(raw) > 130 else "")) or "(nothing)"


def events_page() -> str:
    """Return the page of accepted events, and of each refusal."""
    accepted = [f"* {what}:\n\n  ```json\n  {raw.decode()}\n  ```" for what, raw in ACCEPTED]
    rows = ([_code(row.code), _cell(row.what), "<br>".join(map(_bytes, row.examples)), _cell(row.remedy)]
            for row in EVENT_RULES)  # fmt: skip
    return _page(
        "Merge events",
        "A message on the merge topic asks to merge `edata.fromAccountId` (the source account) into "
        "`edata.toAccountId` (the target account). An event of another `edata.action` is ignored and counted; a "
        "missing action is fine, and so are keys that nobody knows.",
        ["## Accepted", "", *accepted],
        ["## Refused", "", "Checked in this order; the first row that applies refuses the message. It goes to the "
         "failed topic with this code and never stops the next one.", "",
         *_table(["code", "what is wrong", "examples", "what to do"], rows)],
    )  # fmt: skip


def _row(row: Mapping[str, Any] | None) -> str:
    return "no row" if row is None else _code(json.dumps(row, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)


def rules_page() -> str:
    """Return the page of each table's columns, with the worked examples that the tests go through."""
    blocks = []
    for rule in RULES:
        then = {name: "".join(f"; then: {d.why}" for d in rule.derive if name in d.columns) for name in rule.columns}
        fork = {name: " (only forks of the platform have it)" for name in rule.forks}
        columns = ([_code(name) + fork.get(name, ""), _cell(use.name), _cell(use.why + then[name])]
                   for name, use in rule.columns.items())  # fmt: skip
        examples = ([_row(e.source), _row(e.target), _row(e.merged)] for e in rule.examples)
        blocks += [
            [f"## {rule.table}", "", rule.why],
            *([[f"Where the target's rows stay (`skip`): {rule.decides_skip.why}."]] if rule.decides_skip else []),
            _table(["column", "strategy", "why"], columns),
            ["Examples:", "", *_table(["source account", "target account", "target after the merge"], examples)],
        ]
    left = ([_code(table), _cell(why)] for table, why in LEFT_ALONE.items())
    words = "These have a column that looks like a user id, and no merge touches them. Any other such table is unknown:"
    blocks += [["## Tables that are left alone", "", f"{words} `python -m account_merge coverage` names it.", "",
                *_table(["table", "why"], left)]]  # fmt: skip
    intro = (
        "How each column is merged when a source account goes into a target account. A column that no rule knows comes "
        "from the same row as the columns of strategy `follows`; in a table without such columns the target's value "
        "stays and a gap is filled. NaN gives way to a number. A time before 2015, or more than a year ahead, decides nothing: "
        "it gives way to a plausible time, stays where there is no other, and is named in the report."
    )
    return _page("Rules", intro, *blocks)


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page, "events.md": events_page, "rules.md": rules_page,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` name those that have drifted."""
    drifted = []
    for name, write in PAGES.items():
        path, page = ROOT / "docs" / name, write()
        if path.exists() and path.read_text(encoding="utf-8") == page:
            continue
        drifted.append(f"docs/{name}")
        if arguments != ["--check"]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(page, encoding="utf-8")
    if arguments == ["--check"] and drifted:
        print(f"{', '.join(drifted)} is not what the code says: run make docs", file=sys.stderr)
        return 1
    print(f"docs: {', '.join(drifted) or 'nothing'} {'written' if drifted else 'to write'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
