"""Choices: a person says whose row stands where both accounts have one, for a table or for one row of it. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

COMBINE, TARGET, SOURCE = "combine", "target", "source"
CHOICES = (COMBINE, TARGET, SOURCE)
#: Rows that one merge may choose for: whoever wants more chooses for the table.
MOST = 500

Key = tuple[Any, ...]
Hide = Callable[[str], str]


def row_name(table: str, key: Key) -> str:
    """Return what a choice calls a row: the table and its key without the account."""
    return json.dumps([table, *(str(part) for part in key)], ensure_ascii=False)


@dataclass(frozen=True)
class Choices:
    """`combine` (the rules), `target` (its row stays) or `source` (its values stand); a row's choice before its table's.

    :param tables: table -> choice.
    :param rows: name of a row, as `row_name` has it or hidden -> choice.
    """

    tables: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, str] = field(default_factory=dict)

    def of(self, table: str, hide: Hide) -> Callable[[Key], str]:
        """Return the choice for each key of a table.

        :param hide: makes of a row's name what the journal keeps of it.
        """
        otherwise = self.tables.get(table, COMBINE)
        if not self.rows:
            return lambda key: otherwise

        def choice(key: Key) -> str:
            name = row_name(table, key)
            return self.rows.get(name) or self.rows.get(hide(name)) or otherwise

        return choice

    def hidden(self, hide: Hide) -> Choices:
        """Return the choices without the rows' names: a key shows what a learner studied."""
        return Choices(self.tables, {hide(name) if name.startswith("[") else name: c for name, c in self.rows.items()})

    def later(self) -> Choices:
        """Return the choices of a repair or settle: the target's rows that stayed go on staying; the others are combined anew."""

        def kept(chosen: Mapping[str, str]) -> dict[str, str]:
            return {name: COMBINE if choice == SOURCE else choice for name, choice in chosen.items()}

        return Choices(kept(self.tables), kept(self.rows))

    def to_text(self) -> str:
        """As JSON; empty when nothing is chosen."""
        found = {"tables": dict(self.tables), "rows": dict(self.rows)}
        return json.dumps(found, sort_keys=True) if self.tables or self.rows else ""

    @classmethod
    def of_text(cls, text: str) -> Choices:
        """Return the reverse of `to_text`."""
        found = json.loads(text) if text else {}
        return cls(found.get("tables", {}), found.get("rows", {}))
