"""Interrupts work around its requests, in lanes side by side, and names what came out otherwise than without.

A lane is a set of keyspaces and topics with a worker process of its own. What an uninterrupted run comes to is made once,
in the first lane.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.crash import outcome, scenes
from tests.crash.leaving import READS
from tests.crash.outcome import Outcome
from tests.lanes import Lane, own_lanes
from tests.outgoing.postgres import of_journal

WORKER = Path(__file__).with_name("worker.py")
#: (work, action, meanwhile) -> how many interruptions were tried: for the summary.
TRIED: Counter[tuple[str, str, str]] = Counter()
#: What somebody else did with the work; nothing of it is left then.
AWAY = ("taken back", "gone round", "given up")
#: What taking back leaves of the work's own merge.
TAKEN_BACK = {"merge": "undone", "undo": "completed", "repair": "undone", "settle": "undone"}


@dataclass(frozen=True)
class Job:
    """One interruption: of the work, around its request `at`, which is of that kind."""

    work: str
    action: str
    at: int
    when: str
    kind: str = ""
    meanwhile: str = "nothing"

    @property
    def label(self) -> str:
        """Names its accounts; no label is the beginning of another."""
        return f"{self.work}{self.action}{self.meanwhile}{self.at:04}{self.when}"

    def told(self, faults: Sequence[str]) -> str:
        """For people: what was done, and what came of it."""
        if self.action == "twice":
            return f"{self.work}, two at once: " + "; ".join(faults)
        what = f"{self.work}: {self.action} {self.when} request {self.at} ({self.kind})"
        return (
            what + ("" if self.meanwhile == "nothing" else f", meanwhile {self.meanwhile}") + ": " + "; ".join(faults)
        )


class Matrix:
    """The lanes, and what each kind of work comes to when nothing interrupts it."""

    def __init__(self, given: Sequence[Lane]) -> None:
        self._lanes = given
        first, labels = self._lanes[0], [f"{work}{how}" for work in scenes.WORKS for how in ("whole", "still")]
        self._prepared(first, [(work, f"{work}{how}") for work in scenes.WORKS for how in ("whole", "still")])
        counted = first.work("count", [(work, f"{work}whole") for work in scenes.WORKS])
        self.kinds = {work: answer["kinds"] for work, answer in zip(scenes.WORKS, counted, strict=True)}
        found = outcome.outcomes(first.service, labels)
        self.whole = {work: found[f"{work}whole"] for work in scenes.WORKS}
        self.still = {work: found[f"{work}still"] for work in scenes.WORKS}

    def _each(self, do: Any, *shares: Sequence[Any]) -> Iterator[Any]:
        with ThreadPoolExecutor(len(self._lanes)) as pool:
            yield from pool.map(do, self._lanes, *shares)

    @staticmethod
    def _prepared(lane: Lane, labels: Sequence[tuple[str, str]]) -> None:
        for answer in lane.work("prepare", labels):
            assert "error" not in answer, answer

    def kinds_of(self, work: str, mutation: str = "") -> list[str]:
        """The kinds of all requests of the work, in order; a mutation may make others."""
        if not mutation:
            return self.kinds[work]
        label = f"{work}count{mutation.replace('_', '')}"
        self._prepared(self._lanes[0], [(work, label)])
        return list(self._lanes[0].work("count", [(work, label)], mutation)[0]["kinds"])

    def run(self, jobs: Sequence[Job], mutation: str = "", again: str = "") -> list[str]:
        """Does the jobs; answers what came of those that ended otherwise than without an interruption.

        :param again: sets the accounts apart from those of another run with the same jobs.
        """
        shares = [jobs[number :: len(self._lanes)] for number in range(len(self._lanes))]
        for job in () if mutation else jobs:
            TRIED[job.work, job.action, job.meanwhile] += 1
        found = self._each(lambda lane, mine: self._share(lane, mine, mutation, again or mutation), shares)
        return [words for share in found for words in share]

    def _share(self, lane: Lane, jobs: Sequence[Job], mutation: str, run: str) -> list[str]:
        labels = {job: job.label + run.replace("_", "") for job in jobs}
        lane.room_for(len(labels))
        self._prepared(lane, [(job.work, labels[job]) for job in jobs])
        given = [(job.work, labels[job], job.action, job.at, job.when, job.meanwhile) for job in jobs]
        answers = dict(zip(jobs, lane.work("interrupt", given, mutation), strict=True))
        between = outcome.outcomes(lane.service, labels.values())
        again = [job for job in jobs if job.meanwhile in ("nothing", "second", "pause")]
        resumed = {answer["label"]: answer for answer in lane.work(
            "resume", [(job.work, labels[job]) for job in again], mutation)}  # fmt: skip
        ends = outcome.outcomes(lane.service, labels.values())
        told = []
        for job, label in labels.items():
            faults = self._between(job, between[label], answers[job])
            faults += [f"the next run failed: {resumed[label]['error']}"] if resumed.get(label, {}).get("error") else []
            did = answers[job].get("meanwhile", {}).get("answer", {}).get("did")
            if did == "gone round" and not answers[job]["blocked"] and "error" not in answers[job]:
                # Nothing of the undo was there yet: it came after the other and the redo, and did all of its work.
                undone = end_state(ends[label]) == "undone"
                faults += [] if undone else [f"the merge is {end_state(ends[label])}"]
                faults += ends[label].differences(self.whole[job.work], ("rows",))
            elif did in AWAY:
                faults += self._taken_back(job, ends[label], outcome.rows_of(lane.service, label), answers[job])
            elif did != "completed":
                end = _told_no_failure(ends[label]) if job.action == "cut" else ends[label]
                faults += end.differences(self.whole[job.work], _parts(job, answers[job]))
            told += [job.told(faults)] if faults else []
        print("\n".join(told), flush=True)  # at once: the whole takes long
        return told

    def _between(self, job: Job, found: Outcome, answer: dict[str, Any]) -> list[str]:
        """What must hold whenever a process stands still or is gone, before anybody resumes."""
        faults = [*found.faults, *(one["fault"] for one in (answer, answer.get("other", {})) if "fault" in one)]
        if job.action == "kill" and answer["signal"] != 9:
            faults.append(f"it did not die: {answer}")
        other = answer.get("meanwhile", {})
        if "fault" in other or "error" in other:
            faults.append(f"what went on meanwhile failed: {other}")
        elif job.meanwhile == "other" and other["answer"]["did"] not in ("waiting", "nothing"):
            faults.append(f"another merge of the same target became {other['answer']['did']}")
        elif job.meanwhile == "onward" and other["answer"]["did"] == "completed":
            faults += _undone_though(found, answer)
        elif job.meanwhile == "pause" and answer["afterwards"]["answer"]["entries"] > other["answer"]["entries"]:
            faults.append("an entry was appended while merging was stopped")
        published = found.events and other.get("answer", {}).get("did") not in (*AWAY, "completed")
        if published and found.rows != self.whole[job.work].rows:
            faults.append("sync events went out before the rows were right")
        return faults

    def _taken_back(self, job: Job, end: Outcome, rows: list[Any], answer: dict[str, Any]) -> list[str]:
        """The rows are what they were, and the process that woke has changed nothing any more."""
        did, before = answer["meanwhile"]["answer"]["did"], answer["meanwhile"]["answer"]["rows"]
        faults = end.differences(self.still[job.work], ("rows",))
        if did != "given up" and not answer["blocked"] and rows != before:
            faults.append("the process changed rows after it woke")
        state = end_state(end, f"{job.work}-1" if job.work in ("repair", "settle") else "merge")
        if state != ("abandoned" if did == "given up" else TAKEN_BACK[job.work]):
            faults.append(f"the merge is {state}")
        return faults


@contextmanager
def lanes(stack: Any, session: Any) -> Iterator[Matrix]:
    """A matrix on keyspaces and topics of its own, dropped at the end."""
    with own_lanes(stack, session, WORKER, scenes.SETTINGS, scenes.empty) as found:
        yield Matrix(found)


def _parts(job: Job, answer: dict[str, Any]) -> tuple[str, ...]:
    """In which parts the end must be as without the interruption.

    Of two at once either may fail for the other's sake, and a pause lets the merge stop: the journal says so.
    """
    apart = job.action == "twice" or job.meanwhile == "pause" or answer.get("blocked")
    return ("rows", "events") if apart else outcome.PARTS


def _told_no_failure(end: Outcome) -> Outcome:
    """The end as if the run whose connection was cut had not failed: its merge may owe one failed event for that."""
    once = {(1, "none"), (1, "due"), (2, "none")}
    merges = {
        name: row | ({"failed_number": 1, "failed_event": "none"} if _failed(row) in once else {})
        for name, row in end.journal["merges"].items()
    }
    return replace(end, journal={**end.journal, "merges": merges})


def end_state(end: Outcome, merge: str = "merge") -> str:
    """The state that a merge has at an end."""
    return str(end.journal["merges"][merge]["state"])


def _failed(row: dict[str, Any]) -> tuple[int, str]:
    return row["failed_number"], row["failed_event"]


def _undone_though(found: Outcome, answer: dict[str, Any]) -> Iterator[str]:
    """A later merge has carried on what this one brought: its undo is refused, and changes nothing."""
    state = found.journal["merges"]["merge"]["state"]
    if state != "completed" or answer.get("error") != "UNDO_FIRST":
        yield f"a later merge builds on it, and it is {state} ({answer.get('error')})"


def cuts(work: str, kinds: Sequence[str]) -> list[Job]:
    """The answer to each request to PostgreSQL is lost."""
    return [Job(work, "cut", n, "after", kind) for n, kind in enumerate(kinds, 1) if of_journal(kind)]


def kills(work: str, kinds: Sequence[str]) -> list[Job]:
    """Before and after each request of the work."""
    return [Job(work, "kill", n, when, kind) for n, kind in enumerate(kinds, 1) for when in ("before", "after")]


def stops(work: str, kinds: Sequence[str], meanwhile: str) -> list[Job]:
    """Before each request, and after those that leave something behind."""
    whens = {kind: ("before",) if _reads(kind) else ("before", "after") for kind in kinds}
    return [Job(work, "stop", n, when, kind, meanwhile) for n, kind in enumerate(kinds, 1) for when in whens[kind]]


def some(jobs: Sequence[Job], dice: random.Random, sample: int) -> list[Job]:
    """Choose, for each kind of request and moment, one of these jobs, and a sample of the others.

    After a request that only reads, nothing is left behind: such a moment is for the sample alone.
    """
    alike: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        if job.when == "before" or not _reads(job.kind):
            alike.setdefault((job.kind, job.when), []).append(job)
    chosen = [dice.choice(found) for _, found in sorted(alike.items())]
    others = sorted(set(jobs) - set(chosen), key=str)
    return chosen + dice.sample(others, min(sample, len(others)))


def _reads(kind: str) -> bool:
    return kind.startswith(READS)
