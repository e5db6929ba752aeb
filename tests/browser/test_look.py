"""Every page in both themes and at two widths: nothing serious for axe-core, nothing beyond the edge, nothing executed."""

from __future__ import annotations

import uuid
from urllib.parse import quote

import pytest
from platform_world import Learner

HOSTILE = "<script>document.title='owned'</script>\"'&{{7*7}}"


@pytest.fixture(scope="module")
def pages(world, core, merged):
    """Name -> path of every page, with a merge of hostile names to show."""
    from account_merge.model import MergeRequest

    mark = uuid.uuid4().hex
    source = world.study(Learner(account=HOSTILE + mark, course=f"<b onclick=alert(1)>{mark}</b>"))
    target = world.study(Learner(course=source.course), views=5)
    reason = "<img src=x onerror=\"document.title='owned'\"> \u202egnp.exe"
    merge_id = merged(source.account, target.account, requested_by="<i>admin</i>", reason=reason)
    held = core.opening.open_merge(MergeRequest((str(uuid.uuid4()),), str(uuid.uuid4()), origin="ui", reason=reason))
    core.journal.move(core.journal.need(held), "started", attempt=1)
    core.failures.fail(held, "by-hand", RuntimeError("no luck"))
    name = quote(source.account, safe="")
    return {
        "list": "/", "none": f"/?q={quote(HOSTILE)}", "merge": f"/merges/{merge_id}", "failed-merge": f"/merges/{held}",
        "account": f"/account?id={name}", "new": f"/new?source={name}&target={target.account}",
        "rules": "/rules", "coverage": "/coverage", "failed": "/failed", "upload": "/upload", "no-merge": f"/merges/{uuid.uuid4()}",
    }  # fmt: skip


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 390)])
def test_every_page_looks_right_and_keeps_nobody_out(sign_in, pages, theme, width):
    person = sign_in(width=width, theme=theme)
    wrong = {}
    for name, path in pages.items():
        answer = person.open(path)
        assert answer.status == (404 if name == "no-merge" else 200), name
        if name == "merge":
            person.page.locator("details.table summary").first.click()
            person.page.locator("table.diff tbody").first.wait_for()
        if name == "new":
            person.page.locator("#preview table.terms").first.wait_for()
        person.picture(name)
        found = person.barriers() + ([f"{person.overflow()} px too wide"] if person.overflow() > 0 else [])
        found += [p for p in person.problems if "404" not in p]
        wrong |= {name: found} if found else {}
        assert person.page.title() != "owned"
        assert person.page.locator("b[onclick], img, script:not([src])").count() == 0
        assert person.page.evaluate("document.documentElement.className").split()[0] == theme
    assert not wrong


@pytest.mark.parametrize(("theme", "width"), [("dark", 1440), ("light", 390)])
def test_the_other_theme_at_the_other_width(sign_in, pages, theme, width):
    person = sign_in(width=width, theme=theme)
    wrong = {}
    for name in ("list", "merge", "new", "failed"):
        person.open(pages[name])
        if name == "new":
            person.page.locator("#preview table.terms").first.wait_for()
        person.picture(name)
        found = person.barriers() + ([f"{person.overflow()} px too wide"] if person.overflow() > 0 else [])
        wrong |= {name: found} if found else {}
    assert not wrong
