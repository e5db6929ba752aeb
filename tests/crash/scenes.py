"""What a label's accounts have, and the kinds of work that are interrupted: a merge, an undo, a repair, a settle.

Every row has write times of long ago, a second apart, so that the order of write times says what a merge wrote.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from sqlalchemy import text

from account_merge.cli.main import run_merge
from account_merge.errors import MergeError
from account_merge.journal import now
from account_merge.journal.schema import metadata
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.states import CLOSED
from tests.learners import aggregate, enrolment, lesson, moment, put

CC, ENR, AGG = "user_content_consumption", "user_enrolments", "user_activity_agg"
GROUPS, MEMBER = "user_group", "group_member"
#: A table with totals, one with lists and maps, one that is found through these; and two that must agree.
TABLES = (CC, ENR, AGG, GROUPS, MEMBER)
NAMES = uuid.UUID("7d1c2c1e-51c0-4f4a-8a08-6c3f7b9b6d11")
WORKS = ("merge", "undo", "repair", "settle")
#: µs since the epoch: what the platform wrote, at whole seconds from here on.
LONG_AGO = 1_600_000_000_000_000
#: The settles of a merge: one that is due at once, none after it within a run.
SETTINGS = {
    "ACCOUNT_MERGE_SETTLE_AFTER_SECONDS": "1,86400",
    "ACCOUNT_MERGE_ENTRY_ROWS": "1",
    "CASSANDRA_REQUEST_TIMEOUT_SECONDS": "60",
}


def merge_id(label: str) -> uuid.UUID:
    """The id of a label's merge."""
    return uuid.uuid5(NAMES, label)


def work_id(work: str, label: str) -> uuid.UUID:
    """The merge that a kind of work is about: the label's, or the repair or settle that comes from it."""
    parent = merge_id(label)
    return uuid.uuid5(parent, f"{work}-1") if work in ("repair", "settle") else parent


def learners(service: Service) -> Any:
    """The session with Cassandra, which holds the learners' tables."""
    return service._connection[1]


def journal_rows(service: Service, statement: str) -> list[Any]:
    """What a query on the journal's tables finds."""
    with service.journal.engine.connect() as connection:
        return list(connection.execute(text(statement)).all())


def empty(service: Service) -> None:
    """Empties all tables of the label's rows and of the journal, which stays the same journal."""
    for table in TABLES:
        learners(service).execute(f"TRUNCATE {service.tables.schemas[table].full_name}", timeout=60)
    ours = ", ".join(sorted(metadata.tables.keys() - {"journal"}))
    with service.journal.transactions.begin() as connection:
        connection.execute(text(f"TRUNCATE {ours} RESTART IDENTITY CASCADE"))


class Platform:
    """Writes rows as the platform did, long ago."""

    def __init__(self, service: Service) -> None:
        self._session, self._keyspace = learners(service), service.settings.courses_keyspace

    def put(self, second: int, table: str, row: dict[str, Any]) -> None:
        """One row, all its cells written in that second."""
        put(self._session, self._keyspace, table, row, LONG_AGO + second * 1_000_000)

    def seed(self, label: str) -> None:
        """Both accounts' rows; each table has one that both have and one of the source alone."""
        source, target = f"source-{label}", f"target-{label}"
        day = moment("2022-03-01T10:15:30Z")
        self.put(1, CC, lesson(source, viewcount=3, completedcount=1, status=2, progress=100, last_access_time=day))
        self.put(2, CC, lesson(source, "L2", viewcount=1))
        self.put(3, CC, lesson(target, viewcount=2, status=1, lastaccesstime="soon", progressdetails="kept"))
        issued = [[{"identifier": name}] for name in ("c1", "c2")]
        self.put(4, ENR, enrolment(source, issued_certificates=issued[0], contentstatus={"L1": 2}, progress=1,
                                   active=True, status=2, enrolled_date=day))  # fmt: skip
        self.put(5, ENR, enrolment(target, issued_certificates=issued[1], contentstatus={"L3": 2}, progress=1,
                                   active=True, status=1, addedby="kept"))  # fmt: skip
        details = ['{"attempt_id": "a"}', '{"attempt_id": "b"}']
        self.put(6, AGG, aggregate(source, aggregates={"completedCount": 1.0}, agg_details=details[:1]))
        self.put(7, AGG, aggregate(target, aggregates={"score:q": 2.0}, agg_details=details[1:]))
        for second, user, group, role in (
            (8, source, "both", "admin"), (9, target, "both", "member"), (10, source, "other", "member"),
        ):  # fmt: skip
            row = {"groupid": f"{group}-{label}", "userid": user, "role": role, "status": "active"}
            self.put(second, MEMBER, row)
        self.put(11, GROUPS, {"userid": source, "groupid": {f"both-{label}", f"other-{label}"}})
        self.put(12, GROUPS, {"userid": target, "groupid": {f"both-{label}"}})

    def late(self, label: str) -> None:
        """What reaches the source after its merge."""
        source = f"source-{label}"
        self.put(20, CC, lesson(source, viewcount=5))
        self.put(21, CC, lesson(source, "L3", viewcount=7))
        self.put(22, ENR, enrolment(source, issued_certificates=[{"identifier": "c3"}], contentstatus={"L2": 2}))
        self.put(23, AGG, aggregate(source, aggregates={"score:q": 4.0}, agg_details=['{"attempt_id": "c"}']))


