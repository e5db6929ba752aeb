"""How the journal answers at a million merges: each question's plans, rows and milliseconds.

`server` is what PostgreSQL says of one execution; `ms` is the middle of five calls, with the rows made into merges.

usage: env $(make -s env) PYTHONPATH=include:. python benchmarks/journal_queries.py [CLOSED MERGES]   (default 1000000)

Makes a journal database of its own on the server of `ACCOUNT_MERGE_JOURNAL_URL`, whose user has to be a superuser, and
drops it. 10,000 more merges are open. It fails when a plan reads a large table from end to end, or too many rows of it.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import uuid

from account_merge.journal import Journal
from account_merge.settings import Settings
from tests.journal_queries import Question, asked, faults, fill, found, plans, questions
from tests.keyspaces import drop_journal, journal_beside

TIMES = 5


def measure(journal: Journal, question: Question) -> bool:
    """Print one question's line, and its scans; return whether its plans and answer are what they should be."""
    times, answer = [], None
    for _ in range(TIMES):
        begun = time.perf_counter()
        answer = asked(journal, question)
        times.append((time.perf_counter() - begun) * 1000)
    made = plans(journal, question)
    wrong = faults(question, answer, made)
    tops, read = " + ".join(dict.fromkeys(plan.top for plan in made)), sum(plan.read for plan in made)
    told = f"   WRONG: {', '.join(wrong)}" if wrong else ""
    server, whole = sum(plan.ms for plan in made), statistics.median(times)
    print(f"{question.name:32}{found(answer):>8,}{read:>10,}{server:9.1f}{whole:9.1f}   {tops}{told}", flush=True)
    print(f"{'':71}{', '.join(dict.fromkeys(scan for plan in made for scan in plan.scans))}")
    return not wrong


def main(closed: int) -> int:
    """Print a line for each question; return the exit status."""
    given = os.environ["ACCOUNT_MERGE_JOURNAL_URL"]
    url = journal_beside(given, f"bench_{uuid.uuid4().hex[:8]}")
    journal = Journal(Settings.from_env(dict(os.environ) | {"ACCOUNT_MERGE_JOURNAL_URL": url}))
    try:
        journal.create()
        begun = time.perf_counter()
        fill(journal, closed)
        print(f"{closed:,} closed and 10,000 open merges in {time.perf_counter() - begun:.0f} s\n")
        print(f"{'question':32}{'found':>8}{'read':>10}{'server':>9}{'ms':>9}   plan, and the scans below it")
        good = [measure(journal, question) for question in questions(journal)]
        return 0 if all(good) else 1
    finally:
        journal.close()
        drop_journal(url)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
