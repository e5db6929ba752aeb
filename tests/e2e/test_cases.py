"""The given black-box cases through Kafka and Airflow: every event on the topic at once, each target right in the end."""

from __future__ import annotations

from airflow_client import wait_for

from tests.given import CASES, differences, load


def test_given_cases_come_out_right(world, poll, core, session):
    keyspace = core.settings.courses_keyspace
    for case in CASES["cases"]:
        load(session, keyspace, case)
    world.publish(*(raw.encode() for case in CASES["cases"] for raw in case["events"]))
    users = {user for case in CASES["cases"] for user in case["users"].values()}

    def all_done():
        poll()
        mine = {m.merge_id: m for user in users for m in core.journal.find("accounts", user)}
        done = all(merge.state in ("completed", "refused") for merge in mine.values())
        return len(mine) >= len(CASES["cases"]) and done

    wait_for(all_done, 600, "the merges of the given cases", pause=5)
    wrong = {case["name"]: found for case in CASES["cases"] if (found := differences(session, keyspace, case))}
    assert wrong == {}
