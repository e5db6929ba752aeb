"""A platform that writes while a merge works: it reads at one chosen moment and writes back at a later one.

Moments are those of the work on the one row under test: `before` it reads, when it has `read`, when its entry is
`logged`, when that is `written`, before what it folds in is written (`fold`), and when all is `done`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from account_merge.journal.log import Draft, Log
from account_merge.rules.moments import instant
from account_merge.sunbird.store import Store
from tests.learners import enrolment, lesson

MOMENTS = ("before", "read", "logged", "written", "fold", "done")
CC, ENR, GROUP = "user_content_consumption", "user_enrolments", "user_group"
real_time = time.time


class Moments:
    """Calls `at(moment)` for each moment once, in order, while the work on an account's rows goes on."""

    def __init__(self, monkeypatch: Any, account: str, at: Callable[[str], None]) -> None:
        self._left, self._at, self._writes = list(MOMENTS), at, 0
        append, write = Log.append, Store.write

        def appending(log: Log, draft: Draft, *arguments: Any, **named: Any) -> bool:
            if draft.kind == "changes":
                self.reach("read")
            return append(log, draft, *arguments, **named)

        def writing(store: Store, schema: Any, written: str, *arguments: Any, **named: Any) -> None:
            if written != account:
                write(store, schema, written, *arguments, **named)
                return
            self.reach("fold" if self._writes else "logged")
            write(store, schema, written, *arguments, **named)
            self._writes += 1
            self.reach("written")

        monkeypatch.setattr(Log, "append", appending)
        monkeypatch.setattr(Store, "write", writing)

    def reach(self, moment: str) -> None:
        """This moment has come, and with it each one before it that did not come by itself."""
        while self._left and MOMENTS.index(self._left[0]) <= MOMENTS.index(moment):
            self._at(self._left.pop(0))


@dataclass(frozen=True)
class Kind:
    """A column of one kind: what both accounts have, what the platform makes of a value, and what must not be missing.

    :param late: what the source has more when a repair or a settle comes.
    :param update: of what the platform read (None: nothing) to what it writes back.
    :param adds: what its update adds, in the same form as the values.
    :param covers: whether a value has everything of a piece.
    :param delete: the platform deletes the whole row instead.
    """

    table: str
    column: str
    source: Any
    target: Any
    late: Any
    update: Callable[[Any], Any]
    adds: Any
    covers: Callable[[Any, Any], bool] = lambda value, piece: value == piece
    total: bool = False
    delete: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    def key(self, user: str) -> dict[str, Any]:
        """The primary key of the row under test."""
        return {CC: lesson, ENR: enrolment, GROUP: lambda u: {"userid": u}}[self.table](user)


def total(increment: int, target: int | None = 2) -> Kind:
    """A counter that the platform reads, raises and writes back."""
    return Kind(
        CC, "viewcount", 3, target, 5, lambda read: (read or 0) + increment, increment, total=True
    )  # fmt: skip


def _identifiers(value: Any) -> set[str]:
    return {element["identifier"] for element in value or ()}


def _more(one: Mapping[str, int] | None, other: Mapping[str, int]) -> dict[str, int]:
    found = dict(one or {})
    return found | {k: max(v, found.get(k, v)) for k, v in other.items()}


def _at_least(value: Any, piece: Any) -> bool:
    return value is not None and value >= piece


def day(number: int) -> datetime:
    """A day that is as much later as its number."""
    return datetime(2022, 3, number, 10, 15, 30)


def day_text(number: int) -> str:
    """The same as the platform writes it."""
    return f"2022-03-{number:02d} 15:45:30:000+0530"


def _later_text(value: Any, piece: Any) -> bool:
    return value is not None and instant(value) >= instant(piece)


KINDS: dict[str, Kind] = {
    "total, increment smaller": total(1),
    "total, increment equal": total(3),
    "total, increment greater": total(7),
    "new row": total(1, None),
    "maximum, lower": Kind(CC, "progress", 80, 60, 85, lambda read: max(read or 0, 70), 70, _at_least),
    "maximum, higher": Kind(CC, "progress", 80, 60, 85, lambda read: max(read or 0, 95), 95, _at_least),
    "latest": Kind(CC, "datetime", day(5), day(2), day(7), lambda read: max(read or day(1), day(4)), day(4), _at_least),
    "text": Kind(
        CC, "lastupdatedtime", day_text(5), day_text(2), day_text(7), lambda read: max(read or "", day_text(6)),
        day_text(6), _later_text,
    ),
    "map": Kind(
        ENR, "contentstatus", {"L1": 2, "L2": 1}, {"L2": 2, "L3": 1}, {"L1": 2, "L2": 1, "L4": 2},
        lambda read: _more(read, {"L9": 2}), {"L9": 2}, lambda value, piece: _more(value, piece) == (value or {}),
    ),
    "list": Kind(
        ENR, "issued_certificates", [{"identifier": "c1"}], [{"identifier": "c2"}],
        [{"identifier": "c1"}, {"identifier": "c4"}],
        lambda read: [*(dict(e) for e in read or () if e["identifier"] != "c9"), {"identifier": "c9"}],
        [{"identifier": "c9"}], lambda value, piece: _identifiers(piece) <= _identifiers(value),
    ),
    "set": Kind(
        GROUP, "groupid", {"g1"}, {"g2"}, {"g1", "g4"}, lambda read: {*(read or ()), "g9"}, {"g9"},
        lambda value, piece: set(piece) <= set(value or ()),
    ),
    "deleted row": Kind(CC, "viewcount", 3, 2, 5, lambda read: None, 0, total=True, delete=True),
}  # fmt: skip


