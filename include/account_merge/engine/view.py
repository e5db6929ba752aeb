"""Other tables' rows as the work on one table may see them. Pure data."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from account_merge.model import Change
from account_merge.rules.evidence import ScopeValues


@dataclass(frozen=True)
class View:
    """Other tables' rows as one merge may see them.

    :param sources: the accounts whose rows it brings.
    :param target: the account that it writes to.
    :param kept: scopes whose rows stay as the target has them.
    :param from_other_source: source -> scopes whose rows come from another source.
    :param seeded: sources whose rows the retired job had moved before.
    :param merge: the id of a merge that is replayed: what its sources showed is read from its logs.
    :param logged: the tables that have such a log. A source may have gone on since; what it shows now was not brought.
    """

    sources: tuple[str, ...]
    target: str
    kept: frozenset[ScopeValues] = frozenset()
    from_other_source: Mapping[str, frozenset[ScopeValues]] = field(default_factory=dict)
    seeded: frozenset[str] = frozenset()
    merge: uuid.UUID | None = None
    logged: frozenset[str] = frozenset()

    def counts(self, account: str, scope: ScopeValues | None) -> bool:
        """Whether an account's rows of a scope count: it belongs to the merge, and no other source brings that scope."""
        return account in (*self.sources, self.target) and scope not in self.from_other_source.get(account, ())


@dataclass(frozen=True)
class Underway:
    """Changes of an undo or redo to an account's rows of other tables, made before it comes to the table at hand.

    :param changes: table -> its changes, in key order; a row that was folded in comes once more.
    :param planned: the changes are not written yet: a preview sees them as done.
    """

    account: str = ""
    changes: Mapping[str, Callable[[], Iterable[Change]]] = field(default_factory=dict)
    planned: bool = False


NOTHING_UNDERWAY = Underway()
