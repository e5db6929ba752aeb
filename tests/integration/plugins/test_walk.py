"""Pages, API and commands agree with the journal's own rows, in every state that a merge can be in."""

from __future__ import annotations

import contextlib
import io
import json
import re
import uuid
from datetime import UTC
from html import unescape

import pytest

from account_merge.cli.main import main, run_merge
from account_merge.errors import InvalidRequest, NeedsAttention
from account_merge.model import MergeRequest
from account_merge.rules import RULES, TABLES
from account_merge.states import CLOSED, STATES, TRANSITIONS
from tests.integration.plugins.test_web import page, signed_in
from tests.journal_sql import sql
from tests.learners import account, enrolment, lesson, put

FIRST = RULES[0].table
#: Besides each state: a merge that was settled since, and one that was undone and stands again.
CASES = (*STATES, "completed and settled", "completed by a redo")


@pytest.fixture(scope="module")
def robot(server):
    with signed_in(server, "robot") as found:
        yield found


class Scene:
    """One merge, brought into a state by what the product itself does."""

    def __init__(self, server, session, case):
        self.server, self.service, self.session, self.case = server, server.service, session, case
        self.source, self.target = account(), account()
        self.request = MergeRequest((self.source,), self.target, requested_by="ann", reason="one person")
        for user in (self.source, self.target):
            put(session, server.keyspace, "user_enrolments", enrolment(user, active=True, progress=1))
        put(session, server.keyspace, "user_content_consumption", lesson(self.source, viewcount=3, status=2))
        self.merge_id = getattr(self, "into_" + case.replace(" ", "_"))()
        self.merge = self.service.journal.need(self.merge_id)
        assert self.merge.state == case.split(" ")[0], self.merge

    def into_requested(self):
        return self.service.opening.open_merge(self.request)

    def into_proposed(self):
        merge_id = uuid.uuid4()
        self.service.proposals.propose(self.request, merge_id)
        return merge_id

    def into_rejected(self):
        merge_id = self.into_proposed()
        self.service.proposals.reject(merge_id, "bob", "two persons")
        return merge_id

    def into_expired(self):
        merge_id = self.into_proposed()
        self.service.proposals.expire(merge_id)
        return merge_id

    def into_refused(self):
        merge_id = uuid.uuid4()
        with contextlib.suppress(InvalidRequest):
            self.service.opening.open_merge(MergeRequest((self.source,), self.source), merge_id)
        return merge_id

    def into_started(self):
        merge_id = self.into_requested()
        assert self.service.opening.start(self.service.journal.need(merge_id))
        return merge_id

    def into_waiting(self):
        other = self.service.opening.open_merge(MergeRequest((account(),), self.target))
        self.service.admission.admit(other)
        merge_id = self.into_requested()
        self.service.admission.admit(merge_id)
        return merge_id

    def into_running(self):
        merge_id = self.into_requested()
        self.service.admission.admit(merge_id)
        self.service.merging.merge_table(merge_id, FIRST)
        return merge_id

    def into_failed(self):
        merge_id = self.into_running()
        self.service.failures.fail(merge_id, "", "no luck")
        return merge_id

    def into_needs_attention(self):
        merge_id = self.into_running()
        error = NeedsAttention("KEEPS_CHANGING", "a row keeps changing", "Look for the writer.")
        self.service.failures.record(self.service.journal.need(merge_id), error, "needs_attention")
        return merge_id

    def into_paused(self):
        merge_id = self.into_running()
        self.service.switch.pause("", "ann", "maintenance")
        self.service.merging.merge_table(merge_id, TABLES[1])
        self.service.switch.resume("", "ann")
        return merge_id

    def into_completed(self):
        merge_id = self.into_requested()
        assert run_merge(self.service, merge_id, publish=False)["state"] == "completed"
        return merge_id

    def into_completed_and_settled(self):
        merge_id = self.into_completed()
        put(self.session, self.server.keyspace, "user_content_consumption", lesson(self.source, "L9", viewcount=1))
        moment = self.service.journal.need(merge_id)
        assert self.service.journal.change(moment, settle_at=moment.closed_at)
        assert self.service.settling.run()["settled"] == 1
        return merge_id

    def into_completed_by_a_redo(self):
        merge_id = self.into_undone()
        self.service.undoing.run(merge_id, "redo", publish=False)
        return merge_id

    def into_abandoned(self):
        merge_id = self.into_failed()
        self.service.undoing.abandon(merge_id, "not wanted")
        return merge_id

    def into_undoing(self):
        merge_id = self.into_completed()
        self.service.undoing.begin(merge_id, "undo", "ann", "two persons")
        return merge_id

    def into_undone(self):
        merge_id = self.into_completed()
        self.service.undoing.run(merge_id, publish=False)
        return merge_id

    def into_redoing(self):
        merge_id = self.into_undone()
        self.service.undoing.begin(merge_id, "redo", "ann", "one person")
        return merge_id

    def into_erased(self):
        merge_id = self.into_completed()
        self.service.erasure.erase(self.source, "officer", "case 1", dry_run=False)
        return merge_id

    # --- what the journal's own rows say --------------------------------------------------------------------------
    def row(self):
        return sql(self.service, "SELECT * FROM merges WHERE merge_id = :id", id=self.merge_id)[0]

    def entries(self, log):
        """(kind, when, counts) of each entry of a log."""
        mine = "WHERE merge_id = :id AND name = :name ORDER BY seq"
        return sql(self.service, f"SELECT kind, created_at, counts FROM log {mine}", id=self.merge_id, name=log)

    def lease(self, name):
        found = sql(self.service, "SELECT held_by FROM accounts WHERE account_id = :name", name=name)
        return str(found[0].held_by) if found and found[0].held_by else None

    def stage(self, log):
        """Return how far a log is, and whether it has rows."""
        there = [entry for entry in self.entries(log) if entry.kind != "closed"]
        if not there:
            return "not reached", False
        rows = any(sum((entry.counts or {}).values()) for entry in there)
        return ("done" if there[-1].kind == "end" else "begun"), rows

    def operations(self):
        if self.case.startswith("undo") or self.case in ("redoing", "completed by a redo"):
            return ["undo-1", *(["redo-2"] if self.case in ("redoing", "completed by a redo") else [])]
        return []


