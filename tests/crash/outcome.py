"""What a label's work came to, comparable with another label's: rows, order of write times, journal, topics.

Absolute write times differ from run to run. What must not differ: within a row, which cells stand above which (a gap of
less than the room for repeated list writes is none); and three rules that every run obeys by itself, see `faults`.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from account_merge.journal.encoding import Codec, unpayload
from account_merge.journal.log import LIST_ATTEMPTS
from account_merge.jsonable import jsonable
from account_merge.model import Change
from account_merge.service import Service
from account_merge.states import CLOSED
from account_merge.values import plain
from tests.crash.scenes import LONG_AGO, NAMES, TABLES, journal_rows, learners, merge_id

_SEEDED = range(LONG_AGO, LONG_AGO + 3_600_000_000)
#: Columns of the journal that say when, or which run it was: not the same twice.
_WHEN = {
    "created_at",
    "state_at",
    "updated_at",
    "closed_at",
    "settle_at",
    "failed_at",
    "digests",
    "merge_id",
    "run_ids",
}
#: Merges of a label that are not its work: they go on beside it.
OTHERS = ("other", "onward")
#: In which of its parts one outcome must be as another.
PARTS = ("rows", "order", "journal", "events", "failed")


@dataclass
class Outcome:
    """One label's.

    :param rows: table -> its rows of both accounts, every column as it is.
    :param order: table -> per row, column -> rank of its write times.
    :param journal: merges, logs and accounts, without what tells the time.
    :param events: sync events by their id, without it: one that went out twice counts once.
    :param failed: number of failed events.
    :param held: accounts that an open merge still holds.
    :param faults: rules that are broken, whatever another run came to.
    """

    rows: dict[str, Any] = field(default_factory=dict)
    order: dict[str, Any] = field(default_factory=dict)
    journal: dict[str, Any] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)
    failed: int = 0
    held: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def differences(self, wanted: Outcome, parts: Iterable[str] = PARTS) -> list[str]:
        """In words: the faults, and in which part something is not as wanted."""
        found = [*self.faults, *(f"account {user} is still held" for user in self.held)]
        for part in parts:
            mine, theirs = getattr(self, part), getattr(wanted, part)
            if mine != theirs:
                found.append(f"{part}: {_first(mine, theirs)}")
        return found


def _first(mine: Any, theirs: Any, path: str = "") -> str:
    """The place of the first difference, with both sides."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in sorted({*mine, *theirs}, key=str):
            if mine.get(key) != theirs.get(key):
                return _first(mine.get(key), theirs.get(key), f"{path}/{key}")
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        for number, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            if one != other:
                return _first(one, other, f"{path}/{number}")
    return f"{path}: {json.dumps(mine, default=str)[:600]} is not {json.dumps(theirs, default=str)[:600]}"


def rows_of(service: Service, label: str) -> list[Any]:
    """One label's rows with their write times, to see whether anything changes at all."""
    found = []
    for table in TABLES:
        for user in (f"source-{label}", f"target-{label}"):
            found += [[table, _plain_row(row)] for row in _read(service, table, user)]
    return sorted(found, key=json.dumps)


def outcomes(service: Service, labels: Iterable[str]) -> dict[str, Outcome]:
    """Every label's outcome, by one reading of each table and topic."""
    found = {label: Outcome() for label in labels}
    times: dict[tuple[str, str], set[int]] = defaultdict(set)
    for table in TABLES:
        for row in _read(service, table):
            user, label = _whose(row, table)
            if label in found:
                values, written = _parts(row)
                found[label].rows.setdefault(table, []).append([user, _neutral(values, label)])
                found[label].order.setdefault(table, []).append([user, _neutral(_keys(values), label), _ranks(written)])
                times[label, table] |= {t for cell in written.values() for t in cell}
    for outcome in found.values():
        for part in (outcome.rows, outcome.order):
            for rows in part.values():
                rows.sort(key=lambda row: json.dumps(row, sort_keys=True))
    _Journal(service, found, times).read()
    _topics(service, found)
    return found


# --- rows -------------------------------------------------------------------------------------------------------------
def _read(service: Service, table: str, user: str = "") -> Iterator[Mapping[str, Any]]:
    schema = service.tables.schemas[table]
    cells = ", ".join(f'WRITETIME("{c.actual}") AS "written_{c.actual}"' for c in schema.columns.values())
    where = f" WHERE \"{schema.user.actual}\" = '{user}' ALLOW FILTERING" if user else ""
    names = ", ".join(f'"{c.actual}"' for c in (schema.user, *schema.key.values(), *schema.columns.values()))
    answer = learners(service).execute(f"SELECT {names}, {cells} FROM {schema.full_name}{where}")
    yield from (dict(zip(answer.column_names, row, strict=True)) for row in answer)


def _plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: jsonable(plain(value)) for name, value in row.items() if value is not None}


def _whose(row: Mapping[str, Any], table: str) -> tuple[str, str]:
    user = row.get("userid") or row.get("user_id") or ""
    return tuple(user.split("-", 1))  # type: ignore[return-value]


