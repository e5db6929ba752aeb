"""The balance of a preview against a count over the tables before and after the merge, for random accounts and options.

Each history is done twice: by accounts that are merged as asked, and by twins of theirs that are merged with everything
combined. "Nothing is lost" has to be said exactly when nobody could tell their targets apart by what is in them, and no
number is less than what the accounts had together.
"""

from __future__ import annotations

import os
import random
import uuid
from collections import defaultdict

import pytest

from account_merge.choices import Choices, row_name
from account_merge.cli.main import run_merge
from account_merge.model import MergeRequest
from account_merge.rules import TABLES
from tests.conftest import FULL
from tests.learners import BATCH, aggregate, enrolment, lesson, moment, put, rows

ENR, CC, AGG, ASM = "user_enrolments", "user_content_consumption", "user_activity_agg", "assessment_aggregator"
MEMBER, GROUPS, PROGRAM = "group_member", "user_group", "program_enrollment"
COMPARED = (ENR, CC, AGG, ASM, MEMBER, GROUPS, PROGRAM)


@pytest.fixture(scope="module")
def world(own_world):
    from account_merge.service import Service

    service = own_world()
    with Service(service.settings.replace(scan_tables=(MEMBER, PROGRAM, AGG))) as scanning:
        yield scanning


SEEDS = int(os.environ.get("BALANCE_SEEDS", "8" if FULL else "4"))


# --- random learners --------------------------------------------------------------------------------------------------
def grown(random, held):
    """Rows of one account, by table and key: new ones, and more of those that it held before."""
    found = {table: dict(known) for table, known in held.items()}

    def row(table, key, **columns):
        found.setdefault(table, {})[key] = columns

    for course in random.sample(("c1", "c2"), random.randint(0, 2)):
        for number in random.sample((1, 2, 3), random.randint(0, 3)):
            before = found.get(CC, {}).get((course, f"L{number}"), {})
            row(
                CC,
                (course, f"L{number}"),
                status=max(random.choice((1, 2)), before.get("status", 0)),
                viewcount=before.get("viewcount", 0) + random.choice((0, 1, 4)),
                progress=random.choice((0, 40, 100)),
            )
        if random.random() < 0.6:
            certificates = [
                {"token": f"t{n}", "name": f"n{n}"} | ({"identifier": f"i{n}"} if random.random() < 0.5 else {})
                for n in random.sample((1, 2, 3), random.randint(0, 2))
            ]
            row(
                ENR,
                (course,),
                active=random.random() < 0.8,
                progress=random.randint(0, 3),
                status=random.choice((1, 2)),
                issued_certificates=certificates,
                datetime=moment(f"2026-03-0{random.randint(1, 9)}T10:00:00Z"),
            )
        if random.random() < 0.6:
            scores = {f"score:q{n}": float(random.randint(1, 9)) for n in random.sample((1, 2), random.randint(0, 2))}
            row(AGG, (course,), aggregates={"completedCount": float(random.randint(0, 2)), **scores})
        led = (course,) in found.get(ENR, {}) or any(key[0] == course for key in found.get(CC, {}))
        for attempt in random.sample(("a1", "a2"), random.randint(0, 2)) if led else ():
            row(
                ASM,
                (course, attempt),
                total_score=float(random.randint(0, 5)),
                last_attempted_on=moment(f"2026-03-0{random.randint(1, 9)}T10:00:00Z"),
            )
    for group in random.sample(("g1", "g2"), random.randint(0, 2)):
        row(MEMBER, (group,), status=random.choice(("active", "inactive")), role=random.choice(("admin", "member")))
    groups = {group for (group,) in found.get(MEMBER, {})}
    if groups:
        row(GROUPS, (), groupid=groups)
    if random.random() < 0.4:
        row(PROGRAM, ("p1",), program_name="p")
    return found  # fmt: skip


