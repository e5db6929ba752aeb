"""What people do: sign in, find a merge, read its diff, preview, merge, undo, upload; and what a viewer may not."""

from __future__ import annotations

import json
import re
import uuid
from datetime import timedelta

import pytest
from airflow_client import AirflowClient, wait_for
from platform_world import Learner

from account_merge.model import MergeRequest

APP = "/account-merge"


def in_state(person, state, seconds=180):
    """The page itself follows the merge."""
    person.page.locator(f".head .state-{state}").wait_for(timeout=seconds * 1000)


def test_the_list_opens_from_airflows_navigation_in_its_theme(sign_in):
    person = sign_in(theme="dark")
    person.page.goto(person.url + "/")
    person.page.get_by_role("link", name="Account merges").first.click()
    inside = person.page.frame_locator("iframe[title='Account merges']")
    inside.get_by_role("heading", name="Account merges").wait_for()
    assert inside.locator("html").get_attribute("class").split()[0] == "dark"
    person.picture("in-airflow")
    person.page.evaluate("document.documentElement.className = 'light'")
    inside.locator("html.light").wait_for()


def test_the_trigger_form_is_the_products(sign_in):
    person = sign_in()
    person.page.goto(f"{person.url}/dags/account_merge/")
    person.page.locator("[data-testid=trigger-dag-button]").first.click()
    person.page.get_by_text("Source accounts").first.wait_for()
    person.page.get_by_text("The account that survives.").first.wait_for()
    person.picture("trigger-form")


def test_a_merge_is_previewed_made_read_and_undone_by_keyboard(sign_in, world):
    person = sign_in()
    source = world.study(Learner(), lessons=3, views=2)
    target = world.study(Learner(course=source.course), lessons=2, views=5)
    before = world.history(target.account, source.course)

    person.open("/new")
    person.page.get_by_label("Source accounts, one a line").fill(source.account)
    person.page.get_by_label("Target account").fill(target.account)
    person.page.keyboard.press("Enter")
    preview = person.page.locator("#preview")
    preview.get_by_text("Nothing is lost.").wait_for()
    views = preview.locator("tr", has=person.page.get_by_role("rowheader", name="views", exact=True))
    assert views.locator("td").all_inner_texts() == ["6", "10", "16", "target gains 6"]
    assert world.history(target.account, source.course) == before

    person.page.get_by_label("Reason").fill("one person, ticket 4711")
    person.page.get_by_role("button", name="Merge…").focus()
    person.page.keyboard.press("Enter")
    dialog = person.page.get_by_role("dialog")
    dialog.get_by_text("does not give a login back").wait_for()
    person.picture("confirm-merge")
    dialog.get_by_role("button", name="Merge", exact=True).click()
    person.page.wait_for_url(re.compile("/merges/"))
    in_state(person, "completed")
    assert set(world.views(target.account, source.course).values()) == {7, 2}
    person.page.get_by_text("one person, ticket 4711").first.wait_for()

    table = person.page.locator("details.table", has_text="user_content_consumption").first
    table.locator("summary").focus()
    person.page.keyboard.press("Enter")
    row = table.locator("tbody", has_text="do_lesson_000000")
    row.wait_for()
    cells = row.locator("tr", has=person.page.get_by_role("cell", name="viewcount", exact=True)).locator("td")
    assert [text.strip() for text in cells.all_inner_texts()[1:4]] == ["5", "2", "7"]
    person.picture("diff")
    table.get_by_label("Key contains").fill("do_lesson_000002")
    person.page.keyboard.press("Enter")
    table.get_by_text("1 row, that is all").wait_for()

    page, run = person.page.url, person.page.locator("a[data-top]").first.inner_text()
    person.open(f"/runs/account_merge/{run}")  # the tab of its DAG run
    person.page.get_by_text("its own page").click()
    person.page.wait_for_url(page)

    person.page.get_by_role("button", name="Undo").click()
    dialog = person.page.get_by_role("dialog")
    dialog.get_by_text("It does not give the login back").wait_for()
    dialog.get_by_text("viewcount: 7 → 5").first.wait_for()
    dialog.get_by_label("Reason").fill("two persons")
    dialog.get_by_role("button", name="Undo").click()
    in_state(person, "undone")
    assert world.history(target.account, source.course) == before
    person.page.get_by_text("two persons").first.wait_for()
    assert not person.problems


