"""The torture's model and comparison, and a short torture with a seed of its own; the long one is `make torture`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.torture.model import differences, together

ROOT = Path(__file__).resolve().parents[2]
FAULTS = 12


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


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_short_torture_loses_doubles_and_silences_nothing():
    """Every kind of process is hit; the last line says how it ended, the lines above what was found."""
    command = [sys.executable, "-m", "tests.torture", "--seed", "2", "--faults", str(FAULTS), "--pause", "1.5"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "include"), "TMPDIR": "/tmp"} | dict.fromkeys(
        ("KAFKA_PORT", "CASSANDRA_PORT", "POSTGRES_PORT", "AIRFLOW_PORT"), "0"
    )  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as torture:
        try:
            told, _ = torture.communicate(timeout=1100)
        finally:
            torture.terminate()  # it then stops its stack by itself
    end = rf"torture: seed 2 · {FAULTS} faults · \d+ events · 0 lost · 0 doubled · 0 silent · 0 stuck\n\Z"
    assert torture.returncode == 0, told
    assert re.search(end, told), told
