"""Groups, programs and events of two accounts become one account's: united, never more than either was allowed."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import pytest

from account_merge.cli.checks import run_checks
from account_merge.cli.main import run_merge
from account_merge.model import MergeRequest
from account_merge.service import Service
from account_merge.sunbird.store import Store
from local import cql
from tests.learners import BATCH, COURSE, account, aggregate, enrolment, put, rows

USER_GROUP, MEMBER, PROGRAM, EVENT = "user_group", "group_member", "program_enrollment", "user_entity_enrolments"
AGG, ENR = "user_activity_agg", "user_enrolments"
ROOT = Path(__file__).resolve().parents[4]
OLD, NEW = datetime(2021, 5, 1, 8, 0), datetime(2022, 5, 1, 8, 0)


@pytest.fixture
def keyspace(shared_service):
    return shared_service.settings.courses_keyspace


@pytest.fixture
def scanning(with_settings):
    return with_settings(scan_tables=(MEMBER, PROGRAM))


def join(session, keyspace, user, group, role="member", status="active", **columns):
    """What the group service writes: the membership, and while it is active the group in the account's list."""
    put(session, keyspace, MEMBER, {"groupid": group, "userid": user, "role": role, "status": status, **columns})
    if status == "active":
        listed = session.execute(f"SELECT groupid FROM {keyspace}.{USER_GROUP} WHERE userid = %s", [user]).one()
        put(session, keyspace, USER_GROUP, {"userid": user, "groupid": {*(listed.groupid if listed else ()), group}})


def enrol(session, keyspace, user, program, **columns):
    put(session, keyspace, PROGRAM, {"program_id": program, "user_id": user, **columns})


def groups(session, keyspace, user):
    found = session.execute(f"SELECT groupid FROM {keyspace}.{USER_GROUP} WHERE userid = %s", [user]).one()
    return None if found is None else set(found.groupid or ())


def members(session, keyspace, user):
    return {r.pop("groupid"): r for r in rows(session, keyspace, MEMBER, user)}


def programs(session, keyspace, user):
    return {r.pop("program_id"): r for r in rows(session, keyspace, PROGRAM, user)}


def merge(service, source, target, **options):
    merge_id = service.opening.open_merge(MergeRequest((source,), target, **options))
    answer = run_merge(service, merge_id, publish=False)
    assert answer["state"] == "completed", answer
    return merge_id, answer["counts"]


def notes(report):
    return {table["table"]: table["note"] for table in report.to_dict()["tables"]}


# --- groups -------------------------------------------------------------------------------------------------------
def test_groups_are_united_and_an_admin_stays_one(session, keyspace, shared_service):
    source, target = account(), account()
    join(session, keyspace, source, "g-both", "admin", createdby="c1", createdon=OLD, visited=True)
    join(session, keyspace, target, "g-both", "member", createdby="c2", createdon=NEW, updatedby="u", updatedon=NEW)
    join(session, keyspace, source, "g-source")
    join(session, keyspace, target, "g-target", "admin")
    merge(shared_service, source, target)
    assert groups(session, keyspace, target) == {"g-both", "g-source", "g-target"}
    found = members(session, keyspace, target)
    assert {group: row["role"] for group, row in found.items()} == {
        "g-both": "admin", "g-source": "member", "g-target": "admin",
    }  # fmt: skip
    both = found["g-both"]
    assert (both["createdby"], both["createdon"], both["visited"]) == ("c1", "2021-05-01T08:00:00.000Z", True)
    assert (both["updatedby"], both["updatedon"]) == ("u", "2022-05-01T08:00:00.000Z")
    assert groups(session, keyspace, source) == {"g-both", "g-source"}


def test_a_membership_that_ended_ends_no_active_one_and_makes_nobody_admin(session, keyspace, scanning):
    source, target = account(), account()
    ended = {"removedby": "moderator", "removedon": OLD}
    join(session, keyspace, source, "g-left", "admin", "inactive", **ended)
    join(session, keyspace, target, "g-left", "member")
    join(session, keyspace, source, "g-back", "member")
    join(session, keyspace, target, "g-back", "admin", "inactive", **ended)
    join(session, keyspace, source, "g-gone", "member", "inactive", **ended)
    merge(scanning, source, target)
    found = members(session, keyspace, target)
    assert {g: (r["role"], r["status"]) for g, r in found.items()} == {
        "g-left": ("member", "active"), "g-back": ("member", "active"), "g-gone": ("member", "inactive"),
    }  # fmt: skip
    assert "removedby" not in found["g-left"]
    assert found["g-gone"]["removedby"] == "moderator"
    assert groups(session, keyspace, target) == {"g-left", "g-back"}