def test_a_person_chooses_whose_row_stands_and_the_preview_follows(sign_in, world):
    person = sign_in()
    source = world.study(Learner(), lessons=3, views=2)
    target = world.study(Learner(course=source.course), lessons=2, views=5)
    person.open(f"/new?source={source.account}&target={target.account}")
    preview = person.page.locator("#preview")
    preview.get_by_text("Nothing is lost.").wait_for()

    def table():
        return preview.locator("details[data-table=user_content_consumption]")

    def after(lesson):
        row = table().locator("tbody", has_text=lesson)
        cells = row.locator("tr", has=person.page.get_by_role("cell", name="viewcount", exact=True)).locator("td")
        return cells.all_inner_texts()[3].strip()

    table().locator("summary").click()
    assert after("do_lesson_000000") == "7"
    row = table().locator("tbody", has_text="do_lesson_000001")
    row.get_by_label("Whose row stands").select_option("take the source's")
    table().get_by_text("source chosen").wait_for()
    assert after("do_lesson_000001") == "2"
    assert table().get_attribute("open") is not None
    focused = person.page.evaluate("document.activeElement.dataset.choose")
    assert "do_lesson_000001" in focused
    table().get_by_label("Where both accounts have a row here").select_option("keep the target's")
    table().get_by_text("As the target has it, by choice.").first.wait_for()
    preview.get_by_text("less than the accounts have together.").wait_for()
    assert after("do_lesson_000001") == "2"
    person.picture("choices")
    person.page.get_by_role("button", name="Merge…").click()
    dialog = person.page.get_by_role("dialog")
    dialog.get_by_text("Your choices decide 1 table and 1 row").wait_for()
    dialog.get_by_role("button", name="Merge", exact=True).click()
    person.page.wait_for_url(re.compile("/merges/"))
    in_state(person, "completed")
    assert world.views(target.account, source.course) == {"do_lesson_000000": 5, "do_lesson_000001": 2}
    assert not person.barriers()
    assert not person.problems


def test_merges_are_found_by_account_id_state_and_date(sign_in, world, merged):
    person = sign_in()
    source = world.study(Learner())
    target = Learner(course=source.course)
    merge_id = str(merged(source.account, target.account, reason="found again"))
    for query in (source.account, target.account, merge_id):
        person.open("/")
        person.page.get_by_label("Account or merge id").fill(query)
        person.page.get_by_role("button", name="Search").click()
        person.page.locator("tbody tr").first.wait_for()
        assert person.page.locator("tbody tr").count() == 1
        assert person.page.locator(f"a[title='{merge_id}']").is_visible()
    person.open(f"/?q={source.account}&state=failed")
    person.page.get_by_text("No merge fits.").wait_for()
    person.open(f"/?q={source.account}&until=2025-01-01")
    person.page.get_by_text("No merge fits.").wait_for()
    person.open(f"/?q={source.account}")
    person.page.locator(f"a[title='{source.account}']").first.click()
    person.page.get_by_text("Where its record lives now").wait_for()
    assert person.page.locator("dd").first.inner_text() == target.account


def test_a_diff_of_many_rows_comes_by_pages(sign_in, world, merged):
    person = sign_in()
    source = world.study(Learner(), lessons=1500)
    merge_id = merged(source.account, world.study(Learner(course=source.course), lessons=3).account)
    person.open(f"/merges/{merge_id}")
    assert person.page.locator("table.diff tbody").count() == 0
    table = person.page.locator("details.table", has_text="user_content_consumption").first
    table.get_by_text("1,497 created").wait_for()
    table.locator("summary").click()
    table.get_by_text("100 rows so far").wait_for()
    table.get_by_role("button", name="More rows").click()
    table.get_by_text("200 rows so far").wait_for()
    table.get_by_label("What happened").select_option("changed")
    table.get_by_role("button", name="Show").click()
    table.get_by_text("3 rows, that is all").wait_for()


