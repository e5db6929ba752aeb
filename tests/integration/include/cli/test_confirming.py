"""Commands that change learners' rows or erase ask a person at a terminal, and nobody else."""

from __future__ import annotations

import io
import os
import pty
import select
import sys
import time

import pytest

from account_merge.cli.confirming import WILL
from account_merge.cli.main import main, parser, run_merge
from account_merge.model import MergeRequest
from tests.learners import account, lesson, put

CC = "user_content_consumption"
#: Commands that write nothing to learners' tables, ask a second person, or only stop and start merging.
UNASKED = {
    "create-journal", "check", "coverage", "list", "show", "preview", "propose", "pause", "resume", "status", "failed",
    "reject", "stranded", "drain",
}  # fmt: skip


class Terminal:
    """A real terminal, with a person who types `answer`."""

    def __init__(self, answer):
        self.main, follower = pty.openpty()
        self.stdin, self.stdout = os.fdopen(os.dup(follower), "r"), os.fdopen(follower, "w")
        os.write(self.main, answer.encode())

    def text(self):
        self.stdout.flush()
        found, until = b"", time.monotonic() + 10
        while b"[y/N]" not in found and time.monotonic() < until:
            if select.select([self.main], [], [], 0.1)[0]:
                found += os.read(self.main, 65536)
        return found.decode()


@pytest.fixture
def terminal(shared_environment, monkeypatch):
    def call(answer, *words):
        there = Terminal(answer)
        monkeypatch.setattr(sys, "stdin", there.stdin)
        monkeypatch.setattr(sys, "stdout", there.stdout)
        status = main(words)
        return status, there.text() if status == 1 else ""

    for name, value in shared_environment.items():
        monkeypatch.setenv(name, value)
    return call


@pytest.fixture
def merges(shared_service, session):
    """A merge in each state that some command needs, with the accounts' names."""
    service = shared_service
    keyspace = service.settings.courses_keyspace

    def opened(state):
        source, target = account(), account()
        for user in (source, target):
            put(session, keyspace, CC, lesson(user, viewcount=2))
        merge_id = service.opening.open_merge(MergeRequest((source,), target, requested_by="ann"))
        if state in ("completed", "undone"):
            answer = run_merge(service, merge_id, publish=False)
            assert answer["state"] == "completed", answer
        if state == "undone":
            service.undoing.run(merge_id, publish=False)
        if state == "failed":
            service.admission.admit(merge_id)
            service.failures.fail(merge_id, "", "no luck")
        return service.journal.need(merge_id)

    return opened


def words_of(command, merge, tmp_path):
    """How the command is called, and what its question must name."""
    source, target, name = merge.request.sources[0], merge.request.target, str(merge.merge_id)
    lines = tmp_path / "pairs.csv"
    lines.write_text(f"from,to\n{source},{target}\n")
    return {
        "merge": (("--source", source, "--target", target, "--no-publish"), (source, target)),
        "replay": ((name,), ("opened again",)),
        "expire": ((), ("cannot be undone",)),
        "erase": ((source, "--by", "officer", "--reason", "case 1"), ("for good", source)),
        "rescue": ((str(lines), "--go"), (str(lines),)),
    }.get(command, ((name,), (source, target, name)))


STATE = {"undo": "completed", "redo": "undone", "abandon": "failed", "repair": "completed", "replay": "failed",
         "erase": "completed"}  # fmt: skip


def test_each_command_asks_or_has_a_reason_not_to():
    commands = next(a for a in parser()._actions if a.dest == "command").choices
    assert set(commands) == set(WILL) | UNASKED


@pytest.mark.parametrize("command", WILL)
def test_a_person_who_says_no_changes_nothing(shared_service, terminal, merges, tmp_path, command):
    merge = merges(STATE.get(command, "requested"))
    arguments, named = words_of(command, merge, tmp_path)
    before = [shared_service.journal.find("accounts", name) for name in merge.accounts]
    for answer in ("n\n", "\n", "\x04"):
        status, said = terminal(answer, command, *arguments)
        assert status == 1
        assert all(word in said for word in named), said
    assert [shared_service.journal.find("accounts", name) for name in merge.accounts] == before


def test_yes_goes_on_and_so_does_the_option(shared_service, terminal, merges):
    for answer, option in (("y\n", ()), ("", ("--yes",))):
        merge = merges("completed")
        assert terminal(answer, "undo", str(merge.merge_id), "--no-publish", *option)[0] == 0
        assert shared_service.journal.need(merge.merge_id).state == "undone"


def test_what_only_looks_is_not_asked(terminal, merges):
    merge = merges("completed")
    assert terminal("", "undo", str(merge.merge_id), "--dry-run")[0] == 0
    assert terminal("", "erase", merge.request.target, "--dry-run")[0] == 0


def test_a_script_is_not_asked(shared_service, shared_environment, monkeypatch, merges):
    for name, value in shared_environment.items():
        monkeypatch.setenv(name, value)
    merge = merges("completed")
    assert main(["undo", str(merge.merge_id), "--no-publish"], io.StringIO()) == 0
    assert shared_service.journal.need(merge.merge_id).state == "undone"