def test_both_tables_agree_where_the_source_s_did_not(session, keyspace, shared_service):
    source, target = account(), account()
    put(session, keyspace, USER_GROUP, {"userid": source, "groupid": {"g-left", "g-never", "g-in"}})
    join(session, keyspace, source, "g-in")
    put(session, keyspace, MEMBER, {"groupid": "g-left", "userid": source, "status": "inactive", "role": "member"})
    merge(shared_service, source, target)
    assert groups(session, keyspace, target) == {"g-in"}
    assert {g: r["status"] for g, r in members(session, keyspace, target).items()} == {
        "g-in": "active", "g-left": "inactive",
    }  # fmt: skip


def test_an_account_without_active_groups_gets_no_list(session, keyspace, scanning):
    source, target = account(), account()
    put(session, keyspace, USER_GROUP, {"userid": source, "groupid": {"g-left"}})
    join(session, keyspace, source, "g-left", status="inactive")
    merge(scanning, source, target)
    assert groups(session, keyspace, target) is None
    assert members(session, keyspace, target)["g-left"]["status"] == "inactive"


@pytest.mark.parametrize("order", [(USER_GROUP, MEMBER), (MEMBER, USER_GROUP)])
def test_the_order_of_the_two_tables_is_free(order, session, keyspace, shared_service):
    source, target = account(), account()
    join(session, keyspace, source, "g-1", "admin")
    join(session, keyspace, source, "g-2")
    join(session, keyspace, target, "g-2", status="inactive")
    merge_id = shared_service.opening.open_merge(MergeRequest((source,), target, tables=order))
    shared_service.admission.admit(merge_id)
    for table in (*order, *order):
        shared_service.merging.merge_table(merge_id, table)
    assert groups(session, keyspace, target) == {"g-1", "g-2"}
    assert {g: r["status"] for g, r in members(session, keyspace, target).items()} == dict.fromkeys(
        ("g-1", "g-2"), "active"
    )


def test_inactive_memberships_are_found_with_leave_only_and_named_without(session, keyspace, shared_service, scanning):
    for service, found in ((shared_service, set()), (scanning, {"g-left"})):
        source, target = account(), account()
        join(session, keyspace, source, "g-left", status="inactive")
        merge_id, _ = merge(service, source, target)
        assert set(members(session, keyspace, target)) == found
        assert ("inactive memberships" in notes(service.reader.report(merge_id))[MEMBER]) == (not found)


def test_the_platform_s_group_limits_are_said_and_break_nothing(session, keyspace, shared_service):
    source, target = account(), account()
    for number in range(30):
        join(session, keyspace, source, f"{source}-{number:02}")
    for number in range(21):
        join(session, keyspace, target, f"{target}-{number:02}")
    full = f"{source}-00"
    for _ in range(149):
        put(session, keyspace, MEMBER, {"groupid": full, "userid": account(), "status": "active"})
    previewed = notes(shared_service.previews.preview(MergeRequest((source,), target)))
    merge_id, _ = merge(shared_service, source, target)
    told = notes(shared_service.reader.report(merge_id))
    for table, words in (
        (USER_GROUP, "51 groups of one account: the platform's limit is 50"),
        (MEMBER, f"151 active members of group {full}: the platform's limit is 150"),
    ):
        assert words in previewed[table]
        assert words in told[table]
    assert len(groups(session, keyspace, target)) == 51
    assert len(members(session, keyspace, target)) == 51


# --- programs -----------------------------------------------------------------------------------------------------
@pytest.fixture(params=["scan", "list"])
def reaching(request, with_settings):
    """A core that finds program enrolments."""
    if request.param == "scan":
        return with_settings(scan_tables=(PROGRAM,))
    return with_settings(program_ids=("p-source", "p-both", "p-other"))


