"""Plots as numbers for an SVG: no script draws them, so they show at once and a screen reader can read them."""

from __future__ import annotations

from typing import Any

from account_merge.listings import MergesByDay

#: The states of each colour, in the order in which a plot stacks them.
GROUPS = (
    ("completed", ("completed",)),
    ("open", ("requested", "started", "waiting", "running", "proposed", "redoing", "undoing")),
    ("failed", ("failed", "refused", "needs_attention", "paused")),
    ("undone", ("undone", "abandoned")),
)
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 600, 170, 40, 20, 8


def days(found: MergesByDay) -> dict[str, Any]:
    """Return stacked bars, one for each day."""
    stacks = []
    for day, states in found.days.items():
        parts = {name: sum(states[state] for state in members) for name, members in GROUPS}
        parts["other"] = sum(states.values()) - sum(parts.values())
        stacks.append((day, {name: number for name, number in parts.items() if number}))
    most = max((sum(parts.values()) for _, parts in stacks), default=0)
    height, step = HEIGHT - TOP - BOTTOM, (WIDTH - LEFT) / max(len(stacks), 1)
    bars = []
    for number, (day, parts) in enumerate(stacks):
        y, pieces = float(TOP + height), []
        for name, count in parts.items():
            tall = height * count / most
            y -= tall
            pieces.append({"name": name, "y": round(y, 1), "height": round(tall, 1)})
        bars.append({"day": day, "parts": parts, "total": sum(parts.values()), "pieces": pieces,
                     "x": round(LEFT + number * step + step * 0.15, 1), "width": round(step * 0.7, 1)})  # fmt: skip
    return {"bars": bars, "most": most, "width": WIDTH, "height": HEIGHT, "left": LEFT, "floor": TOP + height,
            "top": TOP, "groups": [name for name, _ in GROUPS]}  # fmt: skip


def reasons(found: MergesByDay, shown: int = 8) -> list[tuple[str, int]]:
    """Return the commonest error codes with their merges."""
    return found.reasons.most_common(shown)
