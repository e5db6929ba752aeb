"""The torture's model and comparison; the torture itself is `make torture`."""

from __future__ import annotations

import pytest

from tests.torture.model import differences, together


def test_the_model_adds_units_and_takes_the_best_of_all_else():
    old = {("views", "c", "l"): 3, ("status", "c", "l"): 1, ("certificate", "c", "x"): 1, ("score", "c", "t"): 7}
    new = {("views", "c", "l"): 2, ("status", "c", "l"): 2, ("score", "c", "t"): 5}
    assert together([old, new]) == {
        ("views", "c", "l"): 5, ("status", "c", "l"): 2, ("certificate", "c", "x"): 1, ("score", "c", "t"): 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fact", "found", "kind"),
    [
        (("views", "c", "l"), 8, "doubled"),
        (("views", "c", "l"), 4, "lost"),
        (("certificate", "c", "x"), 2, "doubled"),
        (("certificate", "c", "x"), 0, "lost"),
        (("group", "g"), 1, "doubled"),
    ],
)
def test_what_is_less_is_lost_and_what_is_more_is_doubled(fact, found, kind):
    wanted = {("views", "c", "l"): 5, ("certificate", "c", "x"): 1}
    assert differences(wanted, wanted, dict(wanted)) == []
    assert [(d.kind, d.fact) for d in differences(wanted, wanted, wanted | {fact: found})] == [(kind, fact)]