def _parts(row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Values, and each cell's write times in the order of its elements."""
    values = {n: v for n, v in _plain_row(row).items() if not n.startswith("written_")}
    written = {n.removeprefix("written_"): v for n, v in row.items() if n.startswith("written_") and v}
    return values, {n: [*v] if isinstance(v, list) else [v] for n, v in written.items()}


def _keys(values: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in values.items() if n in ("courseid", "batchid", "contentid", "context_id", "groupid")}


def _ranks(written: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Each cell's place among the row's write times; what is nearer than a list's next attempt is one place."""
    places, last = {}, None
    for moment in sorted({t for cell in written.values() for t in cell}):
        places[moment] = (
            places[last] if last is not None and moment - last < LIST_ATTEMPTS else len(set(places.values()))
        )
        last = moment
    return {name: [places[t] for t in cell] for name, cell in written.items()}


def _neutral(value: Any, label: str) -> Any:
    return json.loads(json.dumps(value).replace(f"-{label}", "-L"))


# --- the journal ------------------------------------------------------------------------------------------------------
class _Journal:
    """Merges, logs and accounts of all labels, put into their outcomes."""

    def __init__(self, service: Service, found: dict[str, Outcome], times: Mapping[tuple[str, str], set[int]]) -> None:
        self._service, self._found, self._times = service, found, times
        self._named: dict[uuid.UUID, tuple[str, str]] = {}
        for label in found:
            parent = merge_id(label)
            own = {"merge": parent} | {name: uuid.uuid5(parent, name) for name in ("repair-1", "repair-2", "settle-1")}
            own |= {name: uuid.uuid5(NAMES, f"{name}/{label}") for name in OTHERS}
            self._named |= {one: (label, name) for name, one in own.items()}
        self._margin = int(service.settings.clock_margin_seconds * 1e6)

    def _all(self, table: str) -> Iterator[Any]:
        yield from journal_rows(self._service, f"SELECT * FROM {table}")

    def _say(self, value: Any, label: str) -> Any:
        text = json.dumps(jsonable(plain(value)))
        for one, (_, name) in self._names[label]:
            text = text.replace(str(one), name)
        return json.loads(text.replace(f"-{label}", "-L"))

    def read(self) -> None:
        """Reads all tables that tell what was done."""
        self._names: dict[str, list[Any]] = defaultdict(list)
        for one, (label, name) in self._named.items():
            self._names[label].append((one, (label, name)))
        for outcome in self._found.values():
            outcome.journal = {"merges": {}, "logs": {}, "accounts": {}}
        states, digests = self._merges()
        self._logs(digests)
        self._accounts(states)
        self._history(states)

    def _merges(self) -> tuple[dict[uuid.UUID, str], dict[tuple[uuid.UUID, str], bytes]]:
        states, digests = {}, {}
        for row in self._all("merges"):
            label, name = self._named.get(row.merge_id, ("", ""))
            states[row.merge_id] = row.state
            if label in self._found and name not in OTHERS:
                kept = {n: v for n, v in row._asdict().items() if n not in _WHEN}
                kept["digests"] = sorted(row.digests)
                self._found[label].journal["merges"][name] = self._say(kept, label)
                if row.state in CLOSED:  # one that is being undone has closed its logs since
                    digests |= {(row.merge_id, log): bytes.fromhex(digest) for log, digest in row.digests.items()}
        return states, digests

    def _logs(self, digests: dict[tuple[uuid.UUID, str], bytes]) -> None:
        writes: dict[str, list[tuple[datetime, str, Any, int]]] = defaultdict(list)
        last: dict[tuple[uuid.UUID, str], tuple[int, bytes]] = {}
        for row in self._all("log"):
            label, name = self._named.get(row.merge_id, ("", ""))
            if label not in self._found:
                continue
            table = next(t for t in TABLES if t in row.name.split("/"))
            codec = Codec(self._service.tables.schemas[table])
            changes = [codec.unchange(body) for body in unpayload(row.payload)] if row.payload else []
            if name not in OTHERS:
                log = self._found[label].journal["logs"].setdefault(self._say(f"{name}: {row.name}", label), [])
                told = (self._say(_told(c), label) for c in changes)
                log.append([row.seq, row.kind, row.counts, row.note, *told])
            writes[label] += [
                (row.created_at, f"{table} {row.name.rpartition('/source-')[2]}", *w)
                for c in changes for w in _written(c)
            ]  # fmt: skip
            self._check_clock(label, row, changes)
            last[row.merge_id, row.name] = max(
                last.get((row.merge_id, row.name), (-1, b"")), (row.seq, bytes(row.digest))
            )
        for outcome in self._found.values():
            for log in outcome.journal["logs"].values():
                log.sort(key=lambda entry: entry[0])
        for (merge, log), digest in digests.items():
            if last.get((merge, log), (0, b""))[1] != digest:
                self._found[self._named[merge][0]].faults.append(f"the digest of {log} is not its last entry's")
        for label, outcome in self._found.items():
            outcome.faults += self._times_of(label, writes[label])

    def _check_clock(self, label: str, row: Any, changes: list[Change]) -> None:
        """A later write by the platform must win: an entry is dated back by the margin, and nothing below its base."""
        written = int(row.created_at.timestamp() * 1e6)
        if row.kind == "changes" and row.base > written - self._margin + 2000:
            self._found[label].faults.append(f"entry {row.seq} of {row.name} is not dated back by the margin")
        if any(t < row.base for c in changes for _, t in _written(c)):
            self._found[label].faults.append(f"entry {row.seq} of {row.name} writes below its base")

    def _times_of(self, label: str, writes: list[tuple[datetime, str, Any, int]]) -> Iterator[str]:
        """Each cell was written long ago or at a timestamp that the log names; of one cell a later entry's is higher."""
        for table in TABLES:
            named = {time for _, of, _, time in writes if of.split()[0] == table}
            for time in self._times[label, table]:
                if time not in _SEEDED and not any(0 <= time - one < LIST_ATTEMPTS for one in named):
                    yield f"{table}: a cell has a write time that no entry of the log names"
        cells: dict[Any, list[tuple[datetime, int]]] = defaultdict(list)
        for moment, of, cell, time in writes:
            cells[of, cell].append((moment, time))
        for (of, cell), entries in cells.items():
            entries.sort()
            if any(later[1] - earlier[1] < LIST_ATTEMPTS for earlier, later in zip(entries, entries[1:], strict=False)):
                yield f"{of}: a later entry does not write {cell[-1]} above an earlier one"

    def _accounts(self, states: Mapping[uuid.UUID, str]) -> None:
        moves = defaultdict(list)
        for row in journal_rows(self._service, "SELECT * FROM moves ORDER BY position"):
            moves[row.account_id, row.role].append(f"{row.operation}/{row.merge_id}")
        for row in self._all("accounts"):
            user, _, label = row.account_id.partition("-")
            if label not in self._found or user not in ("source", "target"):
                continue
            gave, received = (moves[row.account_id, role] for role in ("source", "target"))
            kept = {"held_by": row.held_by, "role": row.role, "gave": gave, "received": received}
            said = self._say(kept, label)
            said["gave"].sort()  # a set, in the order of names
            self._found[label].journal["accounts"][user] = said
            if row.held_by and states.get(row.held_by) not in CLOSED:
                self._found[label].held.append(user)

    def _history(self, states: Mapping[uuid.UUID, str]) -> None:
        """A state and the line that tells how it came are written together; so is what waits, and the mark that finds it."""
        newest: dict[uuid.UUID, str] = {}
        for row in journal_rows(
            self._service, "SELECT merge_id, before, after FROM history ORDER BY merge_id, position"
        ):
            if row.before != newest.get(row.merge_id) and row.merge_id in self._named:
                told = f"its history goes on from {row.before}, after {newest.get(row.merge_id)}"
                self._fault(row.merge_id, told)
            newest[row.merge_id] = row.after
        for merge, state in states.items():
            if newest.get(merge) != state:
                self._fault(merge, f"it is {state}, and its history ends with {newest.get(merge)}")
        unmarked = (
            "SELECT merge_id FROM merges LEFT JOIN accounts ON account_id = waiting_for "
            "WHERE state = 'waiting' AND wanted IS NOT TRUE"
        )
        for row in journal_rows(self._service, unmarked):
            self._fault(row.merge_id, "it waits for an account that is not marked as wanted")

    def _fault(self, merge: uuid.UUID, told: str) -> None:
        label, name = self._named.get(merge, ("", ""))
        if label in self._found:
            self._found[label].faults.append(f"{name}: {told}")


def _told(change: Change) -> dict[str, Any]:
    return {
        "key": list(change.key), "sources": change.sources, "before": change.before, "after": change.after,
        "given": change.given, "notes": list(change.notes), "why": dict(change.why), "create": bool(change.create_at),
        "delete": bool(change.delete_at),
    }  # fmt: skip


def _written(change: Change) -> Iterator[tuple[Any, int]]:
    """(cell, timestamp) of all that a change writes."""
    key = tuple(str(part) for part in change.key)
    yield from (((*key, column), write.timestamp) for column, write in change.writes.items())
    if change.create_at or change.delete_at:
        yield (*key, "the row"), change.create_at or change.delete_at


# --- the topics -------------------------------------------------------------------------------------------------------
def _topics(service: Service, found: dict[str, Outcome]) -> None:
    sync: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for message in service.topics.read(service.settings.sync_topic):
        body = json.loads(message.value or b"{}")
        label = body["edata"]["userId"].split("-", 1)[1]
        mid = body.pop("mid")
        body.pop("ets")
        sync[label][mid].add(json.dumps(body, sort_keys=True).replace(f"-{label}", "-L"))
    for label, outcome in found.items():
        outcome.events = sorted(sorted(bodies) for bodies in sync[label].values())
        outcome.faults += [
            "one id of a sync event, several contents" for bodies in sync[label].values() if len(bodies) > 1
        ]
    for message in service.topics.read(service.settings.failed_topic):
        for label in re.findall(r"target-(\w+)", str(message.value)):
            if label in found:
                found[label].failed += 1
