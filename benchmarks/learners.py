"""Accounts for the benchmarks: rows as the platform writes them, of any number, half of them on both accounts."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cassandra.concurrent import execute_concurrent
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType

from account_merge.connection.batches import batched

LESSONS, ENROLMENTS, AGGREGATES = TABLES = ("user_content_consumption", "user_enrolments", "user_activity_agg")
USER = {LESSONS: "userid", ENROLMENTS: "userid", AGGREGATES: "user_id"}
IN_A_COURSE = 50
#: Rows in one batch, all of one partition: a lesson has some hundred bytes, an enrolment some thousand.
IN_A_BATCH = {LESSONS: 50, ENROLMENTS: 10}
AT_ONCE = 16
_CHUNK = 50_000  # rows that are made before they are written
_BEGIN = datetime(2022, 1, 1)

Values = dict[str, Any]
Raw = tuple[Any, ...]


@dataclass(frozen=True)
class Pair:
    """Two accounts. :param size: rows of content consumption of each; the second half of the source's is the target's, too."""

    size: int
    source: str
    target: str

    def courses(self) -> list[str]:
        """The courses of both."""
        return [_course(n) for n in range((self.size + self.size // 2) // IN_A_COURSE + 1)]


def _course(number: int) -> str:
    return f"do_1130{number:09}"


def rows(user: str, first: int, size: int) -> Iterator[tuple[str, Values]]:
    """Yield (table, row): lessons `first` to `first + size`, and for each course of theirs an enrolment and an aggregate."""
    chance = random.Random(f"{first}/{size}")
    done: dict[int, dict[str, int]] = {}
    for n in range(first, first + size):
        status = chance.choices((0, 1, 2), (1, 3, 6))[0]
        seen = _BEGIN + timedelta(minutes=chance.randrange(500_000))
        course, content = n // IN_A_COURSE, f"do_2134{n:09}"
        done.setdefault(course, {})[content] = status
        yield LESSONS, {
            "userid": user, "courseid": _course(course), "batchid": f"0131{course:09}", "contentid": content,
            "status": status, "progress": (0, chance.randrange(1, 99), 100)[status], "viewcount": chance.randrange(1, 6),
            "completedcount": int(status == 2), "datetime": seen, "last_access_time": seen, "last_updated_time": seen,
            "last_completed_time": seen if status == 2 else None,
            "lastaccesstime": seen.strftime("%Y-%m-%d %H:%M:%S:000+0530"),
        }  # fmt: skip
    for course, units in done.items():
        completed = sum(status == 2 for status in units.values())
        place = {"courseid": _course(course), "batchid": f"0131{course:09}"}
        yield ENROLMENTS, {
            "userid": user, **place, "active": True, "addedby": user, "contentstatus": units, "progress": completed,
            "completionpercentage": 100 * completed // len(units), "status": 1, "datetime": _BEGIN, "enrolled_date": _BEGIN,
        }  # fmt: skip
        yield AGGREGATES, {
            "activity_type": "Course", "activity_id": place["courseid"], "user_id": user, "context_id": f"cb:{place['batchid']}",
            "aggregates": {"completedCount": float(completed)}, "agg_last_updated": {"completedCount": _BEGIN},
        }  # fmt: skip


class Keyspace:
    """The learners' tables, read and written as fast as the driver can: the floor of a merge.

    :param session: gives rows as tuples.
    """

    def __init__(self, session: Any, name: str) -> None:
        self._session, self.name = session, name

    def pair(self, size: int) -> Pair:
        """Two new accounts with their rows."""
        pair = Pair(size, str(uuid.uuid4()), str(uuid.uuid4()))
        for user, first in ((pair.source, 0), (pair.target, size // 2)):
            waiting: dict[str, list[Values]] = {table: [] for table in TABLES}
            for table, row in rows(user, first, size):
                waiting[table].append(row)
                if len(waiting[table]) == _CHUNK:
                    self._put(table, waiting.pop(table))
                    waiting[table] = []
            for table, rest in waiting.items():
                self._put(table, rest)
        return pair

    def _put(self, table: str, given: list[Values]) -> None:
        if given:
            self.write(table, list(given[0]), (tuple(row.values()) for row in given))

    def read(self, table: str, user: str, courses: list[str]) -> tuple[list[str], Iterator[Raw]]:
        """Return the names of the columns, and an account's rows by pages."""
        columns = f"SELECT * FROM {self.name}.{table} WHERE"
        if table == AGGREGATES:
            some = self._session.prepare(f"{columns} activity_type = 'Course' AND activity_id IN ? AND user_id = ?")
            lists = [courses[n : n + 50] for n in range(0, len(courses), 50)]
            found = [self._session.execute(some, [chosen, user]) for chosen in lists]
        else:
            whole = self._session.prepare(f"{columns} userid = ?")
            whole.fetch_size = 5000 if table == LESSONS else 500
            found = [self._session.execute(whole, [user], timeout=60)]
        return found[0].column_names, (row for part in found for row in part)

    def write(self, table: str, names: list[str], given: Iterable[Raw], user: str = "") -> None:
        """Write rows of one account: batches of one partition, some in flight.

        :param user: whose rows these become, instead of whose they are.
        """
        cells, holes = ", ".join(names), ", ".join("?" for _ in names)
        statement = self._session.prepare(f"INSERT INTO {self.name}.{table} ({cells}) VALUES ({holes})")
        place = names.index(USER[table])

        def bound() -> Iterator[Any]:
            for row in given:
                values = [UNSET_VALUE if value is None else value for value in row]
                if user:
                    values[place] = user
                yield statement.bind(values)

        # An aggregate is in a partition of its own.
        sent = bound() if table == AGGREGATES else map(_unlogged, batched(bound(), IN_A_BATCH[table]))
        execute_concurrent(self._session, ((one, ()) for one in sent), AT_ONCE)


def _unlogged(statements: Iterable[Any]) -> BatchStatement:
    batch = BatchStatement(BatchType.UNLOGGED)
    for statement in statements:
        batch.add(statement)
    return batch