def prepare(service: Service, work: str, label: str) -> None:
    """Brings a label to where the work begins."""
    platform = Platform(service)
    platform.seed(label)
    if work == "merge":
        return
    do_merge(service, label, publish=False)
    if work in ("repair", "settle"):
        platform.late(label)


def do_merge(service: Service, label: str, publish: bool = True) -> None:
    """Merges source-label into target-label, or goes on with it; as the poll, it leaves a merge that is closed alone."""
    request = MergeRequest((f"source-{label}",), f"target-{label}", TABLES, source_rows="deactivate")
    service.opening.open_merge(request, merge_id(label))
    _run(service, merge_id(label), publish)


def do_undo(service: Service, label: str) -> None:
    """Undoes that merge, or goes on with it."""
    if service.journal.need(merge_id(label)).state != "undone":
        service.undoing.run(merge_id(label))


def do_repair(service: Service, label: str) -> None:
    """Repairs that merge, or goes on with it."""
    with service.journal.transaction():
        service.journal.lock(
            merge_id(label)
        )  # of two who look at once one repairs: another repair would be another work
        if service.journal.get(work_id("repair", label)) is None:
            service.repairing.repair(merge_id(label), "operator", "")
    _run(service, work_id("repair", label))


def do_settle(service: Service, label: str) -> None:
    """Does the settle of that merge, once it is due, or goes on with it as the poll does."""
    # Finding what is due reads only; here it finds this label's alone, however many others are due.
    parent = service.journal.need(merge_id(label))
    due = [parent] if parent.state == "completed" and parent.settle_at and parent.settle_at <= now() else []
    service.settling.due = lambda: iter(due)  # type: ignore[method-assign]
    service.settling.run()
    _run(service, work_id("settle", label))


def _run(service: Service, merge: uuid.UUID, publish: bool = True) -> None:
    if service.journal.need(merge).state in CLOSED:
        return
    answer = run_merge(service, merge, publish)
    if answer["error"]:
        raise MergeError(answer["error"]["code"], answer["error"]["message"], answer["error"]["remedy"])


DO = {"merge": do_merge, "undo": do_undo, "repair": do_repair, "settle": do_settle}


def resume(service: Service, work: str, label: str) -> str:
    """What the next run does; and then whatever waited for it."""
    DO[work](service, label)
    waits = service.journal.get(uuid.uuid5(NAMES, f"other/{label}"))
    return str(run_merge(service, waits.merge_id, publish=False)["state"]) if waits else ""


def take_back(service: Service, work: str, label: str) -> str:
    """What an operator does with work that hangs: the run is marked failed and taken back; answers what it was.

    An undo that hangs is finished by another process, and then taken back itself. Where nothing was to be seen of it, that
    was another undo.
    """
    if work == "undo":
        seen = service.journal.need(merge_id(label)).operation is not None
        do_undo(service, label)
        service.undoing.run(merge_id(label), "redo")
        return "taken back" if seen else "gone round"
    found = service.journal.get(work_id(work, label))
    if found is None:
        return "nothing"
    if found.state == "requested":
        service.undoing.abandon(found.merge_id, "hangs")
        return "given up"
    if found.state in ("started", "running"):
        service.failures.fail(found.merge_id, found.run_ids[-1] if found.run_ids else "run", "hangs")
    service.undoing.run(found.merge_id)
    return "taken back"


def other_merge(service: Service, work: str, label: str) -> str:
    """Another merge into the same target, while this one holds its accounts: it may only wait."""
    found = service.journal.get(work_id(work, label))
    if found is None or found.state != "running":
        return "nothing"
    merge = uuid.uuid5(NAMES, f"other/{label}")
    service.opening.open_merge(MergeRequest((f"third-{label}",), f"target-{label}", TABLES), merge)
    return str(run_merge(service, merge, publish=False)["state"])


def merge_onward(service: Service, work: str, label: str) -> str:
    """Merges the target into another account, while the label's merge stands: that one may not be undone any more."""
    if service.journal.need(merge_id(label)).state != "completed":
        return "nothing"
    merge = uuid.uuid5(NAMES, f"onward/{label}")
    service.opening.open_merge(MergeRequest((f"target-{label}",), f"onward-{label}", TABLES), merge)
    return str(run_merge(service, merge, publish=False)["state"])


def stop_merging(service: Service, work: str, label: str) -> str:
    """Turns the kill switch for everybody: no entry is appended from here on."""
    service.switch.pause("", "operator", "look")
    return "stopped"


def let_merging_go_on(service: Service) -> None:
    """Turns the kill switch back."""
    service.switch.resume("", "operator")


def entries(service: Service, work: str, label: str) -> int:
    """How many entries the logs of the work's merge have."""
    merge = work_id(work, label)
    return int(journal_rows(service, f"SELECT count(*) AS number FROM log WHERE merge_id = '{merge}'")[0].number)


def due(service: Service, labels: list[str], seconds: float = 60.0) -> None:
    """Waits until the settles of all these merges are due."""
    deadline = time.monotonic() + seconds
    for label in labels:
        while True:
            merge = service.journal.need(merge_id(label))
            left = (merge.settle_at - now()).total_seconds() if merge.settle_at else 0
            if left <= 0:
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"{label}: no settle is due: {json.dumps(str(merge.settle_at))}")
            time.sleep(left)