class Platform:
    """Writes learners' rows as the platform does: plain statements at the writer's own clock, lists and maps as a whole."""

    def __init__(self, session: Any, keyspace: str, kind: Kind) -> None:
        self._session, self._keyspace, self.kind = session, keyspace, kind

    def put(self, user: str, timestamp: int, **columns: Any) -> None:
        """Sets columns of the row under test."""
        row = {**self.kind.key(user), **columns}
        names, marks = ", ".join(row), ", ".join("?" for _ in row)
        cql = f"INSERT INTO {self._keyspace}.{self.kind.table} ({names}) VALUES ({marks}) USING TIMESTAMP {timestamp}"
        self._session.execute(self._session.prepare(cql), list(row.values()))

    def delete(self, user: str, timestamp: int) -> None:
        """Deletes the row under test."""
        where = " AND ".join(f"{name} = %s" for name in self.kind.key(user))
        cql = f"DELETE FROM {self._keyspace}.{self.kind.table} USING TIMESTAMP {timestamp} WHERE {where}"
        self._session.execute(cql, list(self.kind.key(user).values()))

    def read(self, user: str, column: str = "") -> Any:
        """A column of the row under test."""
        where = " AND ".join(f"{name} = %s" for name in self.kind.key(user))
        cql = f"SELECT {column or self.kind.column} FROM {self._keyspace}.{self.kind.table} WHERE {where}"
        row = self._session.execute(cql, list(self.kind.key(user).values())).one()
        value = row[0] if row else None
        return dict(value) if hasattr(value, "items") else value


class Update:
    """One read-modify-write of the platform, read and written at two moments, dated by the writer's own clock.

    :param ahead: seconds that the writer's clock is ahead (negative: behind).
    """

    def __init__(self, platform: Platform, user: str, read_at: str, write_at: str, ahead: float) -> None:
        self._platform, self._user, self._when, self._ahead = platform, user, (read_at, write_at), ahead
        self._read: Any = None

    def at(self, moment: str) -> None:
        """Does what is due at this moment."""
        kind, dated = self._platform.kind, int((real_time() + self._ahead) * 1e6)
        if moment == self._when[0]:
            self._read = self._platform.read(self._user)
        if moment == self._when[1] and kind.delete:
            self._platform.delete(self._user, dated)
        elif moment == self._when[1]:
            self._platform.put(self._user, dated, **{kind.column: kind.update(self._read)})


class Provoker:
    """Makes the work fold the target's row once: a value of another column is written back as it was a moment ago."""

    def __init__(self, platform: Platform, user: str) -> None:
        self._platform, self._user, self._read = platform, user, 0
        self.column = {CC: "completedcount", ENR: "status", GROUP: ""}[platform.kind.table]

    def at(self, moment: str) -> None:
        """Reads before the entry is written, writes right after."""
        if not self.column:
            return
        if moment == "logged":
            self._read = self._platform.read(self._user, self.column) or 0
        elif moment == "written":
            raised = self._read + (1 if self._platform.kind.table == CC else 0)
            self._platform.put(self._user, int(real_time() * 1e6), **{self.column: raised})


def pairwise(dimensions: Mapping[str, Iterable[Any]], dice: Any, fits: Callable[[dict[str, Any]], bool]) -> list[dict]:
    """Few combinations in which each two values of two dimensions meet, if `fits` lets them."""
    names, values = list(dimensions), {name: list(found) for name, found in dimensions.items()}
    open_pairs = {
        (a, x, b, y) for i, a in enumerate(names) for b in names[i + 1 :] for x in values[a] for y in values[b]
    }  # fmt: skip
    chosen: list[dict] = []

    def pairs(case: dict[str, Any]) -> set:
        return {(a, case[a], b, case[b]) for i, a in enumerate(names) for b in names[i + 1 :]}

    tired = 0
    while open_pairs and tired < 200:
        a, x, b, y = dice.choice(sorted(open_pairs, key=str))
        tries = [{n: dice.choice(values[n]) for n in names} | {a: x, b: y} for _ in range(20)]
        best = max((t for t in tries if fits(t)), key=lambda t: len(pairs(t) & open_pairs), default=None)
        tired += best is None
        if best is not None:
            open_pairs -= pairs(best)
            chosen.append(best)
    return chosen
