"""What accounts have, in sets: each view, lesson, attempt, certificate and membership is a thing of its own.

Nothing can count twice here: an account shows what happened to it, and what the merges that stand have brought it. Totals,
numbers and rows in the tables must be what these sets say.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """How a merge was asked for; the fields are those of the request."""

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

    :param of: source -> what of it the source has handed on.
    :param hides: rows of which what was there before does not show while the merge stands: the source's were chosen.
    """

    merge: uuid.UUID
    of: Mapping[str, frozenset[Thing]]
    hides: frozenset[tuple[str, str, str]] = frozenset()

    @property
    def things(self) -> frozenset[Thing]:
        """All that it brought."""
        return frozenset(thing for things in self.of.values() for thing in things)


@dataclass(frozen=True)
class Skipped:
    """What a merge decided under `skip`, once: a settle or repair of it decides only on places that are new.

    :param stay: places that the target had by itself.
    :param comes: place -> the source that it comes from.
    """

    stay: frozenset[str]
    comes: Mapping[str, str]

    def brings(self, source: str, place: str) -> bool:
        """Whether a source's place comes; one that is new does."""
        return place not in self.stay and self.comes.get(place, source) == source


@dataclass
class Model:
    """Accounts and merges.

    :param past: account -> what happened to it, in order: its own things, and what merges brought.
    :param skipped: merge -> what it decided, of those that were asked for with `skip`.
    :param off: (merge, account) -> courses in which the merge set the account's enrolments inactive.
    :param unsure: (account, course) whose numbers no set tells.
    """

    past: dict[str, list[Thing | Brought]] = field(default_factory=dict)
    undone: set[uuid.UUID] = field(default_factory=set)
    skipped: dict[uuid.UUID, Skipped] = field(default_factory=dict)
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

    def merge(
        self, merge: uuid.UUID, sources: Sequence[str], target: str, asked: Asked, family: Iterable[uuid.UUID] = ()
    ) -> Brought:
        """A merge is done.

        :param family: of a settle or repair, the merge that it comes from and all that came from that before.
        """
        if asked.on_conflict == "skip":
            self.skipped[merge] = self._decide(sources, target, [one for one in family if one not in self.undone])
        skipped, of = self.skipped.get(merge), {}
        for source in sources:
            # What it has brought here before is the target's to change: only what is new comes, but where it was chosen.
            handed = self._handed(source, [target])
            of[source] = frozenset(
                thing
                for thing in self.things(source)
                if asked.choice(thing.table) != "target"
                and (not skipped or skipped.brings(source, thing.place))
                and (thing not in handed or asked.choice(thing.table) == "source")
            )
            self._tainted(source, target, asked)
        hides = frozenset(t.row for things in of.values() for t in things if asked.choice(t.table) == "source")
        brought = Brought(merge, of, hides)
        self.past[target].append(brought)
        self.turn_off(merge, sources, asked)
        return brought

    def elsewhere(self, source: str, target: str) -> set[Thing]:
        """What the source has handed on to another account and the target lacks: it comes with what that account has."""
        return self._handed(source, [account for account in self.past if account != target]) - self.things(target)

    def _handed(self, source: str, accounts: Iterable[str]) -> set[Thing]:
        """What merges that stand have brought these accounts from a source."""
        events = (event for account in accounts for event in self.past[account])
        stand = (e for e in events if isinstance(e, Brought) and e.merge not in self.undone)
        return {thing for event in stand for thing in event.of.get(source, ())}

    def _decide(self, sources: Sequence[str], target: str, family: Iterable[uuid.UUID]) -> Skipped:
        """The family's decisions stand; a place that it brought the target is not the target's own."""
        before = [self.skipped[one] for one in family]
        stayed = frozenset(place for one in before for place in one.stay)
        comes = {place: source for one in before for place, source in one.comes.items()}
        stay = stayed | (self._places(target) - (comes.keys() - stayed))
        for source in sources:
            for place in self._places(source) - stay:
                comes.setdefault(place, source)
        return Skipped(stay, {place: source for place, source in comes.items() if place not in stay})

    def _places(self, account: str) -> frozenset[str]:
        return frozenset(thing.place for thing in self.things(account) if thing.kind in DECIDES)

    def redo(self, merge: uuid.UUID, asked: Asked) -> None:
        """A merge stands again."""
        self.undone.discard(merge)
        for past in self.past.values():
            for event in past:
                if isinstance(event, Brought) and event.merge == merge:
                    self.turn_off(merge, event.of, asked)

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
