"""User names, and source accounts deactivated after their merge, on a real Cassandra with the platform's own tables."""

from __future__ import annotations

import uuid

import pytest

from account_merge.cli.main import run_merge
from account_merge.engine.resources import Guard
from account_merge.errors import NeedsAttention
from account_merge.journal.scans import STRANDED, ScanProgress
from account_merge.model import MergeRequest
from account_merge.sunbird.users import encrypted, spellings
from tests.journal_sql import journal_text
from tests.learners import account, enrolment, put, rows
from tests.people import lookups, person, user


@pytest.fixture
def service(shared_service):
    return shared_service


@pytest.fixture
def keyspace(service):
    return service.settings.users_keyspace


def merged(service, sources, target, **options):
    merge_id = service.opening.open_merge(MergeRequest(tuple(sources), target, **options))
    answer = run_merge(service, merge_id, publish=False)
    assert answer["state"] == "completed", answer
    return merge_id


def test_a_user_is_found_by_name_whatever_its_case(session, keyspace, service):
    found = person(session, keyspace, "Asha.K")
    assert service.directory.find("asha.k").account == found
    assert service.directory.find("  ASHA.k ").account == found
    assert service.directory.find("asha") is None
    assert service.directory.find("") is None


def test_roles_make_an_administrator_and_a_deactivated_one_is_not_active(session, keyspace, service):
    names = [account() for _ in range(4)]
    person(session, keyspace, names[0], roles=("ORG_ADMIN",))
    person(session, keyspace, names[1], roles=("PUBLIC", "CONTENT_CREATOR"))
    person(session, keyspace, names[2], old_roles=["SYSTEM_ADMINISTRATION"])
    person(session, keyspace, names[3], roles=("ORG_ADMIN",), status=0, isdeleted=True)
    found = [service.directory.find(name) for name in names]
    assert [(p.admin, p.active) for p in found] == [(True, True), (False, True), (True, True), (True, False)]


@pytest.mark.parametrize("lines", [True, False])
def test_a_name_is_found_where_the_platform_encrypts_it(session, keyspace, with_settings, lines):
    salted = with_settings(user_name_salt="pepper" * 9)
    name = account()
    found = person(session, keyspace, name, stored=encrypted(name, "pepper" * 9, lines))
    assert salted.directory.find(name.upper()).account == found
    assert salted.directory.find(name[:-1]) is None


def test_encryption_is_the_platforms():
    # AES in three rounds: the length alone tells whether salt, padding and base64 are as there.
    value = next(spellings("Learner", "salt"))
    assert value != encrypted("Learner", "salt", True)
    assert len(value.replace("\n", "")) % 4 == 0
    assert len(value) > 76
    assert "\n" in value


def test_without_the_platforms_tables_the_error_says_what_to_set(with_settings):
    with pytest.raises(NeedsAttention, match="ACCOUNT_MERGE_USERS_KEYSPACE") as caught:
        with_settings(users_keyspace="nowhere").directory.find("x")
    assert caught.value.code == "NO_DIRECTORY"


def test_a_merge_that_cannot_deactivate_writes_nothing(session, with_settings):
    service = with_settings(users_keyspace="nowhere")
    source, target = account(), account()
    put(session, service.settings.courses_keyspace, "user_enrolments", enrolment(source, progress=1))
    merge_id = service.opening.open_merge(MergeRequest((source,), target, deactivate_sources=True))
    with pytest.raises(NeedsAttention, match="NO_DIRECTORY"):
        service.admission.admit(merge_id)
    assert rows(session, service.settings.courses_keyspace, "user_enrolments", target) == []


def test_sources_are_deactivated_as_the_user_service_does_it(session, keyspace, service):
    one, two, target = (person(session, keyspace, account(), email=f"{n}@x", phone=n) for n in ("1", "2", "3"))
    before = user(session, keyspace, target)
    put(session, service.settings.courses_keyspace, "user_enrolments", enrolment(one, progress=1))
    merged(service, (one, two), target, deactivate_sources=True)
    for source, n in ((one, "1"), (two, "2")):
        now = user(session, keyspace, source)
        assert (now["status"], now["isdeleted"]) == (0, True)
        assert (now["prevusedemail"], now["prevusedphone"]) == (f"{n}@x", n)
        assert not {"email", "phone", "username"} & set(now)
        assert now["updateddate"].endswith("+0000")
        assert now["firstname"] == "A"
        assert lookups(session, keyspace, source) == []
    assert user(session, keyspace, target) == before
    assert len(lookups(session, keyspace, target)) == 3


