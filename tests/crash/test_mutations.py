"""The matrix can see: each fault that is put into the code is found by a small part of it, which is green without."""

from __future__ import annotations

import pytest

from tests.crash.matrix import Job
from tests.crash.mutations import MUTATIONS

pytestmark = pytest.mark.timeout(2400)


def part(name, kinds):
    """The interruptions that must find the fault."""
    mutation = MUTATIONS[name]
    action, meanwhile = ("stop", mutation.meanwhile) if mutation.meanwhile else ("kill", "nothing")
    numbers = [(n, kind) for n, kind in enumerate(kinds, 1) if kind.startswith(mutation.kinds)][-2:]
    return [
        Job(mutation.work, action, n, when, kind, meanwhile) for n, kind in numbers for when in mutation.whens
    ]  # fmt: skip


def test_every_part_is_green_without_a_fault(interrupting):
    jobs = {job for name in MUTATIONS for job in part(name, interrupting.kinds[MUTATIONS[name].work])}
    assert len(jobs) > len(MUTATIONS)
    assert interrupting.run(sorted(jobs, key=str), again="green") == []


@pytest.mark.parametrize("name", MUTATIONS)
def test_is_found(name, interrupting):
    jobs = part(name, interrupting.kinds_of(MUTATIONS[name].work, name))
    assert jobs
    found = interrupting.run(jobs, name)
    assert any(MUTATIONS[name].shows in words for words in found), (
        "\n".join(found) or "nothing that the matrix would see"
    )
