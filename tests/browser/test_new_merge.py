"""A new merge and an upload in a browser: wrong ids need a word, wrong files leave nothing in the box."""

from __future__ import annotations

import uuid

import pytest
from platform_world import Learner
from playwright.sync_api import expect

PAIRS = "from,to\nux-1-é,ux-1\n"


def test_an_id_that_nobody_has_is_merged_only_when_a_person_says_that_it_is_meant(sign_in, world):
    person = sign_in()
    source = world.study(Learner(), lessons=2)
    target = world.study(Learner(course=source.course))
    person.open("/new")
    person.page.get_by_label("Source accounts, one a line").fill(f"{source.account}; {uuid.uuid4()}, {source.account}")
    person.page.get_by_label("Target account").fill(target.account)
    person.page.keyboard.press("Enter")
    person.page.locator("[data-serious=NO_ROWS]").wait_for()
    assert person.page.locator("[data-serious]").count() == 2
    for name in ("Merge…", "Ask a second person"):
        assert person.page.get_by_role("button", name=name).is_disabled()
    person.page.get_by_label("these ids are meant").check()
    assert person.page.get_by_role("button", name="Merge…").is_enabled()
    assert not person.barriers()
    person.page.get_by_label("Source accounts, one a line").fill(source.account)
    person.page.get_by_role("button", name="Preview").click()
    person.page.get_by_text("Nothing is lost.").wait_for()
    assert person.page.get_by_role("button", name="Merge…").is_enabled()
    assert person.page.get_by_label("these ids are meant").is_hidden()


def test_no_table_is_refused_and_offers_no_merge(sign_in, world):
    person = sign_in()
    source = world.study(Learner(), lessons=1)
    target = world.study(Learner(course=source.course))
    person.open(f"/new?source={source.account}&target={target.account}")
    person.page.get_by_text("Nothing is lost.").wait_for()
    person.page.locator("summary", has_text="Choices").click()
    for box in person.page.locator("[name=tables]").all():
        box.uncheck()
    person.page.get_by_role("button", name="Preview").click()
    person.page.get_by_text("no table is chosen").wait_for()
    assert person.page.get_by_role("button", name="Merge…").is_hidden()


@pytest.mark.parametrize(("content", "wanted"), [
    (PAIRS.encode(), PAIRS), (PAIRS.encode("utf-8-sig"), PAIRS), (PAIRS.encode("utf-16"), PAIRS),
    (b"\xfe\xff" + PAIRS.encode("utf-16-be"), PAIRS),
    (PAIRS.encode("latin-1"), ""), (PAIRS.encode("cp1252") + b"\x81", ""), (b"\xff\xfea", ""), (b"a,b\n" * 300_000, ""),
])  # fmt: skip
def test_a_file_that_is_no_text_leaves_nothing_in_the_box(sign_in, tmp_path, content, wanted):
    person = sign_in()
    person.open("/upload")
    chosen, lines = person.page.locator("#file"), person.page.locator("#lines")
    lines.fill("old,lines")
    (tmp_path / "pairs.csv").write_bytes(content)
    chosen.set_input_files(tmp_path / "pairs.csv")
    if wanted:
        expect(lines).to_have_value(wanted)
        return
    person.page.locator("#upload-result .alert").wait_for()
    assert (lines.input_value(), chosen.input_value()) == ("", "")
