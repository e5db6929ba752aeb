"""Columns that follow from others: each function looks at all rows of one key and corrects the merged row.

A derivation is pure. It may make a value that the strategies gave greater, or choose between the rows' own values. It
raises no error, whatever the columns hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from account_merge.model import Values
from account_merge.rules.attempts import attempt_of
from account_merge.rules.comparing import like, number, time
from account_merge.rules.evidence import Evidence
from account_merge.rules.moments import believed


class Side(NamedTuple):
    """One account's row of the key at hand; the target is the side with `target` true."""

    account: str
    values: Values
    target: bool = False


@dataclass(frozen=True)
class Derivation:
    """A rule about several columns of one row.

    :param columns: the columns that it may change, for docs and reports.
    :param why: one sentence for the report.
    :param apply: (sides, merged values, evidence) -> columns to set; None empties one of `columns`.
    :param rederive: for undo: (the row as the platform left it, the row without the merge, evidence) -> columns to set.
    :param leader: which of several rows gives the columns, where they come together from one.
    :param widen: the same derivation that also leads these columns, which no rule knows.
    """

    columns: tuple[str, ...]
    why: str
    apply: Callable[[Sequence[Side], Values, Evidence], Values] = field(repr=False)
    rederive: Callable[[Side, Values, Evidence], Values] | None = field(default=None, repr=False)
    leader: Callable[[Sequence[Side]], Side] | None = field(default=None, repr=False)
    widen: Callable[[tuple[str, ...]], Derivation] | None = field(default=None, repr=False)


def twins(timestamp: str, text: str, first: bool = False) -> Derivation:
    """Bring a timestamp column and its older text form together: the timestamp shows the latest (`first`: earliest) moment of both.

    A form that no account has stays null; a text stays as somebody wrote it; a text that is unreadable, or a time that
    cannot be, loses.
    """

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        shown = [value for s in sides if (value := s.values.get(timestamp)) is not None]
        written = [value for s in sides if (value := s.values.get(text)) is not None] if shown else ()
        moments = [moment for value in (*shown, *written) if (moment := believed(value))]
        return {timestamp: (min if first else max)(moments)} if moments else {}

    return Derivation((timestamp,), f"the {'earliest' if first else 'latest'} moment of {timestamp} and {text}", apply)


def count_of(column: str, counted: str, value: int) -> Derivation:
    """Count in `column` the elements of the map `counted` that equal `value`, where each side's own number does so too."""

    def count(values: Values) -> int:
        return sum(1 for v in (values.get(counted) or {}).values() if v == value)

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        known = [s for s in sides if s.values.get(column) is not None]
        if not known or any(s.values[column] != count(s.values) for s in known):
            return {}
        return {column: max(count(merged), *(s.values[column] for s in known))}

    def rederive(now: Side, row: Values, evidence: Evidence) -> Values:
        return {column: count(row)} if now.values.get(column) == count(now.values) else {}

    return Derivation((column,), f"number of finished items in the united {counted}", apply, rederive)


def shown(values: Values, column: str, older: str = "") -> Values:
    """Return what the platform reads of a map that has an older form: the older form's keys, the newer one's over them."""
    return {**((values.get(older) if older else None) or {}), **(values.get(column) or {})}


def no_less(column: str, older: str) -> Derivation:
    """Keep each key of `column` at least as great as any side shows it, also where a side has only the older form.

    The platform reads `older` first and `column` over it: a lesser number in `column` would hide the greater one.
    """

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        seen = [shown(s.values, column, older) for s in sides]
        result = {
            key: like(value, max([n for m in seen if (n := number(m.get(key))) is not None], default=value))
            for key, value in (merged.get(column) or {}).items()
        }
        return {column: result} if result else {}

    return Derivation((column,), f"never less than what an account shows in {older}", apply)


def best_score(column: str, details: str, older: str = "") -> Derivation:
    """Put under `score:X` the best of all sides, and under `max_score:X` the maximum that belongs to it.

    :param details: the attempts' own texts. A score that was earned while a better one hid it shows there alone.
    """

    def held(values: Values, key: str) -> Values:
        return next((m for c in (column, older) if c and number((m := values.get(c) or {}).get(key)) is not None), {})

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        result = dict(merged.get(column) or {})
        for key in _named(result, "score:"):
            out = f"max_score:{key.removeprefix('score:')}"
            pairs = [(m[key], number(m.get(out)) or 0) for s in sides if (m := held(s.values, key))]
            if not pairs:  # none of them is a number
                continue
            score, out_of = max(pairs)
            result[key] = like(result[key], score)
            if out_of:
                result[out] = like(result[key], out_of)
        return {column: result} if result else {}

    def rederive(now: Side, row: Values, evidence: Evidence) -> Values:
        """Put the best score of the attempts that stay, where the platform shows a score."""
        result, showed = dict(row.get(column) or {}), now.values.get(column) or {}
        for attempt in map(attempt_of, row.get(details) or ()):
            content, score = attempt.get("content_id"), number(attempt.get("score"))
            key = f"score:{content}"
            if score is None or not (key in result or key in showed):
                continue
            least = number(result.get(key))
            if least is None or least < score:
                result[key] = like(0.0, score)
                if out_of := number(attempt.get("max_score")):
                    result[f"max_score:{content}"] = like(0.0, out_of)
        return {column: result} if result else {}

    return Derivation((column,), "best score with its own maximum", apply, rederive)


def _named(values: Values, prefix: str) -> list[str]:
    return [key for key in values if isinstance(key, str) and key.startswith(prefix)]


