"""A process SIGKILLed before and after every request of one merge, then resumed: equal to the uninterrupted run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.learners import aggregate, enrolment, lesson, put, rows

CC, ENR, AGG = "user_content_consumption", "user_enrolments", "user_activity_agg"
GROUPS, MEMBER = "user_group", "group_member"
WORKER = Path(__file__).with_name("worker.py")
ROOT = Path(__file__).resolve().parents[2]


def seed(session, keyspace, label):
    source, target = f"source-{label}", f"target-{label}"
    put(session, keyspace, CC, lesson(source, viewcount=3, completedcount=1, status=2))
    put(session, keyspace, CC, lesson(source, "L2", viewcount=1))
    put(session, keyspace, CC, lesson(target, viewcount=2, status=1))
    put(
        session,
        keyspace,
        ENR,
        enrolment(source, issued_certificates=[{"identifier": "c1"}], contentstatus={"L1": 2}, progress=1),
    )
    put(
        session,
        keyspace,
        ENR,
        enrolment(target, issued_certificates=[{"identifier": "c2"}], contentstatus={"L3": 2}, progress=1),
    )
    put(
        session,
        keyspace,
        AGG,
        aggregate(source, aggregates={"completedCount": 1.0}, agg_details=['{"attempt_id": "a"}']),
    )
    put(session, keyspace, AGG, aggregate(target, aggregates={"score:q": 2.0}, agg_details=['{"attempt_id": "b"}']))
    for user, group, role in ((source, "both", "admin"), (target, "both", "member"), (source, "other", "member")):
        put(
            session, keyspace, MEMBER, {"groupid": f"{group}-{label}", "userid": user, "role": role, "status": "active"}
        )
    put(session, keyspace, GROUPS, {"userid": source, "groupid": {f"both-{label}", f"other-{label}"}})
    put(session, keyspace, GROUPS, {"userid": target, "groupid": {f"both-{label}"}})


def run(environment, *arguments):
    path = os.pathsep.join([str(ROOT / "include"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, str(WORKER), *arguments],
        env={**os.environ, **environment, "PYTHONPATH": path}, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def killed(environment, work, labels):
    """Kill and resume at each label, by two workers; fails when they did not kill themselves."""
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(lambda half: run(environment, work, *half), (labels[::2], labels[1::2]))
    died = [answer["died"] for half in halves for answer in half]
    assert len(died) == len(labels)
    assert died.count(9) >= 0.9 * len(labels), "the worker did not kill itself"


def everything(session, keyspace, label):
    """The target's rows, with the label as the uninterrupted run has it."""
    found = {table: rows(session, keyspace, table, f"target-{label}") for table in (CC, ENR, AGG, GROUPS, MEMBER)}
    return json.loads(json.dumps(found).replace(f"-{label}", "-whole"))


@pytest.mark.timeout(2400)
def test_every_request_of_a_merge_may_be_the_last(session, environment, service):
    keyspace = environment["ACCOUNT_MERGE_COURSES_KEYSPACE"]
    seed(session, keyspace, "whole")
    requests = run(environment, "merge", "count")[0]["requests"]
    assert requests > 20
    wanted = everything(session, keyspace, "whole")
    assert wanted[CC][0]["viewcount"] == 5
    labels = [f"{n}-{when}" for n in range(1, requests + 1) for when in ("before", "after")]
    for label in labels:
        seed(session, keyspace, label)
    killed(environment, "merge", labels)
    for label in labels:
        assert everything(session, keyspace, label) == wanted, f"killed {label.replace('-', ', ')} that request"
        assert service.journal.holder(f"target-{label}") is None


@pytest.mark.timeout(1200)
def test_requests_of_an_undo_may_be_the_last(session, environment, service):
    keyspace = environment["ACCOUNT_MERGE_COURSES_KEYSPACE"]
    seed(session, keyspace, "whole")
    wanted = everything(session, keyspace, "whole")
    requests = run(environment, "undo", "count")[0]["requests"]
    assert requests > 20
    assert everything(session, keyspace, "whole") == wanted
    # Every seventh, in turn before and after: all of them take as long as the merge's.
    labels = [f"{n}-{('before', 'after')[i % 2]}" for i, n in enumerate(range(1, requests + 1, 7))]
    for label in labels:
        seed(session, keyspace, label)
    killed(environment, "undo", labels)
    for label in labels:
        assert everything(session, keyspace, label) == wanted, f"killed {label.replace('-', ', ')} that request"
        assert service.journal.holder(f"target-{label}") is None


def test_two_processes_at_once_end_as_one(session, environment, service):
    keyspace = environment["ACCOUNT_MERGE_COURSES_KEYSPACE"]
    labels = [f"twice-{n}" for n in range(3)]
    for label in labels:
        seed(session, keyspace, label)
    path = os.pathsep.join([str(ROOT / "include"), str(ROOT)])
    code = (
        f"import sys; sys.path.insert(0, {str(WORKER.parent)!r}); import worker; [worker.merge(l) for l in {labels!r}]"
    )
    env = {**os.environ, **environment, "PYTHONPATH": path}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
    for label in labels:
        assert rows(session, keyspace, CC, f"target-{label}")[0]["viewcount"] == 5
        found = session.execute(
            f"SELECT issued_certificates FROM {keyspace}.{ENR} WHERE userid=%s", [f"target-{label}"]
        ).one()
        assert sorted(c["identifier"] for c in found.issued_certificates) == ["c1", "c2"]