def test_a_list_of_pairs_is_checked_then_opened(sign_in, world, core):
    person = sign_in()
    source, target = world.study(Learner()), Learner()
    person.open("/upload")
    text = f"from,to\n{source.account},{target.account}\n{source.account},{source.account}\n"
    person.page.locator("#file").set_input_files({"name": "p.csv", "mimeType": "text/csv", "buffer": text.encode()})
    wait_for(lambda: source.account in person.page.locator("#lines").input_value(), 10, "the file in the form", 0.1)
    person.page.get_by_role("button", name="Preview").click()
    person.page.get_by_text("What would become of each line").wait_for()
    person.picture("upload-preview")
    assert not core.journal.find("accounts", source.account)
    person.page.get_by_role("button", name="Open these merges").click()
    person.page.get_by_role("dialog").get_by_role("button", name="Open the merges").click()
    person.page.get_by_text("What became of each line").wait_for()
    (opened,) = core.journal.find("accounts", source.account)
    person.page.locator(f"a[href$='/merges/{opened.merge_id}']").wait_for()


def test_a_viewer_reads_and_is_refused_the_rest(sign_in, world, merged):
    source = world.study(Learner())
    merge_id = merged(source.account, Learner(course=source.course).account)
    person = sign_in("viewer")
    person.open(f"/merges/{merge_id}")
    undo = person.page.get_by_role("button", name="Undo")
    assert undo.get_attribute("aria-disabled") == "true"
    undo.click(force=True)
    person.page.get_by_text("You may not start runs of the DAG account_merge_undo").last.wait_for()
    person.open("/new")
    assert person.page.get_by_role("button", name="Preview").is_disabled()
    person.picture("viewer-new")
    refused = person.page.evaluate(
        """async ([url, body]) => {
          const token = document.querySelector('meta[name="csrf-token"]').content;
          const headers = {"content-type": "application/json", "x-csrf-token": token, "idempotency-key": "k"};
          const answer = await fetch(url, {method: "POST", headers, body});
          return [answer.status, (await answer.json()).code];
        }""",
        [f"{APP}/api/v1/merges", json.dumps({"source_accounts": ["a"], "target_account": "b"})],
    )
    assert refused == [403, "NOT_ALLOWED"]


def test_the_tab_of_a_dag_run_in_airflow_shows_its_merge(sign_in, world, core):
    person = sign_in(theme="dark")
    source = world.study(Learner(), lessons=2)
    person.open(f"/new?source={source.account}&target={world.user(Learner(course=source.course)).account}")
    person.page.get_by_text("Nothing is lost.").wait_for()
    person.page.get_by_role("button", name="Merge…").click()
    person.page.get_by_role("dialog").get_by_role("button", name="Merge", exact=True).click()
    person.page.wait_for_url(re.compile("/merges/"))
    in_state(person, "completed")
    merge_id = person.page.url.rpartition("/")[2]
    run = person.page.locator("a[data-top]").first
    address = run.get_attribute("href")
    person.page.goto(person.url + address if address.startswith("/") else address)
    person.page.get_by_role("link", name="Account merge", exact=True).click()
    inside = person.page.frame_locator("iframe[title='Account merge']")
    inside.get_by_role("heading", name=f"Merge {merge_id}").wait_for()
    inside.locator(".head .state-completed").wait_for()
    inside.get_by_role("heading", name="user_content_consumption", exact=True).click()
    inside.get_by_text("2 rows, that is all").wait_for()
    person.picture("tab-of-a-run")


def refused(world, core, raw):
    """A refused event, its failed event out."""
    world.publish(raw)

    def look():
        found = [m for m in core.journal.find("state", "refused") if m.request.raw == raw]
        return found[0] if found and found[0].failed_event == "sent" else None

    return wait_for(look, 240, "the refused event")