def union_count(column: str, key: str, evidence_name: str, older: str = "") -> Derivation:
    """Count under `key` the union of what both accounts finished, where both numbers are proved.

    A number is proved when it equals the account's own number of finished items, with or without the items that merges
    brought it, or those of them that have not expired. The retired job put the source's number over the target's: where
    it merged a source, the target's number may also be the source's. When several sources are merged, the target's number
    may already count those whose rows are not at hand: what is new of them was brought before. The result is never below
    either side's number.
    """

    def proved(stored: float, finished: frozenset[str], *brought: frozenset[str]) -> bool:
        return stored in (len(finished), *(len(finished - items) for items in brought))

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        result = merged.get(column) or {}
        stored = {s.account: n for s in sides if (n := number(shown(s.values, column, older).get(key))) is not None}
        findings = evidence.of(evidence_name)
        finished, brought = findings.shown, (findings.brought, findings.lately)
        own = {s.account: frozenset(finished.get(s.account, ())) for s in sides}
        put_over = {stored[a] for a in evidence.seeded if a in stored}
        targets = {s.account for s in sides if s.target}
        beside = frozenset().union(*(finished[a] for a in finished.keys() - own.keys()))
        # The greatest number is what stands at the target otherwise: the same merge once more finds that one there.
        shows = {a: {n, max(stored.values())} if a in targets else {n} for a, n in stored.items()}
        for account in targets & stored.keys():
            unproved = not any(proved(n, own[account]) for n in shows[account])
            if unproved and len(own[account] | beside) in shows[account]:
                own[account] |= beside
        sound = (
            any(proved(n, own.get(a, frozenset()), *(frozenset(b.get(a, ())) for b in brought)) for n in numbers)
            or (a in targets and not put_over.isdisjoint(numbers))
            for a, numbers in shows.items()
        )
        if key not in result or not all(sound):
            return {}
        union = frozenset().union(*own.values())
        return {column: {**result, key: like(result[key], max([len(union), *stored.values()]))}}

    def rederive(now: Side, row: Values, evidence: Evidence) -> Values:
        """Put the lessons of the account as they are then, where the platform counted those before or after."""
        findings = evidence.of(evidence_name)
        before, after = findings.before.get(now.account), findings.after.get(now.account)
        counted = number((now.values.get(column) or {}).get(key))
        if counted is None or before is None or after is None or key not in (row.get(column) or {}):
            return {}
        right = counted in (len(before), len(after))
        return {column: {**row[column], key: like(counted, len(after))}} if right else {}

    return Derivation((column,), "union of the lessons that both finished", apply, rederive)


def scores_of_attempts(column: str, evidence_name: str, older: str = "") -> Derivation:
    """Make the scores that the retired job erased again from the attempts themselves; nothing where it did not merge.

    The platform makes them so: `score:X` is the best total of X, `max_score:X` that attempt's own maximum,
    `attempts_count:X` the number of attempts. Only a number that is missing or less is put.
    """

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        known: dict[tuple[str, str], tuple[Any, ...]] = {}
        for attempts in evidence.of(evidence_name).shown.values() if evidence.seeded else ():
            for content, attempt, score, out_of, last in attempts:
                found = (time(last), number(score) or 0.0, number(out_of) or 0.0)
                known[content, attempt] = max(found, known.get((content, attempt), found))
        best: dict[str, tuple[float, float]] = {}
        for (content, _), (_, score, out_of) in known.items():
            best[content] = max((score, out_of), best.get(content, (score, out_of)))
        result, seen = dict(merged.get(column) or {}), shown(merged, column, older)
        for content, (score, out_of) in best.items():
            least = number(seen.get(f"score:{content}"))
            if least is None or least < score:
                most = max(out_of, number(seen.get(f"max_score:{content}")) or 0.0)
                result |= {f"score:{content}": like(0.0, score), f"max_score:{content}": like(0.0, most)}
            counted = number(seen.get(f"attempts_count:{content}")) or 0.0
            result.setdefault(f"attempts_count:{content}", like(0.0, counted))  # counted by `attempts_count`
        return {column: result} if best else {}

    return Derivation((column,), "scores of the attempts themselves, where the retired job erased them", apply)


def attempts_count(column: str, details: str, evidence_name: str) -> Derivation:
    """Count under `attempts_count:X` the distinct attempts known for X; never below either side's number."""

    def attempts(values: Values) -> dict[str, set[str]]:
        named: dict[str, set[str]] = {}
        for attempt in map(attempt_of, values.get(details) or ()):
            if attempt.get("content_id") and attempt.get("attempt_id"):
                named.setdefault(str(attempt["content_id"]), set()).add(str(attempt["attempt_id"]))
        return named

    def apply(sides: Sequence[Side], merged: Values, evidence: Evidence) -> Values:
        result = dict(merged.get(column) or {})
        named = attempts(merged)
        for known in evidence.of(evidence_name).shown.values():
            for content, attempt_id, *_ in known:
                named.setdefault(content, set()).add(attempt_id)
        for key in _named(result, "attempts_count:"):
            count = len(named.get(key.removeprefix("attempts_count:"), ()))
            result[key] = like(result[key], max(count, number(result[key]) or 0))
        return {column: result} if result else {}

    def rederive(now: Side, row: Values, evidence: Evidence) -> Values:
        """Put the number of attempts that stay, where the platform's number counted the attempts that it saw."""
        result, counted = dict(row.get(column) or {}), now.values.get(column) or {}
        seen, left = attempts(now.values), attempts(row)
        for key in _named(result, "attempts_count:"):
            content = key.removeprefix("attempts_count:")
            if content in left and number(counted.get(key)) == len(seen.get(content, ())):
                result[key] = like(result[key], len(left[content]))
        return {column: result} if result else {}

    return Derivation((column,), "distinct attempts known for the assessment", apply, rederive)
