"""Rescue: merges of the time before this program, named line by line, previewed, then opened for the poll.

Each line has an answer of its own and stops no other. The merge of a line that was given before, or of an event that came
by the topic, is left alone: a file may be given again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any, TypedDict

from account_merge.errors import InvalidRequest, NeedsAttention
from account_merge.intake.rescue_lines import FORMATS, Item, ParsedLine, RejectedLine, decided, read
from account_merge.journal import Journal
from account_merge.lifecycle.answers import as_note
from account_merge.model import Merge, MergeRequest
from account_merge.planning.seeding import WORDS
from account_merge.rules import TABLES
from account_merge.settings import Settings
from account_merge.states import State

SEEDED = ("by_date", "yes", "no")
#: Merges of one run, at most: their ids are held in memory.
MOST = 100_000
#: Codes that are not a fault of the line.
DONE = ("WOULD_OPEN", "OPENED", "ALREADY_KNOWN", "TWICE", "PASSED_OVER")
#: A merge in one of these states does not stand for a later line with the same accounts.
_GIVEN_UP = (State.REFUSED, State.REJECTED, State.EXPIRED, State.UNDONE, State.ABANDONED, State.ERASED)
#: What helps with a merge that is known already.
_NEXT = {
    State.COMPLETED: "Repair that merge to move what came since.", State.REFUSED: "Replay that merge.",
    State.FAILED: "Replay that merge.", State.NEEDS_ATTENTION: "Replay that merge.", State.UNDONE: "Redo that merge.",
}  # fmt: skip


class RescuedLine(TypedDict):
    """The answer of one line."""

    line: int
    code: str
    merge_id: str | None
    seeded: bool | None
    note: str
    remedy: str
    counts: dict[str, dict[str, int]]


class RescueAnswer(TypedDict):
    """The numbers of a rescue: lines by code, `bad` ones, rows by what would happen to them."""

    dry_run: bool
    codes: dict[str, int]
    bad: int
    rows: dict[str, int]


Preview = Callable[[MergeRequest, str], Mapping[str, Any]]
Told = Callable[[RescuedLine], None]
SILENT: Told = lambda item: None  # noqa: E731


@dataclass(frozen=True)
class RescueOptions:
    """Options of a rescue.

    :param dry_run: preview; nothing is written.
    :param seeded: of `SEEDED`: whether the retired job did these merges.
    :param by: the person who asks; the journal keeps it with the reason.
    :param previews: merges that are previewed table by table, at most; for the others only the line is checked.
    """

    dry_run: bool = True
    seeded: str = "by_date"
    by: str = ""
    reason: str = ""
    previews: int = 1000

    def __post_init__(self) -> None:
        if self.seeded not in SEEDED:
            raise InvalidRequest("BAD_OPTION", f"seeded is {self.seeded[:60]!r}", f"Choose from {', '.join(SEEDED)}.")


class Rescue:
    """Opens the merges that lines name.

    :param preview: counts of what a merge would do in one table.
    """

    def __init__(self, journal: Journal, preview: Preview, settings: Settings) -> None:
        self._journal, self._preview, self._settings = journal, preview, settings

    def run(
        self, stream: IO[bytes], form: str = "auto", told: Told = SILENT, options: RescueOptions | None = None
    ) -> RescueAnswer:
        """Preview or open the merges that lines name; `told` gets the answer of each line. See `_Run.run`."""
        one = _Run(self._journal, self._preview, self._settings, options or RescueOptions())
        return one.run(stream, form, told)


class _Run:
    """One run over a stream of lines."""

    def __init__(self, journal: Journal, preview: Preview, settings: Settings, options: RescueOptions) -> None:
        self._journal, self._preview, self._settings = journal, preview, settings
        self._dry_run, self._seeded = options.dry_run, options.seeded
        self._by, self._reason, self._previews = options.by, options.reason.strip(), options.previews
        self._seen: set[bytes] = set()

    def run(self, stream: IO[bytes], form: str = "auto", told: Told = SILENT) -> RescueAnswer:
        """Read all lines and return the numbers; `told` gets the answer of each line.

        :raises InvalidRequest: there is no such format.
        :raises TransientError: a server was away; giving the same lines again goes on.
        """
        if form not in FORMATS:
            raise InvalidRequest("BAD_OPTION", f"the format is {form[:60]!r}", f"Choose from {', '.join(FORMATS)}.")
        codes: dict[str, int] = {}
        rows: dict[str, int] = {}
        for item in read(stream, self._settings, form):
            answer = self._answer(item)
            if answer is None:
                codes["PASSED_OVER"] = codes.get("PASSED_OVER", 0) + 1
                continue
            codes[answer["code"]] = codes.get(answer["code"], 0) + 1
            for counts in answer["counts"].values():
                for kind, number in counts.items():
                    rows[kind] = rows.get(kind, 0) + number
            told(answer)
            if answer["code"] == "TOO_MANY":
                break
        bad = sum(number for code, number in codes.items() if code not in DONE)
        return {"dry_run": self._dry_run, "codes": codes, "bad": bad, "rows": rows}

    def _answer(self, item: Item) -> RescuedLine | None:
        if item is None:
            return None
        try:
            if isinstance(item, RejectedLine):
                raise item.error
            return self._merge(decided(item, self._seeded, self._settings))
        except (InvalidRequest, NeedsAttention) as error:
            if isinstance(error, NeedsAttention) and error.code != "CIRCLE":
                raise  # not this line's fault
            merge_id = item.merge_id if isinstance(item, ParsedLine) else None
            return _told(item.line, error.code, merge_id, note=error.message, remedy=error.remedy)

    def _merge(self, found: ParsedLine) -> RescuedLine:
        request, merge_id = found.request, found.merge_id
        if merge_id.bytes in self._seen:
            return _told(found.line, "TWICE", merge_id, note="an earlier line names the same merge")
        if len(self._seen) >= MOST:
            raise InvalidRequest("TOO_MANY", f"{MOST} merges were read", "Give this line and the rest by themselves.")
        self._seen.add(merge_id.bytes)
        known = self._known(found)
        if known is not None:
            words = f"it is merge {known.merge_id}, which is {known.state}"
            remedy = _NEXT.get(known.state, "It goes on by itself.")
            return _told(found.line, "ALREADY_KNOWN", known.merge_id, known.request.seeded, words, remedy)
        why = "; ".join(filter(None, (self._reason, request.reason)))
        request = replace(request, requested_by=self._by, reason=as_note(why))
        counts = self._counts(request) if self._dry_run else {}
        if not self._dry_run:
            self._journal.open(merge_id, request, f"rescue/{found.line}")
        note = WORDS if request.seeded else "not seeded: totals move as well"
        if self._dry_run and not counts:
            note += "; not previewed table by table"
        return _told(
            found.line, "WOULD_OPEN" if self._dry_run else "OPENED", merge_id, request.seeded, note, "", counts
        )

    def _known(self, found: ParsedLine) -> Merge | None:
        """Return the open merge that this line names: by its id, or by the same accounts where the line has no id of its own."""
        known = self._journal.get(found.merge_id)
        if known is not None or found.by_event:
            return known
        for twin in self._journal.find("accounts", found.request.sources[0]):
            same = (twin.request.sources, twin.request.target) == (found.request.sources, found.request.target)
            if same and twin.parent is None and twin.state not in _GIVEN_UP and _no_earlier(twin, found.request):
                return twin
        return None

    def _counts(self, request: MergeRequest) -> dict[str, dict[str, int]]:
        """Count the rows that the merge would write, by table; tables without any are left out."""
        if self._previews <= 0:
            return {}
        self._previews -= 1
        found = {}
        for table in TABLES:
            answer = self._preview(request, table)
            counts = {kind: answer[kind] for kind in ("created", "changed", "same", "ambiguous") if answer[kind]}
            if counts:
                found[table] = counts
        return found or {"": {}}


def _no_earlier(twin: Merge, request: MergeRequest) -> bool:
    """Whether a merge was asked for later, or at no known time: then it moved all that an earlier one would move."""
    mine, other = request.dated, twin.request.dated
    return mine is None or other is None or other >= mine


def _told(
    line: int, code: str, merge_id: Any = None, seeded: bool | None = None, note: str = "", remedy: str = "",
    counts: Mapping[str, Mapping[str, int]] | None = None,
) -> RescuedLine:  # fmt: skip
    shown = {table: dict(kinds) for table, kinds in (counts or {}).items() if table}
    return {
        "line": line, "code": code, "merge_id": str(merge_id) if merge_id else None, "seeded": seeded, "note": note,
        "remedy": remedy, "counts": shown,
    }  # fmt: skip
