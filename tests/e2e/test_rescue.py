"""An operator rescues what the retired job spoiled, and looks for stranded accounts, in a running Airflow."""

from __future__ import annotations

import json
import time

from platform_world import Learner

from tests.learners import put
from tests.old_job import old_job

RESCUE = "account_merge_rescue"


def run(airflow, **conf):
    run_id = airflow.trigger(RESCUE, conf)
    airflow.succeeded(RESCUE, run_id)
    return airflow.xcom(RESCUE, run_id, "rescue")


def test_a_line_of_the_log_is_previewed_then_mended_by_the_next_poll(world, airflow, poll, in_state, core, session):
    source = world.study(Learner(), views=3)
    target = world.study(Learner(course=source.course), views=5)
    old_job(session, core.settings.courses_keyspace, source.account, target.account, int(time.time() * 1e6))
    totals = world.views(target.account, source.course)
    assert set(totals.values()) == {8}
    event = world.event(source.account, target.account)
    conf = {"lines": f"starting\nINFO Kafka producer topic::{json.dumps(event)}", "format": "log", "seeded": "yes"}

    preview = run(airflow, **conf)
    assert preview["codes"] == {"PASSED_OVER": 1, "WOULD_OPEN": 1}
    assert (preview["dry_run"], preview["bad"]) == (True, 0)
    assert source.account not in json.dumps(preview)
    assert core.journal.get(world.merge_id(event)) is None

    assert run(airflow, **conf, dry_run=False, reason="ticket 42")["codes"] == {"PASSED_OVER": 1, "OPENED": 1}
    poll()
    head = in_state(world.merge_id(event), "completed")
    assert (head["seeded"], head["origin"], head["reason"]) == (True, "rescue", "ticket 42")
    assert world.views(target.account, source.course) == totals
    world.publish(event)  # the topic has it again: it is this merge
    poll()
    assert run(airflow, **conf, dry_run=False)["codes"] == {"PASSED_OVER": 1, "ALREADY_KNOWN": 1}


def test_a_stranded_account_is_found(world, airflow, core, session):
    alone, used = world.study(Learner()), world.study(Learner())
    put(session, core.settings.users_keyspace, "user", {"id": alone.account, "status": 0, "isdeleted": True})
    put(session, core.settings.users_keyspace, "user", {"id": used.account, "status": 1, "isdeleted": False})
    answer = run(airflow, what="stranded", restart=True)
    assert answer["done"] is True
    found = {one["account_id"] for one in core.stranded.found()}
    assert alone.account in found
    assert used.account not in found
    assert answer["stranded"] == len(found)