def study(session, keyspace, user, held):
    for table, known in held.items():
        for key, columns in known.items():
            if table == ENR:
                put(session, keyspace, table, enrolment(user, **columns) | {"courseid": key[0]})
            elif table == CC:
                put(session, keyspace, table, lesson(user, key[1], **columns) | {"courseid": key[0]})
            elif table == AGG:
                put(session, keyspace, table, aggregate(user, **columns) | {"activity_id": key[0]})
            elif table == ASM:
                put(session, keyspace, table, {"course_id": key[0], "batch_id": BATCH, "user_id": user, "content_id": "q",
                                               "attempt_id": key[1], **columns})  # fmt: skip
            elif table == PROGRAM:
                put(session, keyspace, table, {"program_id": key[0], "user_id": user, **columns})
            else:
                put(session, keyspace, table, {"userid": user, **({"groupid": key[0]} if key else {}), **columns})


# --- the count --------------------------------------------------------------------------------------------------------
def course(row, names=("courseid", "batchid")):
    first, second = (row[name] for name in names)
    return "course", (first, second.removeprefix("cb:"))


def parts_of(table, row):
    """(place, words, part, number) of each thing that a row counts for."""
    if table == ENR:
        yield course(row), "enrolments", "row", 1
        for certificate in row.get("issued_certificates", ()):
            yield course(row), "certificates", certificate["token"], 1
    elif table == CC:
        yield course(row), "lessons done", row["contentid"], int(row.get("status") == 2)
        yield course(row), "views", row["contentid"], row.get("viewcount", 0)
    elif table == AGG:
        for name, number in row.get("aggregates", {}).items():
            place = course(row, ("activity_id", "context_id"))
            yield place, "points, best of each test", name, number * name.startswith("score:")
    elif table == ASM:
        yield course(row, ("course_id", "batch_id")), "test attempts", row["attempt_id"], 1
    elif table == MEMBER:
        yield ("group", (row["groupid"],)), "active memberships", "row", int(row["status"] == "active")
    elif table == PROGRAM:
        yield ("program", (row["program_id"],)), "program enrolments", "row", 1


def counted(session, keyspace, user):
    """(place, words) -> part -> number, from the rows themselves."""
    found = defaultdict(dict)
    for table in COMPARED:
        for row in rows(session, keyspace, table, user):
            for place, words, part, number in parts_of(table, row):
                if number:
                    found[place, words][part] = number
    return dict(found)


def together(at, sides, given):
    """What accounts have together: views add up but for what was handed on before, of all else the best stands."""
    found = {}
    for account, parts in sides:
        for part, number in parts.items():
            if at[1] == "views":
                number -= min(number, given.get((account, at[0][1][0], part), 0))
                found[part] = found.get(part, 0) + number
            else:
                found[part] = max(found.get(part, 0), number)
    return found


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_balance_is_the_count_over_the_tables(world, session, seed):
    History(world, session, seed).run()