def shown(moment):
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def iso(moment):
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z" if moment else None


def text_of(html):
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def fact(html, name):
    """Return the page's words behind the name of a fact."""
    return text_of(re.search(rf"<dt>{re.escape(name)}</dt>\s*<dd>(.*?)</dd>", html, re.DOTALL)[1]).strip()


def test_the_cases_are_the_states():
    assert {case.split(" ")[0] for case in CASES} == set(TRANSITIONS)


@pytest.fixture(scope="module", params=CASES)
def scene(request, server, session):
    return Scene(server, session, request.param)


def test_the_list_says_what_the_journal_says(robot, scene):
    row = scene.row()
    for query in (str(scene.merge_id), *([scene.source] if scene.case != "erased" else [])):
        html = page(robot, f"/?q={query}&origin=all")
        mine = next(r for r in re.findall(r"<tr>.*?</tr>", html, re.DOTALL) if f'/merges/{scene.merge_id}"' in r)
        assert f"state-{row.state}" in mine
        assert shown(row.created_at) in mine
        assert (row.error_code or "") in mine
    found = robot.get("/api/v1/merges", params={"merge_id": str(scene.merge_id)}).json()["merges"]
    states = robot.get("/api/v1/merges", params={"state": row.state, "limit": 500}).json()["merges"]
    assert [m["merge_id"] for m in found] == [str(scene.merge_id)]
    assert str(scene.merge_id) in {m["merge_id"] for m in states}
    assert found[0]["state_at"] == iso(row.state_at)


def test_the_merge_page_says_what_the_journal_says(robot, scene):
    row, html = scene.row(), page(robot, f"/merges/{scene.merge_id}")
    assert f'data-state="{row.state}"' in html
    assert fact(html, "Asked for").startswith(shown(row.created_at))
    moments = [text_of(m) for m in re.findall(r"<li><time.*?</li>", html, re.DOTALL)]
    assert [m.split()[:2] for m in moments] == sorted(m.split()[:2] for m in moments)
    words = row.state.replace("_", " ")
    ends = [m for m in moments if re.search(rf"(s|h|min) {words}\b|\d {words}\b", m)]
    assert len(ends) == (2 if scene.case == "completed by a redo" else 1)  # each change of a state is told
    assert ends[-1].strip().startswith(shown(row.state_at)), (ends, row.state_at)
    if row.state in CLOSED - {"erased"}:
        assert iso(row.closed_at) == iso(row.state_at)
    tables(scene, html)
    durations(scene, moments)


def tables(scene, html):
    """Each table stands where its log says: with rows, nothing in it, not reached yet."""
    parts = {"": html.split("data-operation=")[0]}
    for part in re.findall(r'data-operation="(.*?)"(.*?)(?=data-operation=|</main>)', html, re.DOTALL):
        parts[part[0]] = part[1]
    assert list(parts) == ["", *scene.operations()]
    for operation, part in parts.items():
        idle = dict(re.findall(r'<p class="small muted" data-idle="(.*?)">(.*?)</p>', part, re.DOTALL))
        going = (scene.merge.state in ("undoing", "redoing") and operation == scene.merge.operation) or (
            not operation and scene.merge.state not in CLOSED | {"undoing", "redoing"}
        )
        never = "Not reached yet" if going else "Never reached"
        for rule in RULES:
            name = f"{operation}/{rule.table}" if operation else rule.table
            said = {words for words, names in idle.items() if f">{rule.table}<" in names}
            if scene.service.tables.of(rule) is None:
                assert said == (set() if operation else {"Left out"}), name
                continue
            stage, rows = scene.stage(name)
            expected = {"done": "Nothing in", "begun": "Begun, without a row so far", "not reached": never}[stage]
            assert said == (set() if rows else {expected}), (scene.case, name, stage, rows, idle)
            assert (f"rows?table={name.replace('/', '%2F')}" in part or f"rows?table={name}" in part) == rows, name


