"""Whether an end is one that an order gives; and the few ends that no order gives and that are right, with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.interleave.scene import LATE, UNITS

if TYPE_CHECKING:
    from tests.interleave.orders import Pair

End = Mapping[str, Any]

#: (operation, its refusal) -> what it counts as.
SAME = {
    # An erasure redacts a merge first and takes its names later: in between it has expired, afterwards it is erased.
    ("undo", "EXPIRED"): "CANNOT_UNDO",
    ("redo", "EXPIRED"): "CANNOT_REDO",
    # A repair that was opened gives way to the undo of what it mends, as if nobody had asked for it.
    ("repair", "CANNOT_REPAIR"): "",
    # The plan is looked at by who approves and by who admits: the merge is proposed again either way.
    ("approve", "PLAN_CHANGED"): "",
}
#: Refusals of admission stand in the merge's state. Only who began it hears them: one that waited is begun by the poll.
ADMISSION = ("ALREADY_MERGED", "INTO_ITSELF", "ERASED")
#: Such a merge that was abandoned or refused before it was admitted gave way: see CANNOT_REPAIR.
GAVE_WAY = ("/repair", "/settle")


def alike(pair: Pair, end: End, orders: Sequence[End]) -> Iterator[str]:
    """Yield how an end differs from each order's, if it differs from all."""
    if half_way(pair, end):
        yield from _whole(end)
        return
    found, known = _told(pair, end), [_told(pair, order) for order in orders]
    if found in known:
        return
    for how, order in zip(("in order", "turned"), known, strict=True):
        yield f"{how}: " + ", ".join(
            f"{part} {found[part]} is not {order[part]}" for part in found if found[part] != order[part]
        )


def half_way(pair: Pair, end: End) -> bool:
    """Whether a merge, undo or redo was given up half-way: what is written stays, and both accounts show it."""
    if pair.meeting != "same" or "abandon" not in (pair.first, pair.second):
        return False
    return end["merges"]["ab"][0] == "abandoned" or "ab/remains-1" in end["merges"]


def _whole(end: End) -> Iterator[str]:
    """Each account shows its own unit, and none twice."""
    for letter, views in end["views"].items():
        units = {one: views // unit % 10 for one, unit in (UNITS | {f"late {n}": u for n, u in LATE.items()}).items()}
        if units[letter] != 1 or max(units.values()) > 1:
            yield f"account {letter} shows {views}"


def _told(pair: Pair, end: End) -> dict[str, Any]:
    approved = {link for name, link in pair.asked if name == "approve"}
    # A repair that is asked for while another one is under way is answered with that one.
    joined = ("ab/repair-2",) if (pair.first, pair.second, pair.meeting) == ("repair", "repair", "same") else ()
    kept = {name: told for name, told in end["merges"].items() if not _gave_way(name, told) and name not in joined}
    merges = {name: _merge(told, name in approved) for name, told in kept.items()}
    answers = zip((pair.first, pair.second), end["codes"], strict=True)
    codes = ["" if code in ADMISSION else SAME.get((name, code), code) for name, code in answers]
    return {**end, "merges": merges, "codes": codes}


def _merge(told: Sequence[str], approved: bool) -> list[str]:
    """A merge; of a proposal that nothing came of it does not matter who found out.

    A person who approves finds its plan changed. Approved before that, it is refused or proposed again when it is admitted.
    """
    state, effective, survivor, *rest = told
    if (state, effective) == (
        "erased",
        "refused",
    ):  # an erasure that is asked for again also takes what was refused since
        return ["refused", "refused", "", "", ""]
    if state == "proposed" or (approved and state == "refused"):
        return ["proposed", "proposed", "", *rest]
    return [state, effective, survivor, *rest]


def _gave_way(name: str, told: Sequence[str]) -> bool:
    _, effective, survivor, *_ = told  # it may have been erased since
    return name.rpartition("-")[0].endswith(GAVE_WAY) and effective in ("abandoned", "refused") and not survivor