def test_programs_are_united_and_consent_is_never_switched_on(session, keyspace, reaching):
    source, target = account(), account()
    early, late = date(2021, 9, 15), date(2022, 3, 1)
    enrol(session, keyspace, source, "p-source", pii_consent_required=True, program_name="A", created_at=early)
    enrol(session, keyspace, source, "p-both", pii_consent_required=True, created_at=early, updated_at=early,
          user_type="teacher", user_locations={"state": "1"})  # fmt: skip
    enrol(session, keyspace, target, "p-both", pii_consent_required=False, created_at=late, updated_at=late,
          user_locations={"state": "2"})  # fmt: skip
    merge_id, _ = merge(reaching, source, target)
    assert programs(session, keyspace, target) == {
        "p-source": {"pii_consent_required": False, "program_name": "A", "created_at": "2021-09-15"},
        "p-both": {
            "pii_consent_required": False, "created_at": "2021-09-15", "updated_at": "2022-03-01",
            "user_type": "teacher", "user_locations": {"state": "2"},
        },
    }  # fmt: skip
    assert programs(session, keyspace, source)["p-source"]["pii_consent_required"] is True
    shown = next(t for t in reaching.reader.report(merge_id).to_dict()["tables"] if t["table"] == PROGRAM)
    assert shown["note"] == ""
    assert "never switched on" in str([row["why"] for row in shown["rows"]])


def test_programs_that_nothing_leads_to_are_named_with_the_remedy(session, keyspace, shared_service):
    source, target = account(), account()
    enrol(session, keyspace, source, "p-source")
    merge_id, _ = merge(shared_service, source, target)
    assert programs(session, keyspace, target) == {}
    note = notes(shared_service.reader.report(merge_id))[PROGRAM]
    assert "not looked for: program enrolments" in note
    for way in (f"an index on {PROGRAM} (user_id)", "ACCOUNT_MERGE_PROGRAM_IDS", "ACCOUNT_MERGE_SCAN_TABLES"):
        assert way in note


# --- events -------------------------------------------------------------------------------------------------------
@pytest.fixture
def with_events(session, keyspace, with_settings):
    """Event subscriptions in a table of another name."""
    table = f"events_{account().replace('-', '')[:12]}"
    for statement in cql.split((ROOT / "tests" / "schema-events.cql").read_text(), keyspace):
        session.execute(statement.replace(EVENT, table), timeout=60)
    yield with_settings(tables={EVENT: table}), table
    session.execute(f"DROP TABLE {keyspace}.{table}", timeout=60)


@pytest.mark.parametrize("on_conflict", ["combine", "skip"])
def test_event_subscriptions_merge_as_enrolments_do(on_conflict, session, keyspace, with_events):
    service, table = with_events
    source, target = account(), account()

    def subscribe(user, event, **columns):
        put(
            session,
            keyspace,
            table,
            {"userid": user, "contentid": event, "contextid": event, "batchid": "b", **columns},
        )

    subscribe(
        source, "e-both", status=2, progress=100, completedon=OLD, active=False, datetime=NEW, lastreadcontentid="x"
    )
    subscribe(target, "e-both", status=1, progress=40, active=True, datetime=OLD, lastreadcontentid="y")
    subscribe(source, "e-source", status=1, issued_certificates=[{"identifier": "c1"}])
    merge(service, source, target, on_conflict=on_conflict, source_rows="deactivate")
    found = {row["contentid"]: row for row in rows(session, keyspace, table, target)}
    assert set(found) == {"e-both", "e-source"}
    assert found["e-source"]["issued_certificates"] == [{"identifier": "c1"}]
    both = found["e-both"]
    assert both["active"] is True
    assert (both["status"], both["progress"], both["lastreadcontentid"]) == (
        (2, 100, "x") if on_conflict == "combine" else (1, 40, "y")
    )
    assert not any(row.get("active") for row in rows(session, keyspace, table, source))


# --- all of them --------------------------------------------------------------------------------------------------
def history(session, keyspace, user):
    return groups(session, keyspace, user), members(session, keyspace, user), programs(session, keyspace, user)


def mixed(session, keyspace):
    source, target = account(), account()
    join(session, keyspace, source, "g-both", "admin")
    join(session, keyspace, target, "g-both", "member")
    join(session, keyspace, source, "g-source")
    join(session, keyspace, source, "g-back", "admin")
    join(session, keyspace, target, "g-back", "member", "inactive")
    enrol(session, keyspace, source, "p-both", program_name="source", user_type="source")
    enrol(session, keyspace, target, "p-both", program_name="target")
    enrol(session, keyspace, source, "p-source")
    return source, target


