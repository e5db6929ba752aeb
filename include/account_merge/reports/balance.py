"""The balance: a preview in the learner's terms. It shows each account's numbers, the result, and what stays behind.

The measures are data of the rules. Nothing is written. Each account's numbers are counted from its rows, so they do not
depend on what the merge leaves out.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

from account_merge.choices import COMBINE, SOURCE
from account_merge.engine.table_merge import TableMerge
from account_merge.errors import NeedsAttention
from account_merge.model import Change, Key, Row, Values
from account_merge.rules import TableRule, rule_for
from account_merge.rules.measures import Measure, Parts, total

#: Keys of one table that are compared at most.
MOST = 200_000
#: Lines that a program gets.
SHOWN = 1_000
#: Scopes that are named of those where rows stay behind for one reason.
NAMED = 5

ScopeKey = tuple[str, tuple[Any, ...]]


@dataclass
class Line:
    """One measure in one scope.

    :param sources: source account -> its number.
    :param should: what the accounts have together; of a sum, what earlier merges handed on counts once.
    :param short: how much of that the result lacks.
    :param why: reason -> how much it explains of `short`.
    """

    measure: Measure
    sources: dict[str, float] = field(default_factory=dict)
    target: float = 0
    result: float = 0
    should: float = 0
    short: float = 0
    why: dict[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether the result has all that the accounts have together."""
        return self.short <= 0


@dataclass
class Behind:
    """Rows with another result than if everything were combined, for one reason in one table.

    :param scopes: some of the scopes where they are.
    """

    table: str
    why: str
    rows: int = 0
    scopes: list[ScopeKey] = field(default_factory=list)


@dataclass
class Balance:
    """Balance of a merge, for the learner.

    :param scopes: scope -> the measure's words -> line.
    :param behind: what this merge leaves out of a merge of everything.
    :param not_looked_for: table -> which rows of the accounts cannot be found, with the remedy.
    :param ambiguous: rows that can be read two ways.
    :param rows: source account -> how many of its rows the rules know.
    :param complete: False when an account has more rows than are compared.
    """

    scopes: dict[ScopeKey, dict[str, Line]] = field(default_factory=dict)
    behind: list[Behind] = field(default_factory=list)
    not_looked_for: dict[str, str] = field(default_factory=dict)
    ambiguous: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    complete: bool = True

    @property
    def lost(self) -> list[Line]:
        """Lines whose result is less than what the accounts have together."""
        return [line for lines in self.scopes.values() for line in lines.values() if not line.kept]

    @property
    def nothing_lost(self) -> bool:
        """Whether everything was looked at, and all of it is in the result by the only reading there is."""
        return self.complete and not (self.lost or self.behind or self.not_looked_for or self.ambiguous)

    def to_dict(self) -> dict[str, Any]:
        """Return the balance in JSON's types, with at most `SHOWN` lines; those that lack something come first."""
        found = [(scope, words, line) for scope, lines in self.scopes.items() for words, line in lines.items()]
        found.sort(key=lambda item: item[2].kept)
        lines = [
            {
                "kind": kind, "place": [str(value) for value in values], "what": words, "sources": dict(line.sources),
                "target": line.target, "should": line.should, "result": line.result, "short": line.short,
                "why": dict(line.why),
            }
            for (kind, values), words, line in found[:SHOWN]
        ]  # fmt: skip
        return {
            "nothing_lost": self.nothing_lost, "complete": self.complete, "lines": lines, "all_lines": len(found),
            "behind": [{"table": one.table, "why": one.why, "rows": one.rows} for one in self.behind],
            "not_looked_for": dict(self.not_looked_for), "ambiguous": self.ambiguous,
        }  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """One table of a preview.

    :param whole: the work of a merge that combines everything: its changes show all that the sources have.
    :param planned: the work that was asked for; None where the table is left out.
    """

    whole: TableMerge
    planned: TableMerge | None


#: (source account, scope) -> the account whose rows stand there instead, under `on_conflict: skip`.
Left = Mapping[tuple[str, ScopeKey], str]


def weigh(tables: Mapping[str, Compared], target: str, left: Left) -> Balance:
    """Return the balance of a merge that is only planned.

    :param target: the account that the merge writes to.
    """
    found = Balance()
    for table, compared in tables.items():
        rule = rule_for(table)
        try:
            if note := compared.whole.found.note(rule):
                found.not_looked_for[table] = note
            _Table(found, rule, compared, target, left).weigh()
        except NeedsAttention as error:  # the table may be left out of the merge for that very reason
            found.not_looked_for[table] = f"{error.message}. {error.remedy}"
    return found


@dataclass(frozen=True)
class _Side:
    """Row and changes of one key, from the streams."""

    row: Row | None = None
    whole: Change | None = None
    planned: Change | None = None

    @property
    def before(self) -> Values | None:
        return self.row.values if self.row else None

    @property
    def combined(self) -> Values | None:
        return self.whole.after if self.whole else self.before

    @property
    def result(self) -> Values | None:
        return self.planned.after if self.planned else self.before