def durations(scene, moments):
    """A table's time is from its first entry to the one that ended it, whatever closed its log later."""
    for rule in RULES:
        there = [entry for entry in scene.entries(rule.table) if entry.kind != "closed"]
        if not there or not scene.stage(rule.table)[1]:
            continue
        (line,) = (m for m in moments if re.search(rf" (wrote|looked at) {rule.table} ", m + " "))
        counts = {name for entry in there for name in entry.counts or {}}
        assert (" wrote " in line) == bool(counts - {"same", "ambiguous"}), (line, counts)
        took = (there[-1].created_at - there[0].created_at).total_seconds()
        words = f"{took * 1000:.0f} ms" if took < 1 else f"{took:.1f} s"
        assert line.strip().endswith(f"in {words}"), (line, took)


def test_the_account_pages_say_what_the_journal_says(robot, scene):
    row = scene.row()
    if row.state == "erased":  # under its name the journal keeps only where its history lives
        assert fact(page(robot, f"/account?id={scene.source}"), "Merged away by").startswith(str(scene.merge_id)[:8])
        return
    done = row.state == "completed"
    html = page(robot, f"/account?id={scene.source}")
    found = robot.get(f"/api/v1/accounts/{scene.source}").json()
    away = fact(html, "Merged away by")
    assert away == (f"{str(scene.merge_id)[:8]} , {shown(row.closed_at)} UTC" if done else "no merge"), scene.case
    assert found["merged_by"] == (str(scene.merge_id) if done else None)
    assert found["survivor"] == (scene.target if done else scene.source)
    for name in (scene.source, *([scene.target] if row.state != "refused" else [])):
        story = robot.get(f"/api/v1/accounts/{name}").json()
        lease = fact(page(robot, f"/account?id={name}"), "Lease")
        assert story["held_by"] == scene.lease(name), (scene.case, name)
        assert lease.startswith(f"held by {story['held_by'][:8]}" if story["held_by"] else "free"), (lease, story)


def test_the_api_says_what_the_journal_says(robot, scene):
    row = scene.row()
    found = robot.get(f"/api/v1/merges/{scene.merge_id}").json()
    merge = found["merge"]
    assert (merge["state"], merge["state_at"]) == (row.state, iso(row.state_at))
    assert (merge["created_at"], merge["closed_at"]) == (iso(row.created_at), iso(row.closed_at))
    assert (merge["error"] or {}).get("code") == row.error_code
    assert [m["at"] for m in found["timeline"] if m["what"] == row.state][-1] == iso(row.state_at)
    assert [run["run_id"] for run in found["runs"]] == [r for r in row.run_ids or () if not r.startswith("cli__")]
    report = robot.get(f"/api/v1/merges/{scene.merge_id}/report").json()
    for table in report["tables"]:
        if table["stage"] != "left out":
            stage, rows = scene.stage(table["table"])
            assert (table["stage"], bool(table["rows_url"])) == (stage, rows), (scene.case, table)
        assert table["operation"] == (table["table"].split("/")[0] if "/" in table["table"] else "")
        assert ("reached" in table["note"]) == (table["stage"] == "not reached"), table
    for name, possible in found["actions"].items():
        answer = robot.post(f"/api/v1/merges/{scene.merge_id}/{name}", json={"dry_run": True})
        assert (answer.status_code == 200) == possible["possible"], (scene.case, name, answer.text)


def test_the_commands_say_what_the_journal_says(robot, scene, server, monkeypatch):
    row = scene.row()
    monkeypatch.setattr("account_merge.cli.main.Service", lambda settings: contextlib.nullcontext(server.service))
    out = io.StringIO()
    assert main(["show", str(scene.merge_id), "--json"], out) == 0
    report = json.loads(out.getvalue())
    facts = {"state": row.state, "state_at": iso(row.state_at), "closed_at": iso(row.closed_at)}
    assert {name: report[name] for name in facts} == facts
    stages = {t["table"]: t["stage"] for t in report["tables"] if t["stage"] != "left out"}
    assert stages == {name: scene.stage(name)[0] for name in stages}
    out = io.StringIO()
    assert main(["show", str(scene.merge_id)], out) == 0
    assert f"merge {scene.merge_id}: {row.state}" in out.getvalue()
    assert ("reached" in out.getvalue()) == ("not reached" in stages.values())
    if scene.case != "erased":
        out = io.StringIO()
        assert main(["list", "--account", scene.source, "--json"], out) == 0
        mine = [m for m in map(json.loads, out.getvalue().splitlines()) if m["merge_id"] == str(scene.merge_id)]
        assert [{name: m[name] for name in facts} for m in mine] == [facts]