def test_merging_again_changes_nothing(session, keyspace, scanning):
    source, target = mixed(session, keyspace)
    merge(scanning, source, target)
    once = history(session, keyspace, target)
    _, counts = merge(scanning, source, target)
    assert history(session, keyspace, target) == once
    for table in (USER_GROUP, MEMBER, PROGRAM):
        assert counts[table]["same"] > 0
        assert (counts[table]["created"], counts[table]["changed"]) == (0, 0)


def test_skip_leaves_the_groups_and_programs_that_the_target_had(session, keyspace, scanning):
    source, target = mixed(session, keyspace)
    request = MergeRequest((source,), target, on_conflict="skip")
    planned = {t["table"]: t["rows"] for t in scanning.previews.preview(request).to_dict()["tables"]}
    merge(scanning, source, target, on_conflict="skip")
    listed, found, enrolled = history(session, keyspace, target)
    assert {g: (r["role"], r["status"]) for g, r in found.items()} == {
        "g-both": ("member", "active"), "g-source": ("member", "active"), "g-back": ("member", "inactive"),
    }  # fmt: skip
    assert listed == {"g-both", "g-source"}
    assert enrolled == {"p-both": {"program_name": "target"}, "p-source": {}}
    assert [row["key"] for row in planned[MEMBER]] == [{"groupid": "g-source"}]
    assert [row["key"] for row in planned[PROGRAM]] == [{"program_id": "p-source"}]
    assert planned[USER_GROUP][0]["after"] == {"groupid": ["g-both", "g-source"]}


def test_a_list_that_the_group_service_replaces_meanwhile_is_folded_in(session, keyspace, scanning, monkeypatch):
    """It writes the whole set that it read before: the groups that the merge gave come back, and only those."""
    source, target = mixed(session, keyspace)
    original, done = Store.write, []

    def racing(self, schema, account, *rest, **named):
        original(self, schema, account, *rest, **named)
        if schema.name == USER_GROUP and not done:
            done.append(put(session, keyspace, USER_GROUP, {"userid": target, "groupid": {"g-both", "g-late"}}))

    monkeypatch.setattr(Store, "write", racing)
    merge(scanning, source, target, on_conflict="skip")
    assert done
    assert groups(session, keyspace, target) == {"g-both", "g-late", "g-source"}


def test_skip_leaves_the_units_of_a_course_that_the_target_had(session, keyspace, with_settings):
    service = with_settings(scan_tables=(AGG,))
    source, target = account(), account()
    for user, done in ((source, 3.0), (target, 1.0)):
        put(session, keyspace, ENR, enrolment(user, status=1))
        put(session, keyspace, AGG, aggregate(user, aggregates={"completedCount": done}))
        put(session, keyspace, AGG, aggregate(user, aggregates={"completedCount": done}) | {"activity_id": "unit"})
    other = {"courseid": "do_other", "batchid": BATCH}  # a batch of the same name is another one
    put(session, keyspace, ENR, enrolment(source, status=1) | other)
    put(session, keyspace, AGG, aggregate(source, aggregates={"completedCount": 3.0}) | {"activity_id": "do_other"})
    merge(service, source, target, on_conflict="skip")
    counts = {r["activity_id"]: r["aggregates"]["completedCount"] for r in rows(session, keyspace, AGG, target)}
    assert counts == {"do_other": 3.0, "unit": 1.0, COURSE: 1.0}


def test_a_cluster_without_groups_and_programs_merges_the_rest_and_says_so(session, keyspace, with_settings):
    service = with_settings(groups_keyspace="no_groups_here", programs_keyspace="no_programs_here")
    source, target = account(), account()
    put(session, keyspace, ENR, enrolment(source, status=1))
    join(session, keyspace, source, "g-1")
    merge_id, _ = merge(service, source, target)
    assert len(rows(session, keyspace, ENR, target)) == 1
    assert groups(session, keyspace, target) is None
    told = notes(service.reader.report(merge_id))
    for table in (USER_GROUP, MEMBER, PROGRAM, EVENT):
        assert "no such table" in told[table]