class History:
    """Accounts of one seed, merged twice with other options and more activity between; and their twins."""

    def __init__(self, service, session, seed):
        self.service, self.session, self.random = service, session, random.Random(seed)
        self.keyspace, self.seed = service.settings.courses_keyspace, seed
        base, number = uuid.uuid4().hex[:8], self.random.choice((1, 1, 2, 3))
        self.target, self.sources = f"{base}-x9", tuple(f"{base}-x{n}" for n in range(number))
        self.held = {name: {} for name in (*self.sources, self.target)}
        self.given, self.after = {}, {}

    def twin(self, name):
        return name.replace("-x", "-y")

    def run(self):
        for turn in range(2):
            for name in self.held:
                if turn and self.random.random() < 0.5:
                    continue
                self.held[name] = grown(self.random, self.held[name])
                if name == self.target and turn:
                    continue  # what the target has now came by the merge: only the sources go on
                for user in (name, self.twin(name)):
                    study(self.session, self.keyspace, user, self.held[name])
            self.merge(turn)

    def request(self):
        choose, chance = self.random.choice, self.random.random
        tables = () if chance() < 0.6 else tuple(self.random.sample(TABLES, self.random.randint(1, len(TABLES))))
        by_table = {t: choose(("source", "target")) for t in (ENR, CC, AGG, MEMBER) if chance() < 0.15}
        by_row = {row_name(CC, (c, BATCH, f"L{n}")): choose(("combine", "source", "target"))
                  for c in ("c1", "c2") for n in (1, 2, 3) if chance() < 0.1}  # fmt: skip
        plain = chance() < 0.25
        return MergeRequest(
            self.sources, self.target, () if plain else tables, "combine" if plain else choose(("combine", "skip")),
            choices=Choices() if plain else Choices(by_table, by_row),
        )  # fmt: skip

    def merge(self, turn):
        request = self.request()
        where = (self.seed, turn, request)
        before = {name: counted(self.session, self.keyspace, name) for name in self.held}
        balance = self.service.previews.balance(request)
        twins = MergeRequest(tuple(map(self.twin, self.sources)), self.twin(self.target))
        same = self.everything(self.target) == self.everything(self.twin(self.target))
        for asked in (request, twins):
            merge_id = self.service.opening.open_merge(asked)
            answer = run_merge(self.service, merge_id, publish=False)
            assert answer["state"] == "completed", (answer["error"], where)
            if asked is request:
                report = self.service.reader.report(merge_id).to_dict()["tables"]
        after = counted(self.session, self.keyspace, self.target)
        short = self.check(balance, before, after, where)
        assert short == bool(balance.lost), where
        ambiguous = any(row["notes"] for table in report for row in table["rows"])
        if same and not ambiguous:
            alike = self.everything(self.target) == self.everything(self.twin(self.target))
            assert balance.nothing_lost == (alike and not short), (where, balance.behind, balance.not_looked_for)
            assert bool(balance.behind) != alike, (where, balance.behind)
        else:
            assert not (balance.nothing_lost and short), where
        self.handed_on(report)

    def check(self, balance, before, after, where):
        """Each line against the count; whether the count says that something is lost."""
        lines = {(place, words): line for place, found in balance.scopes.items() for words, line in found.items()}
        places = {at for found in (*before.values(), after) for at in found}
        assert set(lines) == places, where
        lost = False
        for at, line in lines.items():
            sides = [(name, found.get(at, {})) for name, found in before.items()]
            numbers = {name: sum(parts.values()) for name, parts in sides if name != self.target and parts}
            assert {name: n for name, n in line.sources.items() if n} == numbers, (where, at)
            assert line.target == sum(before[self.target].get(at, {}).values()), (where, at)
            assert line.result == sum(after.get(at, {}).values()), (where, at)
            should = together(at, sides, self.given)
            assert line.should == sum(should.values()), (where, at)
            lacks = sum(max(0, number - after.get(at, {}).get(part, 0)) for part, number in should.items())
            assert (line.short, line.kept) == (lacks, not lacks), (where, at)
            assert sum(line.why.values()) == lacks, (where, at)
            lost = lost or bool(lacks)
        return lost

    def handed_on(self, report):
        """What the merge's own report says that it took: it does not count again."""
        for table in report:
            for row in table["rows"] if table["table"] == CC else ():
                for account, values in row["sources"].items() if row["choice"] != "target" else ():
                    at = (account, row["key"]["courseid"], row["key"]["contentid"])
                    self.given[at] = max(self.given.get(at, 0), values.get("viewcount", 0))

    def everything(self, user):
        return {table: rows(self.session, self.keyspace, table, user) for table in COMPARED}


# --- what is not looked for -------------------------------------------------------------------------------------------
def test_what_cannot_be_found_is_named_and_nothing_is_claimed(own_world, session):
    service = own_world()
    source, target = (uuid.uuid4().hex for _ in range(2))
    put(session, service.settings.courses_keyspace, CC, lesson(source, viewcount=1))
    balance = service.previews.balance(MergeRequest((source,), target))
    assert not balance.lost
    assert not balance.behind
    assert not balance.nothing_lost
    assert "program enrolments" in balance.not_looked_for[PROGRAM]
