"""What accounts have, in sets: each view, lesson, attempt, certificate and membership is a thing of its own.

Nothing can count twice here: an account shows what happened to it, and what the merges that stand have brought it. Totals,
numbers and rows in the tables must be what these sets say.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

CC, ENR, AGG, ASM = "user_content_consumption", "user_enrolments", "user_activity_agg", "assessment_aggregator"
LIST, MEMBER, PROGRAM = "user_group", "group_member", "program_enrollment"
#: kind of thing -> the table that shows it
TABLE_OF = {
    "view": CC, "done": CC, "enrolled": ENR, "item": ENR, "certificate": ENR, "aggregate": AGG, "detail": AGG,
    "attempt": ASM, "member": MEMBER, "listed": LIST, "program": PROGRAM,
}  # fmt: skip
#: Who has one of these is there: under `skip` everything of that place stays as the target has it.
DECIDES = ("enrolled", "member", "program")
#: Tables whose numbers follow from each other: a merge that treats them unlike leaves numbers that no set tells.
TOGETHER = (CC, ASM, AGG)


@dataclass(frozen=True, order=True)
class Thing:
    """One thing that an account has.

    :param place: the course, group or program.
    :param name: the lesson, attempt or certificate.
    :param number: tells views of one lesson apart; of an attempt its score.
    """

    kind: str
    place: str
    name: str = ""
    number: int = 0

    @property
    def table(self) -> str:
        """The table that shows it."""
        return TABLE_OF[self.kind]

    @property
    def row(self) -> tuple[str, str, str]:
        """The row that shows it."""
        return self.table, self.place, self.name if self.table in (CC, ASM) else ""


@dataclass(frozen=True)
class Asked:
    """How a merge was asked for; the fields are those of the request.

    :param kept: under `skip`, of a settle or repair: what its parent kept out; it is looked at once.
    """

    tables: tuple[str, ...]
    on_conflict: str = "combine"
    source_rows: str = "keep"
    choices: Mapping[str, str] = field(default_factory=dict)

    def choice(self, table: str) -> str:
        """Whose rows of a table stand."""
        return self.choices.get(table, "combine") if table in self.tables else "target"

    @property
    def evenly(self) -> bool:
        """Whether the tables whose numbers follow from each other are treated alike."""
        return len({self.choice(table) for table in TOGETHER}) == 1

    def later(self) -> Asked:
        """What a settle or repair of it asks for."""
        return Asked(
            self.tables, self.on_conflict, self.source_rows,
            {table: "combine" if choice == "source" else choice for table, choice in self.choices.items()},
        )  # fmt: skip


@dataclass(frozen=True)
class Brought:
    """What a merge brought an account.

    :param hides: rows of which what was there before does not show while the merge stands: the source's were chosen.
    """

    merge: uuid.UUID
    things: frozenset[Thing]
    hides: frozenset[tuple[str, str, str]] = frozenset()


@dataclass
class Model:
    """Accounts and merges.

    :param past: account -> what happened to it, in order: its own things, and what merges brought.
    :param off: (merge, account) -> courses in which the merge set the account's enrolments inactive.
    :param unsure: (account, course) whose numbers no set tells.
    """

    past: dict[str, list[Thing | Brought]] = field(default_factory=dict)
    undone: set[uuid.UUID] = field(default_factory=set)
    off: dict[tuple[uuid.UUID, str], frozenset[str]] = field(default_factory=dict)
    unsure: set[tuple[str, str]] = field(default_factory=set)

    # --- what an account shows ------------------------------------------------------------------------------------
    def things(self, account: str) -> set[Thing]:
        """All that an account shows."""
        found: set[Thing] = set()
        for event in self.past[account]:
            if isinstance(event, Thing):
                found.add(event)
            elif event.merge not in self.undone:
                found = {thing for thing in found if thing.row not in event.hides} | event.things
        return found

    def some(self, account: str, kind: str, place: str = "") -> list[Thing]:
        """Its things of one kind, in one place or all."""
        return sorted(t for t in self.things(account) if t.kind == kind and place in ("", t.place))

    def active(self, account: str, course: str) -> bool:
        """Whether its enrolment is active: no merge that stands has set it inactive."""
        return not any(
            course in courses for (merge, of), courses in self.off.items() if of == account and merge not in self.undone
        )

    def whole(self, account: str) -> bool:
        """Whether each of its enrolments says that it is one; what an undo leaves of one may be lessons alone."""
        things = self.things(account)
        places = {t.place for t in things if t.table == ENR}
        return places == {t.place for t in things if t.kind == "enrolled"} and all(
            self.active(account, place) for place in places
        )

    # --- what happens ---------------------------------------------------------------------------------------------
    def happen(self, account: str, *things: Thing) -> None:
        """The account gets these; what it shows already stays what brought it.

        An aggregate row that the platform writes anew is the account's own from then on.
        """
        shown = self.things(account)
        self.past[account] += [thing for thing in things if thing not in shown or thing.kind == "aggregate"]

    def merge(self, merge: uuid.UUID, sources: Iterable[str], target: str, asked: Asked) -> Brought:
        """A merge is done."""
        had = {t.place for t in self.things(target) if t.kind in DECIDES} if asked.on_conflict == "skip" else set()
        first: dict[str, str] = {}
        things: set[Thing] = set()
        for source in sources:
            shown = self.things(source)
            for place in sorted({t.place for t in shown if t.kind in DECIDES}) if asked.on_conflict == "skip" else ():
                first.setdefault(place, source)
            things |= {
                thing
                for thing in shown
                if asked.choice(thing.table) != "target"
                and thing.place not in had
                and first.get(thing.place, source) == source
            }
            self._tainted(source, target, asked)
        hides = frozenset(thing.row for thing in things if asked.choice(thing.table) == "source")
        brought = Brought(merge, frozenset(things), hides)
        self.past[target].append(brought)
        self.turn_off(merge, sources, asked)
        return brought

    def turn_off(self, merge: uuid.UUID, sources: Iterable[str], asked: Asked) -> None:
        """Sets the sources' enrolments inactive, where the merge does so."""
        if asked.source_rows == "deactivate" and ENR in asked.tables:
            for source in sources:
                self.off.pop((merge, source), None)
                courses = {t.place for t in self.things(source) if t.table == ENR}
                self.off[merge, source] = frozenset(c for c in courses if self.active(source, c))

    def _tainted(self, source: str, target: str, asked: Asked) -> None:
        courses = {t.place for account in (source, target) for t in self.things(account) if t.table in TOGETHER}
        self.unsure |= {
            (target, course) for course in courses if not asked.evenly or (source, course) in self.unsure
        }  # fmt: skip

    # --- what the tables must show --------------------------------------------------------------------------------
    def rows(self, account: str) -> Iterator[tuple[str, dict[str, object]]]:
        """(table, what must be seen of each row)."""
        things = self.things(account)
        for table, place, name in sorted({thing.row for thing in things}):
            mine = sorted(t for t in things if t.row == (table, place, name))
            yield table, {"place": place, "name": name, **self._row(account, table, place, mine)}

    def _row(self, account: str, table: str, place: str, mine: list[Thing]) -> dict[str, object]:
        names = {kind: sorted(t.name for t in mine if t.kind == kind) for kind in TABLE_OF}
        if table == CC:
            return {"viewcount": len(names["view"]), "done": bool(names["done"])}
        if table == ENR:
            enrolled = bool(names["enrolled"])
            return {
                "items": names["item"], "certificates": names["certificate"], "progress": len(names["item"]),
                "active": self.active(account, place) if enrolled else "?",
            }  # fmt: skip
        if table == AGG:
            return {"attempts": names["detail"], **self.numbers(account, place)}
        return {}

    def numbers(self, account: str, course: str) -> dict[str, float]:
        """The numbers of an account's aggregate row."""
        details = self.some(account, "detail", course)
        found = {"completedCount": float(len(self.some(account, "done", course)))}
        if details:
            found |= {"score:q": float(max(d.number for d in details)), "attempts_count:q": float(len(details))}
        return found