def test_each_kind_has_a_keyspace_of_its_own(session, service, environment, settings):
    name = settings.courses_keyspace
    for role, table in (("groups", USER_GROUP), ("groups", MEMBER), ("programs", PROGRAM)):
        for statement in cql.statements("cassandra", f"{name}_{role}"):
            if "KEYSPACE" in statement or f".{table} (" in statement:
                session.execute(statement, timeout=60)
    own = settings.replace(groups_keyspace=f"{name}_groups", programs_keyspace=f"{name}_programs",
                           scan_tables=(PROGRAM,))  # fmt: skip
    try:
        with Service(own) as apart:
            source, target = account(), account()
            join(session, f"{name}_groups", source, "g-1")
            enrol(session, f"{name}_programs", source, "p-1")
            merge(apart, source, target)
        assert groups(session, f"{name}_groups", target) == {"g-1"}
        assert set(programs(session, f"{name}_programs", target)) == {"p-1"}
        assert groups(session, name, target) is None
    finally:
        for role in ("groups", "programs"):
            session.execute(f"DROP KEYSPACE IF EXISTS {name}_{role}", timeout=60)


def test_the_indexes_that_check_offers_lead_to_every_row(session, settings, service):
    keyspace = settings.courses_keyspace
    offered = next(c.detail for c in run_checks(service) if c.name == "finding rows").split("For an index: ")[1]
    for statement in offered.split("; "):
        session.execute(statement, timeout=60)
    source, target = mixed(session, keyspace)
    join(session, keyspace, source, "g-left", status="inactive")
    put(session, keyspace, AGG, aggregate(source, aggregates={"completedCount": 2.0}) | {"activity_id": "unit"})
    with Service(settings) as indexed:
        merge_id, _ = merge(indexed, source, target)
        assert {t["note"] for t in indexed.reader.report(merge_id).to_dict()["tables"]} == {
            "",
            "this cluster has no such table",
        }
        assert (
            next(c.detail for c in run_checks(indexed) if c.name == "finding rows")
            == "every row of an account is found"
        )
    listed, memberships, enrolled = history(session, keyspace, target)
    assert listed == {"g-both", "g-source", "g-back"}
    assert set(memberships) == {*listed, "g-left"}
    assert set(enrolled) == {"p-both", "p-source"}
    assert [row["activity_id"] for row in rows(session, keyspace, AGG, target)] == ["unit"]


@pytest.mark.parametrize("schema_family", ["spark"], indirect=True)
def test_the_spark_schema_family_merges_alike(session, settings, service):
    keyspace = settings.courses_keyspace
    source, target = mixed(session, keyspace)
    with Service(settings.replace(program_ids=("p-both", "p-source"))) as listed:
        merge(listed, source, target)
    found, memberships, enrolled = history(session, keyspace, target)
    assert found == set(memberships) == {"g-both", "g-source", "g-back"}
    assert memberships["g-both"]["role"] == "admin"
    assert set(enrolled) == {"p-both", "p-source"}


def test_groups_programs_and_events_are_undone_too(session, keyspace, scanning):
    source, target = account(), account()
    join(session, keyspace, source, "g1", role="admin", createdon=OLD)
    join(session, keyspace, target, "g1", createdon=NEW)
    join(session, keyspace, source, "g2")
    join(session, keyspace, target, "g3")
    enrol(session, keyspace, source, "p1", pii_consent_required=True, created_at=date(2021, 5, 1))
    enrol(session, keyspace, target, "p1", created_at=date(2022, 5, 1))
    enrol(session, keyspace, source, "p2", user_type="teacher")

    def everything():
        return [(groups(session, keyspace, u), members(session, keyspace, u), programs(session, keyspace, u))
                for u in (source, target)]  # fmt: skip

    before = everything()
    merge_id, _ = merge(scanning, source, target)
    after = everything()
    assert groups(session, keyspace, target) == {"g1", "g2", "g3"}
    assert scanning.undoing.run(merge_id, publish=False)["state"] == "undone"
    assert everything() == before
    assert scanning.undoing.run(merge_id, "redo", publish=False)["state"] == "completed"
    assert everything() == after
    # Life goes on: a group that the learner joined after the merge stays when it is undone.
    join(session, keyspace, target, "g4")
    scanning.undoing.run(merge_id, publish=False)
    assert groups(session, keyspace, target) == {"g1", "g3", "g4"}
    assert set(members(session, keyspace, target)) == {"g1", "g3", "g4"}
