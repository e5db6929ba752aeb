"""One random history: each step is done to the model and to real tables; after each step both must say the same."""

from __future__ import annotations

import json
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from account_merge.choices import Choices
from account_merge.cli.main import run_merge
from account_merge.errors import InvalidRequest
from account_merge.journal import now
from account_merge.model import MergeRequest
from account_merge.rules import rule_for
from account_merge.service import Service
from tests.histories.model import AGG, ASM, CC, ENR, LIST, MEMBER, PROGRAM, TABLE_OF, Asked, Model, Thing
from tests.journal_sql import sql
from tests.learners import account, comparable

COURSES, LESSONS, GROUPS, PROGRAMS = ("C1", "C2"), ("L1", "L2", "L3"), ("g1", "g2", "g3"), ("p1", "p2")
BATCH, DAY = "b", datetime(2022, 3, 1, 10, 15, 30)
TABLES = tuple(dict.fromkeys(TABLE_OF.values()))
LEARNING, BELONGING = (AGG, ENR, ASM, CC), (LIST, MEMBER, PROGRAM)
#: What a request may be refused with; anything else that is raised fails the history.
REFUSED = {
    "UNDO_FIRST", "UNDO_WINDOW_OVER", "ALREADY_MERGED", "INTO_ITSELF", "CANNOT_REDO", "CANNOT_UNDO", "EXPIRED", "SAME_ACCOUNT", "NO_SOURCE",
}  # fmt: skip

Dice = random.Random


def _all(dice: Dice) -> Asked:
    return Asked(TABLES)


def _skip(dice: Dice) -> Asked:
    return Asked(TABLES, on_conflict="skip")


def _some_tables(dice: Dice) -> Asked:
    return Asked(dice.choice([LEARNING, BELONGING, (*LEARNING, *BELONGING[:2]), (ENR, CC), (AGG, ENR)]))


def _deactivate(dice: Dice) -> Asked:
    return Asked(TABLES, source_rows="deactivate")


def _keep_target(dice: Dice) -> Asked:
    tables = dice.choice([(AGG, ASM, CC), (ENR,), (CC,), (MEMBER, LIST), (PROGRAM,)])
    return Asked(TABLES, choices=dict.fromkeys(tables, "target"))


def _take_source(dice: Dice) -> Asked:
    return Asked(TABLES, choices=dict.fromkeys(dice.choice([(CC,), (ASM,)]), "source"))


def _skip_and_more(dice: Dice) -> Asked:
    return Asked(dice.choice([TABLES, LEARNING]), on_conflict="skip", source_rows=dice.choice(["keep", "deactivate"]))


#: How merges are asked for, with how often. Whoever adds an option adds a line; the model must know what it does.
OPTIONS: Mapping[Callable[[Dice], Asked], int] = {
    _all: 6, _skip: 2, _some_tables: 2, _deactivate: 2, _keep_target: 2, _take_source: 1, _skip_and_more: 1,
}  # fmt: skip