def test_a_failed_merge_is_retried_from_its_page(sign_in, world, core):
    source = world.study(Learner())
    target = Learner(course=source.course)
    merge_id = core.opening.open_merge(
        MergeRequest((source.account,), target.account, origin="ui", requested_by="admin")
    )
    core.journal.move(core.journal.need(merge_id), "started", attempt=1)
    core.failures.fail(merge_id, f"merge__{merge_id}__1", RuntimeError("no luck"))
    wait_for(lambda: core.journal.need(merge_id).failed_event == "sent", 240, "its failed event")
    person = sign_in()
    person.open(f"/merges/{merge_id}")
    person.picture("failed-merge-before-retry")
    person.page.get_by_role("button", name="Retry").focus()
    person.page.keyboard.press("Enter")
    dialog = person.page.get_by_role("dialog")
    dialog.get_by_text("It is possible now").wait_for()
    dialog.get_by_label("Reason").fill("it was bad luck")
    person.page.keyboard.press("Enter")
    in_state(person, "completed", 300)
    assert world.views(target.account, source.course) == world.views(source.account, source.course)
    assert not person.problems


def test_a_refused_event_is_corrected_by_keyboard_checked_and_replayed(sign_in, world, core):
    source = world.study(Learner())
    target = Learner(course=source.course)
    right = world.event(source.account, target.account)
    wrong = right | {"edata": right["edata"] | {"fromAccountId": " "}}
    merge = refused(world, core, json.dumps(wrong).encode())
    person = sign_in()
    since = (merge.state_at - timedelta(minutes=1)).isoformat(timespec="seconds")  # other tests refuse hundreds
    person.open(f"/failed?states=refused&since={since}Z")
    person.page.get_by_role("button", name=f"Correct the event of merge {merge.merge_id}").focus()
    person.page.keyboard.press("Enter")
    dialog = person.page.get_by_role("dialog")
    area = dialog.get_by_label("The event as it should be")
    area.wait_for()
    assert area.input_value() == json.dumps(wrong)
    assert area.evaluate("element => element === document.activeElement")
    replay = dialog.get_by_role("button", name="Replay corrected")

    def check(text):
        area.fill(text)
        assert replay.is_disabled()
        person.page.keyboard.press("Tab")
        person.page.keyboard.press("Enter")

    check('{"edata": ')
    dialog.get_by_text("This is not JSON.").wait_for()
    assert area.get_attribute("aria-invalid") == "true"
    check("[]")
    dialog.get_by_text("An event is a JSON object.").wait_for()
    check(json.dumps(wrong))
    dialog.locator(".effect .alert", has_text=merge.error_code).wait_for()
    dialog.locator(".effect", has_text=merge.remedy).wait_for()
    assert replay.is_disabled()
    assert not person.barriers()
    person.picture("still-wrong")
    check(json.dumps(right, indent=1))
    dialog.get_by_text(f"opened as merge {world.merge_id(right)}").wait_for()
    person.picture("corrected")
    dialog.get_by_label("Reason").fill("the producer is mended")
    person.page.keyboard.press("Enter")
    person.page.wait_for_url(re.compile(f"/merges/{world.merge_id(right)}"), timeout=180_000)
    in_state(person, "completed", 300)
    assert world.views(target.account, source.course) == world.views(source.account, source.course)
    assert core.journal.need(merge.merge_id).replayed_as == world.merge_id(right)
    person.open("/failed")
    assert person.page.locator(f"[data-correct='{merge.merge_id}']").count() == 0
    assert not person.problems


def test_a_failed_merge_is_replayed_from_the_list(sign_in, world, core):
    source = world.study(Learner())
    target = Learner(course=source.course)
    merge_id = core.opening.open_merge(MergeRequest((source.account,), target.account, origin="ui"))
    core.journal.move(core.journal.need(merge_id), "started", attempt=1)
    core.failures.fail(merge_id, f"merge__{merge_id}__1", RuntimeError("no luck"))
    wait_for(lambda: core.journal.need(merge_id).failed_event == "sent", 240, "its failed event")
    person = sign_in()
    person.open(f"/failed?account={source.account}")
    person.page.get_by_label(f"Choose merge {merge_id}").check()
    person.page.get_by_role("button", name="Replay…").click()
    dialog = person.page.get_by_role("dialog")
    dialog.get_by_text("1 would be opened again, 0 left alone.").wait_for()
    dialog.get_by_label("Reason").fill("it was bad luck")
    dialog.get_by_role("button", name="Replay", exact=True).click()
    person.page.get_by_text("Nothing fits.").wait_for(timeout=180_000)
    wait_for(lambda: core.journal.need(merge_id).state == "completed", 300, "the merge")