class _Table:
    def __init__(self, found: Balance, rule: TableRule, compared: Compared, target: str, left: Left) -> None:
        self._found, self._rule, self._compared, self._target, self._left = found, rule, compared, target, left
        self._behind: dict[str, Behind] = {}

    def weigh(self) -> None:
        """Add the table to the balance."""
        keys = self._keys()
        for key, side in islice(keys, MOST):
            self._found.rows.update(list(_sources(side)))
            self._found.ambiguous += bool(side.planned and side.planned.notes)
            why = ""
            if side.result != side.combined:
                why = self._why(key, side)
                self._stays_behind(key, why)
            self._count(key, side, why)
        if next(keys, None) is not None:
            self._found.complete = False
        self._found.behind += self._behind.values()

    def _keys(self) -> Iterator[tuple[Key, _Side]]:
        whole, planned = self._compared.whole, self._compared.planned
        streams: list[Iterable[tuple[Key, str, Any]]] = [
            ((row.key, "row", row) for row in whole.found.rows(self._rule, self._target)),
            ((change.key, "whole", change) for change, _ in whole.plan()),
        ]
        if planned is not None and planned is not whole:
            streams.append((change.key, "planned", change) for change, _ in planned.plan())
        for key, group in groupby(heapq.merge(*streams, key=lambda item: item[0]), key=lambda item: item[0]):
            known = {kind: value for _, kind, value in group}
            if planned is whole and "whole" in known:
                known["planned"] = known["whole"]
            yield key, _Side(**known)

    # --- what is counted ------------------------------------------------------------------------------------------
    def _count(self, key: Key, side: _Side, why: str) -> None:
        known = dict(zip(self._rule.key, key, strict=True))
        for measure in self._rule.measures:
            if measure.where and known.get(measure.where[0]) != measure.where[1]:
                continue
            mine = {account: measure.of(values) for account, values in _sources(side).items()}
            before, after = _of(measure, side.before), _of(measure, side.result)
            if not (before or after or any(mine.values())):
                continue
            scope = (self._rule.scope.kind, self._rule.scope.of(known))
            line = self._found.scopes.setdefault(scope, {}).setdefault(measure.words, Line(measure))
            for account, parts in mine.items():
                line.sources[account] = line.sources.get(account, 0) + total(parts)
            fresh = [_beyond(side.whole, account, parts) if measure.adds else parts for account, parts in mine.items()]
            should = measure.together([before, *fresh])
            line.target += total(before)
            line.result += total(after)
            line.should += total(should)
            self._lack(line, _lacks(measure, should, after), why or _by_itself(side))

    @staticmethod
    def _lack(line: Line, lacks: float, why: str) -> None:
        if lacks:
            line.short += lacks
            line.why[why] = line.why.get(why, 0) + lacks

    # --- what stays behind ------------------------------------------------------------------------------------------
    def _stays_behind(self, key: Key, why: str) -> None:
        behind = self._behind.setdefault(why, Behind(self._rule.table, why))
        behind.rows += 1
        if (
            not self._rule.holds_scopes
            and len(behind.scopes) < NAMED
            and (scope := self._scope(key)) not in behind.scopes
        ):
            behind.scopes.append(scope)

    def _scope(self, key: Key) -> ScopeKey:
        return self._rule.scope.kind, self._rule.scope_of(key)

    def _why(self, key: Key, side: _Side) -> str:
        if self._compared.planned is None:
            return "this table is left out"
        if side.planned is not None and side.planned.choice != COMBINE:
            whose = "the source's" if side.planned.choice == SOURCE else "the target's"
            return f"{whose} row stands by choice"
        there = side.planned.sources if side.planned else {}
        for account in _sources(side):
            if account not in there:
                by = (
                    self._target
                    if self._rule.holds_scopes
                    else self._left.get((account, self._scope(key)), self._target)
                )
                whose = "the target's rows" if by == self._target else f"the rows of {by}, which was listed first,"
                return f"{whose} of this {self._rule.scope.kind} stay as they are (skip)"
        return "it follows from what else is left out"


def _of(measure: Measure, values: Values | None) -> Parts:
    return {} if values is None else measure.of(values)


def _sources(side: _Side) -> Mapping[str, Values]:
    return side.whole.sources if side.whole else {}


def _beyond(change: Change | None, account: str, parts: Parts) -> Parts:
    """Return the part of a sum that no earlier merge handed on."""
    given = change.given.get(account, {}) if change else {}
    return {name: max(0.0, number - float(given.get(str(name), (0, 0))[0])) for name, number in parts.items()}


def _lacks(measure: Measure, should: Parts, after: Parts) -> float:
    def there(name: Any) -> float:
        known = measure.name_in(after, name)
        return 0.0 if known is None else after[known]

    return sum(max(0.0, number - there(name)) for name, number in should.items())


def _by_itself(side: _Side) -> str:
    """Return why a merge of everything has less than the accounts show."""
    notes: Sequence[str] = side.planned.notes if side.planned else ()
    return "; ".join(notes) or "an earlier merge handed it on, and what the target shows since then stands"
