"""Evidence: what the accounts' stored rows of other tables show about one row, for a rule's derivations. Pure data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

ScopeValues = tuple[Any, ...]
#: account -> values that a lookup collected
ByAccount = Mapping[str, Collection[Any]]


@dataclass(frozen=True)
class Findings:
    """The answer of one lookup in the scope of one row; each field: account -> values.

    :param shown: of the account's stored rows.
    :param brought: those of the account's rows that merges made match the lookup's `where`.
    :param lately: of `brought`, those of merges whose images have not expired.
    :param before: what the account showed before the undo or redo that looks; only of the account that it changes.
    :param after: what that account shows once the undo or redo is done.
    """

    shown: ByAccount = field(default_factory=dict)
    brought: ByAccount = field(default_factory=dict)
    lately: ByAccount = field(default_factory=dict)
    before: ByAccount = field(default_factory=dict)
    after: ByAccount = field(default_factory=dict)


NOTHING_FOUND = Findings()


@dataclass(frozen=True)
class Evidence:
    """The things that one merge sees beside the rows themselves.

    :param found: lookup's name -> what it finds.
    :param kept: scopes in which the target's rows stay as they are.
    :param seeded: source accounts that the retired job had merged into this target.
    :param from_other_source: source account -> scopes that another source brings.
    """

    found: Mapping[str, Findings] = field(default_factory=dict)
    kept: Collection[ScopeValues] = frozenset()
    seeded: Collection[str] = frozenset()
    from_other_source: Mapping[str, Collection[ScopeValues]] = field(default_factory=dict)

    def of(self, name: str) -> Findings:
        """Return what a lookup finds; nothing where the cluster lacks its table."""
        return self.found.get(name, NOTHING_FOUND)


#: For rules that look at no other table.
NO_EVIDENCE = Evidence()