@pytest.mark.long
def test_the_pages_are_used_while_ten_merges_run(sign_in, world, core):
    person = sign_in()
    pairs = []
    for _ in range(10):
        source = world.study(Learner(), lessons=20)
        pairs.append((source.account, Learner(course=source.course).account))
    person.open("/")
    token = person.page.locator("meta[name=csrf-token]").get_attribute("content")
    ids = []
    for source, target in pairs:
        answer = person.context.request.post(
            f"{person.url}{APP}/api/v1/merges", data={"source_accounts": [source], "target_account": target},
            headers={"x-csrf-token": token, "idempotency-key": uuid.uuid4().hex, "origin": person.url,
                     "sec-fetch-site": "same-origin"},
        )  # fmt: skip
        assert answer.status == 202, answer.text()
        ids.append(uuid.UUID(answer.json()["merge_id"]))

    def all_done():
        for path in ("/", f"/merges/{ids[0]}", "/failed"):
            assert person.open(path).status == 200
        return all(core.journal.need(i).state == "completed" for i in ids)

    wait_for(all_done, 400, "ten completed merges", pause=2)
    assert not person.problems


def test_a_second_person_approves_on_airflows_own_page(
    sign_in, chromium, where, airflow_stack, pictures, world, core, signed_in
):
    from people import Person
    from web import as_role, log_in

    from local import keys

    person = sign_in()
    source = world.study(Learner(), views=2)
    target = world.study(Learner(course=source.course), views=5)
    person.open("/new")
    person.page.get_by_label("Source accounts, one a line").fill(source.account)
    person.page.get_by_label("Target account").fill(target.account)
    person.page.keyboard.press("Enter")
    person.page.locator("#preview").get_by_text("Nothing is lost.").wait_for()
    person.page.get_by_label("Reason").fill("one person, ticket 4712")
    person.page.get_by_role("button", name="Ask a second person").click()
    person.page.wait_for_url(re.compile("/merges/"))
    person.page.get_by_text("Waits for approval by another person than admin.").wait_for()
    assert not person.barriers()
    person.picture("proposed")
    merge_id = uuid.UUID(person.page.url.rpartition("/")[2])

    token = log_in(where["AIRFLOW_URL"], where["AIRFLOW_USERNAME"], where["AIRFLOW_PASSWORD"])
    token = as_role(token, "op", keys.load(airflow_stack.config.home)["jwt_secret"])
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    context.add_cookies([{"name": "_token", "value": token, "url": where["AIRFLOW_URL"]}])
    second = Person(context, where["AIRFLOW_URL"], pictures, "light-1440")
    second.open(f"/merges/{merge_id}")
    client = AirflowClient(where["AIRFLOW_URL"], where["AIRFLOW_USERNAME"], where["AIRFLOW_PASSWORD"])
    dag, run = "account_merge_approve", core.journal.need(merge_id).approval_run
    wait_for(lambda: client.states(dag, run).get("approve") == "awaiting_input", 120, "question")
    client.close()
    second.page.wait_for_timeout(10_000)  # Airflow asks again when the process that asked has not ended yet
    second.page.get_by_role("link", name="Answer in Airflow").click()
    second.page.get_by_text("one person, ticket 4712").first.wait_for()
    second.picture("required-action")
    second.page.get_by_role("button", name="Approve", exact=True).click()
    wait_for(lambda: core.journal.need(merge_id).state != "proposed", 120, "the approval")
    assert core.journal.need(merge_id).approved_by == "op"
    context.close()
    in_state(person, "completed")  # the poll merges, the page of who asked follows
    person.page.get_by_text("Approved by", exact=True).wait_for()