def test_nobody_is_deactivated_when_that_was_not_asked_or_the_merge_is_not_done(session, keyspace, service):
    source, target = (person(session, keyspace, account()) for _ in range(2))
    before = user(session, keyspace, source)
    merged(service, (source,), target)
    assert user(session, keyspace, source) == before
    merge_id = service.opening.open_merge(MergeRequest((source,), target, deactivate_sources=True))
    service.admission.admit(merge_id)
    service.merging.merge_table(merge_id, "user_enrolments")
    assert user(session, keyspace, source) == before


def test_an_undo_gives_the_account_and_its_names_back_and_a_redo_takes_them(session, keyspace, service):
    source, target = (person(session, keyspace, account(), email=f"{n}@y", phone=n) for n in ("1", "2"))
    before, led = user(session, keyspace, source), lookups(session, keyspace, source)
    merge_id = merged(service, (source,), target, deactivate_sources=True)
    after = user(session, keyspace, source)
    service.undoing.run(merge_id, publish=False)
    assert user(session, keyspace, source) == before
    assert lookups(session, keyspace, source) == led
    assert list(service.audit.differences(merge_id)) == []
    service.undoing.run(merge_id, "redo", publish=False)
    again = user(session, keyspace, source)
    assert {**again, "updateddate": ""} == {**after, "updateddate": ""}
    assert lookups(session, keyspace, source) == []
    service.undoing.run(merge_id, publish=False)
    assert user(session, keyspace, source) == before
    assert lookups(session, keyspace, source) == led


def test_an_undo_leaves_what_others_took_since_and_says_so(session, keyspace, service):
    source, target = (person(session, keyspace, account(), email=f"{n}@z") for n in ("1", "2"))
    merge_id = merged(service, (source,), target, deactivate_sources=True)
    other = person(session, keyspace, account(), email="1@z")
    service.undoing.run(merge_id, publish=False)
    assert ("email", "1@z") in lookups(session, keyspace, other)
    assert ("email", "1@z") not in lookups(session, keyspace, source)
    assert "email" in service.reader.report(merge_id).head()["note"]


def test_a_worker_that_comes_too_late_deactivates_nothing_after_the_undo(session, keyspace, service):
    source, target = (person(session, keyspace, account(), email=f"{n}@w") for n in ("1", "2"))
    before, led = user(session, keyspace, source), lookups(session, keyspace, source)
    merge_id = merged(service, (source,), target, deactivate_sources=True)
    late = service.journal.need(merge_id)
    service.undoing.run(merge_id, publish=False)
    with pytest.raises(NeedsAttention, match="NOT_RUNNING"):
        service.deactivation.run(late)
    with pytest.raises(NeedsAttention, match="closed meanwhile"):  # asked before, only its writes come now
        service.deactivation.run(late, guard=Guard())
    assert user(session, keyspace, source) == before
    assert lookups(session, keyspace, source) == led


def test_a_repair_deactivates_nobody_again(session, keyspace, service):
    source, target = (person(session, keyspace, account()) for _ in range(2))
    merge_id = merged(service, (source,), target, deactivate_sources=True)
    session.execute(f"UPDATE {keyspace}.user SET status = 1, isdeleted = false WHERE id = %s", [source])
    repair = service.repairing.repair(merge_id, "somebody", "more came")
    answer = run_merge(service, uuid.UUID(repair["merge_id"]), publish=False)
    assert answer["state"] == "completed"
    assert user(session, keyspace, source)["status"] == 1


def test_the_report_shows_the_deactivation_and_its_log_holds_only_what_is_written(session, keyspace, service):
    source, target = (person(session, keyspace, account(), email=f"{n}@v") for n in ("1", "2"))
    merge_id = merged(service, (source,), target, deactivate_sources=True)
    shown = {table["table"]: table["rows"] for table in service.reader.report(merge_id).to_dict()["tables"]}
    (row,) = shown[f"user/{source}"]
    assert row["what"] == "changed"
    assert "firstname" not in row["before"]
    assert row["after"]["status"] == 0


def test_what_a_deactivation_remembers_is_erased_with_the_person(session, keyspace, service):
    source = person(session, keyspace, "Erased-Asha", email="asha@example.org", phone="4711-0815")
    target = person(session, keyspace, "Erased-Main")
    search, another = ScanProgress(service.journal, STRANDED), account()
    search.append(search.last()[0] + 1, {"found": [{"account_id": source}, {"account_id": another}]})
    merge_id = merged(service, [source], target, deactivate_sources=True)
    assert "asha@example.org" in journal_text(service)
    service.erasure.erase(target, "the officer", "request 4713", dry_run=False)
    text = journal_text(service)
    for word in (source, target, "asha@example.org", "4711-0815", "erased-asha"):
        assert word not in text, word
    assert another in [f["account_id"] for entry in search.entries() for f in entry["found"]]
    assert {d.kind for d in service.audit.differences(merge_id)} <= {"expired"}