class World:
    """Five accounts of one history.

    :param asked_of: merge -> how it was asked for; of a settle or repair, what it asks for itself.
    :param parents: settle or repair -> the merge that it comes from.
    :param settles: those that are undone with the merge that they come from.
    """

    def __init__(self, service: Service, session: Any, seed: int) -> None:
        self.service, self.session, self.dice = service, session, random.Random(seed)
        self.model, self.number, self.told = Model(), 0, list[str]()
        self.users = [account() for _ in range(5)]
        self.model.past = {user: [] for user in self.users}
        self.merges: list[uuid.UUID] = []
        self.asked_of: dict[uuid.UUID, tuple[Asked, tuple[str, ...]]] = {}
        self.parents: dict[uuid.UUID, uuid.UUID] = {}
        self.settles: set[uuid.UUID] = set()
        self.done: Counter[str] = Counter()
        #: What the aggregator has not reached yet: these accounts have lessons of a course and no aggregate row.
        self.lagging = {(u, c) for u in self.users for c in COURSES if self.dice.random() < 0.3}

    def _name(self, user: str) -> str:
        return "ABCDE"[self.users.index(user)]

    # --- what must hold -------------------------------------------------------------------------------------------
    def check(self) -> None:
        """The tables show what the model says, of every account."""
        for user in self.users:
            wanted: dict[str, list[Any]] = {table: [] for table in TABLES}
            for table, row in self.model.rows(user):
                wanted[table].append(row)
            found = {table: self._found(user, table) for table in TABLES}
            if wanted[LIST]:  # one row holds all of an account's groups
                wanted[LIST] = [{"places": sorted(row["place"] for row in wanted[LIST])}]
            for row in [*wanted[AGG], *found[AGG]]:
                if (user, row["place"]) in self.model.unsure:
                    for number in ("completedCount", "attempts_count:q", "score:q"):
                        row.pop(number, None)
            for row, other in zip(wanted[ENR], found[ENR], strict=False):
                if row["active"] == "?":
                    other.pop("active"), row.pop("active")
            for table in TABLES:
                key = lambda row: json.dumps(row, sort_keys=True, default=str)  # noqa: E731
                same = sorted(wanted[table], key=key) == sorted(found[table], key=key)
                assert same, (
                    f"{table} of {self._name(user)}: wanted {wanted[table]}, found {found[table]}\n" + self.story()
                )

    def story(self) -> str:
        """The history so far."""
        return "\n".join(f"{number} {words}" for number, words in enumerate(self.told))

    def _found(self, user: str, table: str) -> list[dict[str, Any]]:
        schema = self.service.tables.of(rule_for(table))
        cql = f"SELECT * FROM {schema.full_name} WHERE {schema.user.actual} = %s ALLOW FILTERING"
        logical = {schema.column(name).actual: name for name in (*schema.key, *schema.columns)}
        read = (row._asdict() for row in self.session.execute(cql, [user]))
        rows = comparable(({logical.get(c, c): v for c, v in row.items()} for row in read), schema.user.actual)
        return sorted((_seen(table, row) for row in rows), key=lambda row: str(row.get("place")))

    # --- what the platform writes ---------------------------------------------------------------------------------
    def put(self, user: str, table: str, key: tuple[Any, ...], **columns: Any) -> None:
        """One row, by INSERT."""
        schema = self.service.tables.of(rule_for(table))
        values = {**schema.bind(user, key), **columns}
        names = ", ".join(schema.column(name).actual for name in values)
        cql = f"INSERT INTO {schema.full_name} ({names}) VALUES ({', '.join('?' for _ in values)})"
        self.session.execute(self.session.prepare(cql), list(values.values()))

    def learn(self, user: str = "", course: str = "", lesson: str = "", done: bool | None = None) -> None:
        """A learner views a lesson, may finish it, may earn a certificate or take the test."""
        user, course = user or self.dice.choice(self.users), course or self.dice.choice(COURSES)
        lesson = lesson or self.dice.choice(LESSONS)
        done = self.dice.random() < 0.6 if done is None else done
        self.number += 1
        model, finished = self.model, Thing("done", course, lesson) in self.model.things(user)
        new = done and not finished
        things = [Thing("view", course, lesson, self.number), Thing("enrolled", course)]
        things += [Thing("done", course, lesson), Thing("item", course, lesson)] if new else []
        certified = self.dice.random() < 0.3
        things += [Thing("certificate", course, f"c{self.number}")] if certified else []
        counted = model.some(user, "aggregate", course) or (user, course) not in self.lagging
        # A number that the platform writes again as it was shows nobody that it did: a try comes with one that changes.
        tried = counted and (new or Thing("aggregate", course) in model.past[user]) and self.dice.random() < 0.3
        if tried:
            score = self.dice.randint(1, 30)
            name = f"t{self.number}"
            things += [Thing("attempt", course, name, score), Thing("detail", course, name, score)]
        if counted and (new or tried or not model.some(user, "aggregate", course)):
            things.append(Thing("aggregate", course))
        model.happen(user, *things)
        self.told.append(f"learn {self._name(user)}: {', '.join(f'{t.kind} {t.place} {t.name}' for t in things)}")
        views = sum(thing.name == lesson for thing in model.some(user, "view", course))
        status = {"status": 2, "progress": 100} if done or finished else {"status": 1, "progress": 50}
        self.put(user, CC, (course, BATCH, lesson), viewcount=views, last_access_time=DAY, **status)
        self._enrol(user, course, certified)
        if tried:
            self.put(user, ASM, (course, BATCH, "q", name), total_score=float(score), last_attempted_on=DAY)
        if counted and (new or tried or Thing("aggregate", course) in things):
            self._aggregate(user, course)

    def _enrol(self, user: str, course: str, certified: bool) -> None:
        """A certificate is appended to the list, or the whole list is put."""
        items = dict.fromkeys((t.name for t in self.model.some(user, "item", course)), 2)
        issued = [{"identifier": t.name, "name": t.name} for t in self.model.some(user, "certificate", course)]
        appended = certified and self.dice.random() < 0.5
        rest = {"issued_certificates": issued} if certified and not appended else {}
        active = {} if not self.model.active(user, course) else {"active": True}
        self.put(user, ENR, (course, BATCH), contentstatus=items, progress=len(items), status=1, **rest, **active)
        if appended:
            schema = self.service.tables.of(rule_for(ENR))
            column, bound = schema.column("issued_certificates").actual, schema.bind(user, (course, BATCH))
            where = " AND ".join(f"{schema.column(name).actual} = ?" for name in bound)
            cql = f"UPDATE {schema.full_name} SET {column} = {column} + ? WHERE {where}"
            new = next(one for one in issued if one["identifier"] == f"c{self.number}")
            self.session.execute(self.session.prepare(cql), [[new], *bound.values()])

    def _aggregate(self, user: str, course: str) -> None:
        details = [
            json.dumps({"attempt_id": t.name, "content_id": "q", "score": t.number})
            for t in self.model.some(user, "detail", course)
        ]
        numbers = self.model.numbers(user, course)
        extra = {"agg_details": details} if details else {}
        self.put(user, AGG, ("Course", course, f"cb:{BATCH}"), aggregates=numbers, **extra)

    def join(self, user: str = "", group: str = "") -> None:
        """An account joins a group."""
        user, group = user or self.dice.choice(self.users), group or self.dice.choice(GROUPS)
        if Thing("member", group) in self.model.things(user):
            return
        self.model.happen(user, Thing("member", group), Thing("listed", group))
        self.told.append(f"join {self._name(user)} {group}")
        self.put(user, MEMBER, (group,), status="active", role="member", createdon=DAY)
        self.put(user, LIST, (), groupid={t.place for t in self.model.some(user, "listed")})

    def enter(self, user: str = "") -> None:
        """An account enters a program."""
        user, program = user or self.dice.choice(self.users), self.dice.choice(PROGRAMS)
        if Thing("program", program) in self.model.things(user):
            return
        self.model.happen(user, Thing("program", program))
        self.told.append(f"enter {self._name(user)} {program}")
        self.put(user, PROGRAM, (program,), program_name=program)

    def begin(self) -> None:
        """What the accounts have before the first merge: some nothing of a course, some no aggregate row."""
        for user in self.users:
            for course in COURSES:
                for _ in range(self.dice.choice((0, 1, 1, 2))):
                    self.learn(user, course)
            for step in (self.join, self.join, self.enter):
                if self.dice.random() < 0.5:
                    step(user)

    # --- merges -----------------------------------------------------------------------------------------------------
    def merge(self) -> None:
        """A merge of one or several accounts, asked for in some way."""
        target = self.dice.choice(self.users)
        others = [user for user in self.users if user != target]
        sources = tuple(self.dice.sample(others, self.dice.choice((1, 1, 1, 2, 3))))
        option = self.dice.choices(list(OPTIONS), list(OPTIONS.values()))[0]
        asked = option(self.dice)
        if asked.on_conflict == "skip" and not all(map(self.model.whole, (*sources, target))):
            return
        if self._apart(sources, self.service.journal.survivor(target)):
            return
        self.asked(sources, target, asked, option.__name__[1:])

    def _apart(self, sources: Iterable[str], target: str) -> bool:
        """Whether a source was merged into an account whose own rows of some table were not merged here."""
        return any(self.model.elsewhere(source, target) for source in sources)

    def asked(self, sources: tuple[str, ...], target: str, asked: Asked, option: str = "") -> uuid.UUID | None:
        """A merge as it is asked for; None when it was refused."""
        request = MergeRequest(
            sources, target, asked.tables, asked.on_conflict, asked.source_rows,
            choices=Choices({t: c for t, c in asked.choices.items() if t in asked.tables}),
        )  # fmt: skip
        words = f"merge {', '.join(map(self._name, sources))} into {self._name(target)} {asked}"
        merge_id = self._run(self.service.opening.open_merge(request), sources, asked, words)
        if merge_id:
            self.done.update(["merge", option, f"{len(sources)} sources"])
        return merge_id

    def _run(self, merge_id: uuid.UUID, sources: tuple[str, ...], asked: Asked, words: str) -> uuid.UUID | None:
        answer = run_merge(self.service, merge_id, publish=False)
        self.told.append(f"{words}: {answer['state']} {merge_id}")
        if answer["state"] != "completed":
            assert answer["error"]["code"] in REFUSED, (answer, self.story())
            return None
        survivor = self.service.journal.need(merge_id).survivor
        assert survivor is not None
        self.model.merge(merge_id, sources, survivor, asked, self._family(merge_id))
        self.merges.append(merge_id)
        self.asked_of[merge_id] = asked, sources
        return merge_id

    def _child(self, child: uuid.UUID, parent: uuid.UUID, asked: Asked, words: str) -> bool:
        self.parents[child] = parent
        done = self._run(child, self.asked_of[parent][1], asked, f"{words} {self.told_of(parent)}")
        if done and asked.on_conflict == "skip":
            self.done[f"{words} of skip"] += 1
        self.done[words] += bool(done)
        return bool(done)

    def _family(self, merge_id: uuid.UUID) -> list[uuid.UUID]:
        """The merge that a settle or repair comes from, and what came from that before it."""
        root = self._root(merge_id)
        return [] if root == merge_id else [one for one in self.merges if self._root(one) == root]

    def _root(self, merge_id: uuid.UUID) -> uuid.UUID:
        while merge_id in self.parents:
            merge_id = self.parents[merge_id]
        return merge_id

    def repeat(self) -> None:
        """An old merge's tasks once more, long after: nothing happens."""
        if self.merges:
            merge_id = self.dice.choice(self.merges)
            self.told.append(f"repeat {self.told_of(merge_id)}")
            run_merge(self.service, merge_id, publish=False)
            self.done["repeat"] += 1

    def abandon(self) -> None:
        """A merge that fails before it wrote anything is given up."""
        source, target = self.dice.sample(self.users, 2)
        merge_id = self.service.opening.open_merge(MergeRequest((source,), target, TABLES))
        self.told.append(f"abandon {self._name(source)} into {self._name(target)} {merge_id}")
        try:
            self.service.admission.admit(merge_id)
        except InvalidRequest as refused:
            self._refused(refused)
            return
        self.service.failures.fail(merge_id, "manual__1", "stopped")
        self.service.undoing.abandon(merge_id, "not wanted")
        self.done["abandon"] += 1

    def stall(self) -> None:
        """A merge's writer stands still with one of its writes; the merge is undone; the writer wakes and writes it."""
        store = self.service.store
        write, written = store.write, list[tuple[Any, ...]]()

        def writing(schema: Any, user: str, changes: Iterable[Any], *more: Any) -> None:
            written.append((schema, user, list(changes), *more))
            write(*written[-1])

        before, store.write = len(self.merges), writing  # type: ignore[method-assign]
        try:
            self.merge()
        finally:
            del store.write  # type: ignore[method-assign]
        if len(self.merges) > before and written and self.undo(self.merges[-1]):
            self.told.append("its writer wakes")
            write(*self.dice.choice(written))
            self.done["stall"] += 1

    def standing(self) -> list[uuid.UUID]:
        """The merges that are not undone."""
        return [merge for merge in self.merges if merge not in self.model.undone]

    def undo(self, merge_id: uuid.UUID | None = None) -> bool:
        """Any merge is undone, or stands again; what that may not do yet is refused."""
        if not self.merges:
            return False
        merge_id = merge_id or self.dice.choice(self.merges)
        action = "redo" if merge_id in self.model.undone else "undo"
        words = f"{action} {self.told_of(merge_id)}"
        try:
            shown = self._previewed(merge_id, action)
            self.service.undoing.run(merge_id, action, publish=False)
        except InvalidRequest as refused:
            self.told.append(f"{words}: {refused.code}")
            return self._refused(refused)
        self.told.append(words)
        self.done[action] += 1
        if action == "redo":
            self.model.redo(merge_id, self.asked_of[merge_id][0])
        else:
            # Its settles go with it, and do not stand again with it: what they brought comes by a repair.
            self.model.undone |= {merge_id, *(child for child in self.settles if self.parents[child] == merge_id)}
        reported = self._reported(merge_id)
        assert shown == reported, f"the preview said {shown}, the report says {reported}\n{self.story()}"
        return True

    def _refused(self, refused: InvalidRequest) -> bool:
        assert refused.code in REFUSED, self.story()
        return False

    def told_of(self, merge_id: uuid.UUID) -> str:
        """Which merge, in words."""
        return next((f"[{n}]" for n, words in enumerate(self.told) if str(merge_id) in words), "") + f" {merge_id}"

    def _previewed(self, merge_id: uuid.UUID, action: str) -> Mapping[str, list[Any]]:
        return _changes(self.service.previews.preview_undo(merge_id, action).to_dict()["tables"])

    def _reported(self, merge_id: uuid.UUID) -> Mapping[str, list[Any]]:
        operation = f"{self.service.journal.need(merge_id).operation}/"
        tables = self.service.reader.report(merge_id).to_dict()["tables"]
        return _changes(table for table in tables if table["table"].startswith(operation))

    def repair(self) -> None:
        """What came since is moved, because a person asked for it."""
        if not (standing := self._mendable()):
            return
        merge_id = self.dice.choice(standing)
        child = uuid.UUID(self.service.repairing.repair(merge_id, "operator", "once more")["merge_id"])
        done = self._child(child, merge_id, self.asked_of[merge_id][0].later(), "repair")
        self.done["repair of a repair"] += done and merge_id in self.parents and merge_id not in self.settles

    def settle(self) -> None:
        """The clock has come: merges that stand and have a settle to come are settled."""
        for merge_id in self._mendable():
            if self.service.journal.need(merge_id).settle_at is not None and self.dice.random() >= 0.5:
                self.settled(merge_id)

    def settled(self, merge_id: uuid.UUID) -> None:
        """The clock has come for one merge."""
        asked = self.asked_of[merge_id][0]
        later = Asked(asked.tables, asked.on_conflict, "keep", asked.later().choices)
        child = self.service.settling._open(self.service.journal.need(merge_id))
        assert child is not None
        if self._child(child, merge_id, later, "settle"):
            self.settles.add(child)

    def _mendable(self) -> list[uuid.UUID]:
        """Merges that stand; of those with `skip` only when every enrolment of theirs says that it is one."""
        found = [(m, *self.asked_of[m]) for m in self.standing()]
        return [
            m
            for m, asked, sources in found
            if (asked.on_conflict != "skip" or all(map(self.model.whole, (*sources, self._target(m)))))
            and not self._apart(sources, self.service.journal.survivor(self._target(m)))
        ]

    def _target(self, merge_id: uuid.UUID) -> str:
        return self.service.journal.need(merge_id).survivor or ""

    def expire(self) -> None:
        """A merge was closed long ago: its images go, what it brought stays and counts."""
        if not self.merges:
            return
        merge_id = self.dice.choice(self.merges)
        ago = now() - timedelta(days=4000)
        sql(self.service, "UPDATE merges SET closed_at = :at WHERE merge_id = :id", at=ago, id=merge_id)
        self.service.retention.run()
        self.told.append(f"expire {self.told_of(merge_id)}: {self.service.journal.need(merge_id).expiry}")
        self.done["expire"] += self.service.journal.need(merge_id).expiry == "done"

    def run(self, steps: Iterable[Callable[[], Any]]) -> None:
        """Does the steps in any order, and looks after each."""
        self.begin()
        self.check()
        steps = list(steps)
        self.dice.shuffle(steps)
        for step in steps:
            step()
            self.check()


def _seen(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """What the model speaks of in a row."""
    rule = rule_for(table)
    if table == LIST:
        return {"places": sorted(row["groupid"])}
    place = str(row[rule.scope.columns[0]])
    if table == CC:
        return {"place": place, "name": row["contentid"], "viewcount": row.get("viewcount", 0),
                "done": row.get("status") == 2}  # fmt: skip
    if table == ENR:
        return {
            "place": place, "name": "", "items": sorted(row.get("contentstatus", {})), "progress": row.get("progress", 0),
            "certificates": sorted(c["identifier"] for c in row.get("issued_certificates", ())),
            "active": row.get("active", False),
        }  # fmt: skip
    if table == AGG:
        details = sorted(json.loads(text)["attempt_id"] for text in row.get("agg_details", ()))
        return {"place": place, "name": "", "attempts": details, **row.get("aggregates", {})}
    return {"place": place, "name": row["attempt_id"] if table == ASM else ""}


def _changes(tables: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Table -> (key, before, after) of each row that changes, without the name of the undo."""
    return {
        table["table"].partition("/")[2]: found
        for table in tables
        if (found := [(r["key"], r["before"], r["after"]) for r in table["rows"] if r["before"] != r["after"]])
    }
